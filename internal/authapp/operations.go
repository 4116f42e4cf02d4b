package authapp

import (
	"context"
	"net/http"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/backup"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/operator"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/session"
)

// The operator's operations, each with its request and answer.
const (
	OpInvite           = "user-invite"       // NewUser: Invitation
	OpSetUser          = "user-set"          // Switch: User
	OpUsers            = "users"             // None: []User
	OpAddDeployment    = "deployment-add"    // consent.NewDeployment: Deployment
	OpRemoveDeployment = "deployment-remove" // Named: Named
	OpDeployments      = "deployments"       // None: []Deployment
	OpAudit            = "audit"             // AuditPage: []records.AuditLine
	OpVerifyAudit      = "audit-verify"      // VerifyAudit: AuditHead
	OpBackup           = "backup"            // backup.Request: backup.Made
)

// The requests and answers.
type (
	// None is a request that says nothing.
	None struct{}
	// Named names something.
	Named struct {
		Name string `json:"name"`
	}
	// NewUser is somebody to be invited. New refuses one who has an account.
	NewUser struct {
		Name     string `json:"name"`
		Mail     string `json:"mail,omitempty"`
		Operator bool   `json:"operator,omitempty"`
		New      bool   `json:"new,omitempty"`
	}
	// Invitation is a link that works once; whoever opens it is that user.
	Invitation struct {
		Name string `json:"name"`
		Link string `json:"link"`
	}
	// Switch disables or enables a user.
	Switch struct {
		Name     string `json:"name"`
		Disabled bool   `json:"disabled"`
	}
	// User is an account.
	User struct {
		Name        string    `json:"name"`
		Mail        string    `json:"mail,omitempty"`
		Operator    bool      `json:"operator"`
		Disabled    bool      `json:"disabled"`
		Institution string    `json:"institution,omitempty"`
		Projects    []string  `json:"projects,omitempty"` // by the institution's word
		Created     time.Time `json:"created"`
	}
	// Deployment is a registered API server.
	Deployment struct {
		Name     string    `json:"name"`
		URL      string    `json:"url"`
		Keys     []string  `json:"keys"` // their thumbprints
		Disabled bool      `json:"disabled"`
		Created  time.Time `json:"created"`
	}
	// AuditPage asks for lines of the audit log.
	AuditPage struct {
		After int64 `json:"after"`
		Limit int   `json:"limit"`
	}
	// VerifyAudit asks for a check of the audit log against heads that were
	// kept: as NUMBER:HASH, as the signature behind it, or as the whole line.
	VerifyAudit struct {
		Heads []string `json:"heads,omitempty"`
	}
	// AuditHead is the end of the audit log.
	AuditHead struct {
		Head   string `json:"head"`
		Signed int    `json:"signed"` // how many of the heads that were kept had our signature
	}
)

// Operations serves the operator's socket.
func (a *App) Operations() http.Handler {
	return operator.Handler(a.log, map[string]operator.Operation{
		OpInvite: operator.On(a.Invite), OpSetUser: operator.On(a.SetUser), OpUsers: operator.On(a.Users),
		OpAddDeployment: operator.On(a.AddDeployment), OpRemoveDeployment: operator.On(a.RemoveDeployment), OpDeployments: operator.On(a.Deployments),
		OpAudit: operator.On(a.Audit), OpVerifyAudit: operator.On(a.Verify),
		OpBackup: operator.On(a.Backup),
	})
}

// AuditOperations are those about the audit log, for the socket of a server
// that has the Auth app inside. Only they: its people are invited on the pages.
func (a *App) AuditOperations() http.Handler {
	return operator.Handler(a.log, map[string]operator.Operation{OpAudit: operator.On(a.Audit), OpVerifyAudit: operator.On(a.Verify)})
}

// console is who the audit log names for what is done over the socket.
const console = "operator"

