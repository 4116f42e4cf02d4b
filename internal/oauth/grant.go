package oauth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// grants are the documents of grants, by the id of their request. The owner is
// user/NAME where the user is known, client/NAME where a code is typed.
const grants store.Kind = "oauth_grant"

// state is where a grant is. It only goes forward.
type state string

// pending, then granted or denied; granted, then used.
const (
	pending state = "pending"
	decided state = "granted"
	denied  state = "denied"
	used    state = "used"
)

// flow is how a grant was asked for, and so how it is collected.
type flow string

// The flows.
const (
	deviceFlow flow = "device"
	cibaFlow   flow = "ciba"
)

// grant is what was asked, and later what was decided.
type grant struct {
	Flow     flow             `json:"flow"`
	Client   string           `json:"client"`  // who collects
	Request  decision.Request `json:"request"` // what was asked
	ByScope  bool             `json:"by_scope,omitempty"`
	Replace  bool             `json:"replace,omitempty"`
	For      string           `json:"for,omitempty"` // the user that an agent's settings name; "" for anybody
	Interval time.Duration    `json:"interval"`      // between two polls
	Polled   time.Time        `json:"polled,omitzero"`
	Notify   string           `json:"notify,omitempty"` // the client's own token for its notification endpoint

	State   state         `json:"state"`
	User    string        `json:"user,omitempty"` // who decided
	Roles   hpcsera.Roles `json:"roles,omitempty"`
	Until   time.Time     `json:"until,omitzero"`
	Decided time.Time     `json:"decided,omitzero"`
}

// The times of grants.
const (
	deviceLife  = 10 * time.Minute // to type a code and decide
	cibaLife    = 10 * time.Minute
	maxCIBALife = time.Hour
	interval    = 5 * time.Second // between two polls, and what it grows by (RFC 8628 section 3.5)
	collect     = 2 * time.Minute // to collect what was decided at the last moment
	remembered  = time.Hour       // to tell clients that come too late that they do
)

// ends is when the grant can no longer be collected.
func (g grant) ends() time.Time {
	if last := g.Decided.Add(collect); g.State == decided && last.After(g.Request.Expires) {
		return last
	}
	return g.Request.Expires
}

// document is where the grant stands.
func (g grant) document() store.Document {
	owner := "client/" + g.Client
	if g.Request.User != "" {
		owner = "user/" + g.Request.User
	}
	return store.Document{Kind: grants, Key: g.Request.ID, Owner: owner, Ends: g.Request.Expires.Add(remembered)}
}

// reference returns what a client holds of a grant while it waits. Nobody can
// make one who has not the server's key, also not from the database.
func (s *Service) reference(f flow, id string) string {
	return strings.TrimPrefix(id, "rq_") + "." + base64.RawURLEncoding.EncodeToString(s.sum(f, id))
}

func (s *Service) sum(f flow, id string) []byte {
	m := hmac.New(sha256.New, s.mac)
	m.Write([]byte(string(f) + "\n" + id))
	return m.Sum(nil)
}

// referred returns the id of the grant that a reference is for.
func (s *Service) referred(f flow, text string) (id string, ok bool) {
	id, sum, _ := strings.Cut(text, ".")
	id = "rq_" + id
	got, err := base64.RawURLEncoding.Strict().DecodeString(sum)
	return id, err == nil && hpcsera.ValidID("rq", id) && hmac.Equal(got, s.sum(f, id))
}

// The limits of open requests. Beyond them a client has to wait: nobody is to
// say yes because of the hundredth question, and nobody to fill the database.
const (
	maxAsked   = 5    // of one client to one user
	maxPerUser = 20   // of all clients to one user
	maxTyped   = 1000 // of one client, with codes to type
)

// errTooMany is the error of a grant that would be one too many.
var errTooMany = errors.New("too many open requests")

// open files a grant and asks the user. When the Auth app cannot be asked
// nothing is left behind.
func (s *Service) open(ctx context.Context, g grant, actor string) error {
	g.State = pending
	line := s.line(g, "grant.ask", actor)
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if err := s.room(tx, g); err != nil {
			return err
		}
		if err := tx.InsertDocument(g.document(), g); err != nil {
			return err
		}
		return tx.Note(line)
	})
	if errors.Is(err, errTooMany) {
		return s.notAsked(g, actor, hpcsera.QuotaExceeded, "too many open requests")
	}
	if err != nil {
		return store.Failed("file grant "+g.Request.ID, err)
	}
	if err := s.cfg.Inbox.Post(ctx, g.Request); err != nil {
		s.withdraw(context.WithoutCancel(ctx), g)
		// The Auth app has bounds of its own, and users mute clients there.
		switch code := hpcsera.CodeOf(err); code {
		case hpcsera.QuotaExceeded, hpcsera.Forbidden:
			return s.notAsked(g, actor, code, "by the Auth app")
		}
		return err
	}
	return nil
}

// notAsked notes that the user is not asked, and returns what the client is
// told.
func (s *Service) notAsked(g grant, actor string, code hpcsera.Code, why string) error {
	s.refused(g, actor, code, why)
	if code == hpcsera.Forbidden {
		return fault{403, accessDenied, "the user does not want to be asked by this client"}
	}
	return fault{429, slowDown, "too many requests wait for a decision"}
}

// room refuses a grant beyond the limits.
func (s *Service) room(tx store.Tx, g grant) error {
	asked, all := 0, 0
	err := tx.Documents(grants, g.document().Owner, s.now(), func(_ string, doc []byte) error {
		var other grant
		if err := json.Unmarshal(doc, &other); err != nil {
			return err
		}
		if other.State == pending && s.now().Before(other.Request.Expires) {
			all++
			if other.Client == g.Client {
				asked++
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case g.Request.User == "" && all >= maxTyped, g.Request.User != "" && (asked >= maxAsked || all >= maxPerUser):
		return errTooMany
	}
	return nil
}

// withdraw forgets a grant of which the user may never have heard. The answer
// of the Auth app may have been lost, so it is told as well.
func (s *Service) withdraw(ctx context.Context, g grant) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error { return tx.DeleteDocument(grants, g.Request.ID) })
	if err = errors.Join(err, s.cfg.Inbox.Cancel(ctx, g.Request.ID)); err != nil {
		s.cfg.Log.Warn("a request was not taken back; it ends by itself", "request", g.Request.ID, "err", err)
	}
}

// line is what the audit log says about a grant.
func (s *Service) line(g grant, action, actor string) hpcsera.AuditLine {
	r := g.Request
	line := hpcsera.AuditLine{At: s.now(), Actor: actor, Action: action, User: r.User, Project: r.Project, About: r.ID}
	switch r.Kind {
	case decision.Token:
		line.Detail = "a token for " + r.Client + ": " + r.Roles.String()
	case decision.Session:
		line.Detail = "a session on " + r.Host + ", key " + r.Thumbprint
	case decision.Agent:
		line.Detail = "an agent at " + r.Site + ", key " + r.Thumbprint
	}
	if g.User != "" {
		line.User = g.User
	}
	return line
}

// refused tells the audit log of a request that was refused. It never had an
// id that anybody knows; its client is what such lines are counted by.
func (s *Service) refused(g grant, actor string, code hpcsera.Code, why string) {
	line := s.line(g, "grant.ask", actor)
	line.About, line.Refused = "client "+g.Client, code
	if why != "" {
		line.Detail = why
	}
	s.cfg.Refused(line)
}
