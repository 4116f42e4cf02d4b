package consent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// A list holds for as long as lists may, and is signed anew long before that,
// so that agents that were away for some hours find a current one.
const (
	statusLife  = approval.MaxStatusAge
	statusRenew = 6 * time.Hour
)

// current is the status list as it is served.
type current struct {
	Number int64     `json:"number"`
	Issued time.Time `json:"issued"`
	Text   string    `json:"text"`
}

// newStatus signs the next list within the transaction that changes it: a
// withdrawal and the list that tells it become true together, and the number
// rises with each, over restarts and processes.
func (s *Service) newStatus(tx records.Tx) error {
	if s.cfg.InProcess {
		return nil
	}
	old, _, err := get[current](tx, kindStatus, "current")
	if err != nil {
		return err
	}
	l := approval.StatusList{Number: old.Number + 1, Approvals: []string{}, Keys: []string{}}
	if l.Issuer, err = approval.Deployment(s.cfg.Issuer); err != nil {
		return err
	}
	// Only what is withdrawn and could still run is named: the end does the
	// rest. Keys stay for ever, since a server chooses which approval it shows.
	for kind, into := range map[string]*[]string{kindWithdrawn: &l.Approvals, kindDeadKey: &l.Keys} {
		err := tx.List(kind, "", func(key string, _ []byte) error {
			*into = append(*into, key)
			return nil
		})
		if err != nil {
			return err
		}
		slices.Sort(*into)
	}
	// A clock that was set back must not make a list older than the one before.
	l.Issued = s.cfg.Now().UTC().Truncate(time.Second)
	if l.Issued.Before(old.Issued) {
		l.Issued = old.Issued
	}
	l.NextUpdate = l.Issued.Add(statusLife)
	text, err := approval.SignStatus(s.status, l)
	if err != nil {
		return fmt.Errorf("sign status list %d: %w", l.Number, err)
	}
	return tx.Put(kindStatus, "current", current{l.Number, l.Issued, text}, records.Options{})
}

// renewStatus signs the list anew in time, whether or not anything changed, and
// at once when the key that signs is another one.
func (s *Service) renewStatus(ctx context.Context) error {
	return s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		now, found, err := get[current](tx, kindStatus, "current")
		if err != nil {
			return err
		}
		if found && s.cfg.Now().Sub(now.Issued) < statusRenew {
			if _, err := approval.VerifyStatus(ed25519.PublicKey(s.AuthKey()), now.Text); err == nil {
				return nil
			}
		}
		return s.newStatus(tx)
	})
}

// serveStatus waits for another list than the one that the deployment has, so
// that a withdrawal reaches agents in seconds.
func (s *Service) serveStatus(w http.ResponseWriter, r *http.Request, d Deployment) error {
	if s.cfg.InProcess {
		return notFound("an Auth app inside the API server signs no status list: agents would believe the server about itself.").
			Hint("Run hpcsera-auth on its own, or withdraw with hpcsera-agent trust withdraw.")
	}
	var now current
	has := r.URL.Query().Get("has")
	err := s.poll(r, d.Name, func(ctx context.Context) (bool, error) {
		err := s.cfg.Store.Read(ctx, func(rd records.Reader) error { return rd.Get(kindStatus, "current", &now) })
		return has != decision.ListSum([]byte(now.Text)), err
	})
	if err != nil {
		return fmt.Errorf("read the status list: %w", err)
	}
	w.Header().Set("Content-Type", "application/jose")
	_, _ = w.Write([]byte(now.Text)) // whoever asked is gone if this fails
	return nil
}

// fileApproval takes a deployment's word that a user signed code elsewhere. It
// is worth nothing but a place to withdraw it, and never the version before:
// whose key signed it cannot be known here. Nor is its end to be believed: a
// statement made up under the id of a true one may be told first.
func (s *Service) fileApproval(w http.ResponseWriter, r *http.Request, d Deployment) error {
	var f decision.Filed
	if err := read(w, r, 4<<20, &f); err != nil {
		return err
	}
	st, err := approval.Parse(f.Statement)
	if err != nil {
		return err
	}
	signature, err := approval.Verify(f.Statement, f.Signature)
	if err != nil {
		return err
	}
	if st.Deployment != d.URL {
		return hpcsera.Errorf(hpcsera.ApprovalRefused, "the statement is for %s; %s is %s.", st.Deployment, d.Name, d.URL).At("deployment")
	}
	doc := Signed{
		ID: st.ID, User: st.User, Deployment: d.Name, Project: st.Project, Name: st.Name, Code: st.Code, Key: signature.Fingerprint,
		Elsewhere: true, Signed: st.NotBefore, NotAfter: st.NotAfter,
	}
	err = s.cfg.Store.Write(r.Context(), func(tx records.Tx) error {
		switch err := tx.Insert(kindSigned, st.ID, doc, records.Options{Owner: st.User, Ends: doc.gone(s.cfg.Now())}); {
		case errors.Is(err, records.ErrExists):
			return nil // told before, or signed here
		case err != nil:
			return err
		}
		return s.note(tx, d.Name, "code.filed", st.User, st.ID, st.Name+" "+st.Code+" by "+signature.Fingerprint)
	})
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// Withdraw takes back consent that user gave here, or elsewhere.
func (s *Service) Withdraw(ctx context.Context, user, id string) error {
	err := s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		signed, found, err := get[Signed](tx, kindSigned, id)
		if err != nil {
			return err
		}
		if !found || signed.User != user {
			return notFound("There is no such approval of yours.")
		}
		return s.withdraw(tx, user, id, "")
	})
	s.wake.all()
	return err
}

// gone is when no agent runs the approval any more, by a clock that may be a
// day behind. Of what was signed elsewhere only the longest validity is sure:
// a withdrawal that ended with the end that the server told would come undone.
func (d Signed) gone(now time.Time) time.Time {
	end := d.NotAfter
	if longest := now.Add(approval.MaxValidity); d.Elsewhere && end.Before(longest) {
		end = longest
	}
	return end.Add(24 * time.Hour)
}

// withdraw names an approval in the next list until it is gone; another one may
// have replaced it.
func (s *Service) withdraw(tx records.Tx, user, id, replacedBy string) error {
	signed, found, err := get[Signed](tx, kindSigned, id)
	if err != nil || !found || signed.Withdrawn != nil {
		return err
	}
	now := s.cfg.Now().UTC()
	signed.Withdrawn, signed.ReplacedBy = &now, replacedBy
	detail := ""
	if replacedBy != "" {
		detail = "replaced by " + replacedBy
	}
	gone := signed.gone(now)
	if err := tx.Put(kindSigned, id, signed, records.Options{Owner: user, Ends: gone.Add(keepSignedFor)}); err != nil {
		return err
	}
	if err := tx.Put(kindWithdrawn, id, named{id}, records.Options{Owner: user, Ends: gone}); err != nil {
		return err
	}
	if err := s.note(tx, user, "code.withdraw", user, id, detail); err != nil {
		return err
	}
	return s.newStatus(tx)
}
