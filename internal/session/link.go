package session

import (
	"context"
	"crypto/rand"
	"errors"
	"net/mail"
	"net/url"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// FirstLink returns a one-time link that makes the first operator's account,
// or "" where there is an operator. Programs print it when they start. The
// link of an earlier start stops working.
func (s *Service) FirstLink(ctx context.Context) (address string, err error) {
	code, key := newCode()
	err = s.cfg.Records.Write(ctx, func(tx records.Tx) error {
		found := false
		err := each(tx, accountKind, "", func(_ string, a *account) error {
			found = found || a.Operator && a.usable()
			return nil
		})
		if err != nil || found {
			code = ""
			return err
		}
		if err := dropLinks(tx, firstOwner); err != nil {
			return err
		}
		err = tx.Insert(linkKind, key, link{Operator: true}, records.Options{Owner: firstOwner, Ends: s.cfg.Now().Add(linkLife)})
		return errors.Join(err, tx.Note(records.AuditLine{At: s.cfg.Now(), Actor: "operator", Action: "link.make", Detail: "for the first operator"}))
	})
	if err != nil || code == "" {
		return "", err
	}
	return s.linkAddress(code), nil
}

// firstOwner owns the link for the first operator; it is no account's name.
const firstOwner = "(first operator)"

// Invite makes a one-time link by which somebody makes the account name, or,
// where it exists, gives it a new password and new factors. by is who asks:
// an operator's name, or "operator" for one at the server's console; the
// caller has checked it. A link made before for the same account stops
// working.
func (s *Service) Invite(ctx context.Context, by, name, address string, operator bool) (link string, err error) {
	if err := checkPerson(name, address); err != nil {
		return "", err
	}
	code, key := newCode()
	err = s.cfg.Records.Write(ctx, func(tx records.Tx) error { return s.invite(tx, key, by, name, address, operator) })
	if err != nil {
		return "", err
	}
	return s.linkAddress(code), nil
}

func (s *Service) invite(tx records.Tx, key, by, name, address string, operator bool) error {
	l := link{User: name, Mail: address, Operator: operator}
	a, err := getAccount(tx, name)
	if ignore(err, records.ErrNotFound) != nil {
		return err
	}
	if a != nil {
		if a.Institution != "" {
			return hpcsera.Errorf(hpcsera.Conflict, "%s signs in through %s.", name, a.Institution).At("name").
				Hint("The account needs no link.")
		}
		l.Renew, l.Operator = true, a.Operator
		if l.Mail == "" {
			l.Mail = a.Mail
		}
	}
	if err := dropLinks(tx, name); err != nil {
		return err
	}
	return errors.Join(
		tx.Insert(linkKind, key, l, records.Options{Owner: name, Ends: s.cfg.Now().Add(linkLife)}),
		tx.Note(records.AuditLine{At: s.cfg.Now(), Actor: by, User: name, Action: "link.make", Detail: purpose(l)}))
}

func purpose(l link) string {
	switch {
	case l.Renew:
		return "for new factors"
	case l.Operator:
		return "for a new operator"
	}
	return "for a new account"
}

func dropLinks(tx records.Tx, owner string) error {
	return tx.List(linkKind, owner, func(key string, _ []byte) error { return tx.Delete(linkKind, key) })
}

// newCode makes the code of a link: 160 bits that a person can type.
func newCode() (code, key string) {
	b := make([]byte, 20)
	rand.Read(b)
	code = codeEncoding.EncodeToString(b)
	return code, keyOf(code)
}

func linkKey(code string) string { return keyOf(strings.ToLower(strings.TrimSpace(code))) }

func (s *Service) linkAddress(code string) string {
	return s.cfg.URL + "/setup?code=" + url.QueryEscape(code)
}

// checkPerson refuses names and addresses that cannot be.
func checkPerson(name, address string) error {
	if !hpcsera.ValidName(name) {
		return hpcsera.Errorf(hpcsera.InvalidField, "The name cannot be used.").At("name").
			Hint("Use lower-case letters, digits and hyphens, at most 63.")
	}
	if address == "" {
		return nil
	}
	if parsed, err := mail.ParseAddress(address); err != nil || parsed.Address != address || len(address) > 254 {
		return hpcsera.Errorf(hpcsera.InvalidField, "This is no mail address.").At("mail").Hint("Write it as in NAME@HOST.")
	}
	return nil
}
