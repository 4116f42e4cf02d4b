package authapp

import (
	"fmt"
	"net"
	"net/mail"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/session"
	"github.com/hpcsera/hpcsera/internal/settings"
)

// Mail is the setting how notices reach people. Its zero value is that nobody
// gets any.
type Mail struct {
	Server       string `json:"server"` // HOST:PORT
	From         string `json:"from"`
	User         string `json:"user"`
	PasswordFile string `json:"password_file"`
}

// Institution is the setting of an OpenID provider through which people sign
// in; [session.Institution] says what its fields mean.
type Institution struct {
	Name             string            `json:"name"`
	Title            string            `json:"title"`
	Issuer           string            `json:"issuer"`
	ClientID         string            `json:"client_id"`
	ClientSecretFile string            `json:"client_secret_file"`
	AuthMethod       string            `json:"auth_method,omitempty"`
	Scopes           []string          `json:"scopes,omitempty"`
	SkipConsent      bool              `json:"skip_consent,omitempty"`
	UserClaim        string            `json:"user_claim,omitempty"`
	Domain           string            `json:"domain,omitempty"`
	ProjectsClaim    string            `json:"projects_claim,omitempty"`
	Projects         map[string]string `json:"projects,omitempty"`
	RequireClaim     string            `json:"require_claim,omitempty"`
	Require          []string          `json:"require,omitempty"`
}

// SecretFiles returns the paths that mail and institutions name, so that a
// program can say where relative ones begin. Some may be "".
func SecretFiles(m *Mail, institutions []Institution) []*string {
	list := []*string{&m.PasswordFile}
	for i := range institutions {
		list = append(list, &institutions[i].ClientSecretFile)
	}
	return list
}

// Check refuses what cannot send mails. at is the setting's name.
func (m Mail) Check(at string) error {
	refuse := func(field, format string, args ...any) *hpcsera.Error {
		return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(at + field)
	}
	if m.Server == "" && m.From == "" {
		if m.User != "" || m.PasswordFile != "" {
			return refuse("", "user and password_file are nothing without server and from.")
		}
		return nil
	}
	if m.Server == "" || m.From == "" {
		return refuse("", "server and from are needed both.")
	}
	if host, port, err := net.SplitHostPort(m.Server); err != nil || host == "" || port == "" {
		return refuse(".server", "%q is not HOST:PORT.", m.Server).Hint("Write it like smtp.example.org:587.")
	}
	if _, err := mail.ParseAddress(m.From); err != nil {
		return refuse(".from", "%q is no mail address.", m.From)
	}
	if (m.User == "") != (m.PasswordFile == "") {
		return refuse("", "user and password_file are needed both.")
	}
	return nil
}

// Mailer returns what sends mails, nil for nobody. at is the setting's name.
func (m Mail) Mailer(at string) (session.Mailer, error) {
	if m.Server == "" {
		return nil, nil //nolint:nilnil // no mails are a choice
	}
	out := &session.SMTP{Server: m.Server, From: m.From, User: m.User, Now: time.Now}
	if m.PasswordFile != "" {
		var err error
		if out.Password, err = settings.Private(m.PasswordFile); err != nil {
			return nil, fmt.Errorf("%s.password_file: %w", at, err)
		}
	}
	return out, nil
}

// Institutions reads the secrets of institutions. at is the setting's name.
func Institutions(at string, all []Institution) ([]session.Institution, error) {
	var list []session.Institution
	for _, i := range all {
		secret := ""
		if i.ClientSecretFile != "" {
			var err error
			if secret, err = settings.Private(i.ClientSecretFile); err != nil {
				return nil, fmt.Errorf("%s.%s.client_secret_file: %w", at, i.Name, err)
			}
		}
		list = append(list, session.Institution{
			Name: i.Name, Title: i.Title, Issuer: i.Issuer, ClientID: i.ClientID, ClientSecret: secret, AuthMethod: i.AuthMethod,
			Scopes: i.Scopes, SkipConsent: i.SkipConsent,
			UserClaim: i.UserClaim, Domain: i.Domain, ProjectsClaim: i.ProjectsClaim, Projects: i.Projects,
			RequireClaim: i.RequireClaim, Require: i.Require,
		})
	}
	return list, nil
}