// Invite makes a one-time link for somebody.
func (a *App) Invite(ctx context.Context, n NewUser) (Invitation, error) {
	if n.New {
		if _, err := a.Session.User(ctx, n.Name); err == nil {
			return Invitation{}, hpcsera.Errorf(hpcsera.Conflict, "there is a user %s.", n.Name).At("name").
				Hint("hpcsera-auth user invite %s gives them a new password and new factors.", n.Name)
		} else if hpcsera.CodeOf(err) != hpcsera.NotFound {
			return Invitation{}, err
		}
	}
	link, err := a.Session.Invite(ctx, console, n.Name, n.Mail, n.Operator)
	return Invitation{n.Name, link}, err
}

// SetUser disables or enables a user.
func (a *App) SetUser(ctx context.Context, s Switch) (User, error) {
	if err := a.Session.Disable(ctx, console, s.Name, s.Disabled); err != nil {
		return User{}, err
	}
	p, err := a.Session.User(ctx, s.Name)
	return user(p), err
}

// Backup copies the database into a folder.
func (a *App) Backup(ctx context.Context, r backup.Request) (backup.Made, error) {
	made, err := backup.Make(ctx, r, a.databases)
	if err != nil {
		return made, err
	}
	// Copies leave with hashes of all secrets, so the log says when.
	return made, a.store.Write(ctx, func(tx records.Tx) error {
		return tx.Note(records.AuditLine{At: a.now(), Actor: console, Action: "backup.make", About: r.Folder})
	})
}

func user(p session.Person) User {
	return User{p.Name, p.Mail, p.Operator, p.Disabled, p.Institution, p.Projects, p.Created}
}

// Users lists the accounts.
func (a *App) Users(ctx context.Context, _ None) ([]User, error) {
	people, err := a.Session.People(ctx)
	list := []User{}
	for _, p := range people {
		list = append(list, user(p))
	}
	return list, err
}

func shown(d consent.Deployment) Deployment {
	out := Deployment{Name: d.Name, URL: d.URL, Keys: []string{}, Disabled: d.Disabled, Created: d.Created}
	for _, k := range d.Keys {
		out.Keys = append(out.Keys, k.KeyID)
	}
	return out
}

// AddDeployment registers an API server, or another key of one.
func (a *App) AddDeployment(ctx context.Context, n consent.NewDeployment) (Deployment, error) {
	d, err := a.Consent.AddDeployment(ctx, n)
	return shown(d), err
}

// RemoveDeployment takes a registration back.
func (a *App) RemoveDeployment(ctx context.Context, n Named) (Named, error) {
	return n, a.Consent.RemoveDeployment(ctx, n.Name)
}

// Deployments lists the registered API servers.
func (a *App) Deployments(ctx context.Context, _ None) ([]Deployment, error) {
	all, err := a.Consent.Deployments(ctx)
	list := []Deployment{}
	for _, d := range all {
		list = append(list, shown(d))
	}
	return list, err
}

// maxAuditPage bounds one answer.
const maxAuditPage = 10_000

// Audit returns lines of the audit log.
func (a *App) Audit(ctx context.Context, p AuditPage) ([]records.AuditLine, error) {
	lines := []records.AuditLine{}
	err := a.store.Read(ctx, func(r records.Reader) error {
		found, err := r.Audit(p.After, min(max(p.Limit, 1), maxAuditPage))
		lines = append(lines[:0], found...)
		return err
	})
	return lines, err
}

// Verify checks that the audit log was not changed.
func (a *App) Verify(ctx context.Context, v VerifyAudit) (AuditHead, error) {
	var known []records.Head
	count := 0
	for _, text := range v.Heads {
		text, signed, err := a.signed.Read(text)
		if err != nil {
			return AuditHead{}, err
		}
		head, err := records.ParseHead(text)
		if err != nil {
			return AuditHead{}, err
		}
		if signed {
			count++
		}
		known = append(known, head)
	}
	var head records.Head
	err := a.store.Read(ctx, func(r records.Reader) (err error) {
		head, err = records.Verify(r, known...)
		return err
	})
	return AuditHead{head.String(), count}, err
}
