package signin

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// sessions are the documents that this package keeps of browsers.
const sessions store.Kind = "browser.session"

// Session is what is known of a browser that signed in.
type Session struct {
	ID       string
	User     string
	Operator bool
	Created  time.Time
	Seen     time.Time // to about a minute
	Ends     time.Time // unless it is used
	AuthTime time.Time // when its user last showed who they are
	Browser  string    // what the browser calls itself: text of a stranger
}

// record is a session as it is stored.
type record struct {
	User     string    `json:"user"`
	Hash     []byte    `json:"hash"` // of its secret
	SID      string    `json:"sid"`  // the Auth app's session that it hangs on
	Created  time.Time `json:"created"`
	Issued   time.Time `json:"issued,omitzero"` // its id_token, by the Auth app's clock; older records lack it
	Seen     time.Time `json:"seen"`
	AuthTime time.Time `json:"auth_time"`
	Methods  []string  `json:"methods"`
	Browser  string    `json:"browser"`
}

func (r record) ends() time.Time {
	if idle, end := r.Seen.Add(sessionIdle), r.Created.Add(sessionLife); idle.Before(end) {
		return idle
	}
	return r.Created.Add(sessionLife)
}

// after reports whether the session began after a moment of the Auth app's
// clock, which ours may be ahead of.
func (r record) after(at time.Time) bool {
	if r.Issued.IsZero() {
		return r.Created.After(at)
	}
	return r.Issued.After(at)
}

func (r record) session(id string) Session {
	return Session{ID: id, User: r.User, Created: r.Created, Seen: r.Seen, Ends: r.ends(), AuthTime: r.AuthTime, Browser: r.Browser}
}

func (r record) at(id string) store.Document {
	return store.Document{Kind: sessions, Key: id, Owner: r.User, Ends: r.ends()}
}

// establish makes a session and ends the one before.
func (s *Service) establish(ctx context.Context, c claims, f flow, browser string) (Session, string, error) {
	id, secret := hpcsera.NewID("bs"), make([]byte, 32)
	rand.Read(secret)
	hash := sha256.Sum256(secret)
	now := s.now()
	r := record{
		User: c.Subject, Hash: hash[:], SID: c.Session, Created: now, Issued: time.Unix(c.Issued, 0).UTC(), Seen: now,
		AuthTime: time.Unix(c.AuthTime, 0).UTC(), Methods: c.Methods, Browser: cut(browser, 300),
	}
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if f.Old != "" {
			if err := tx.DeleteDocument(sessions, f.Old); err != nil {
				return err
			}
		}
		if err := tx.InsertDocument(r.at(id), r); err != nil {
			return err
		}
		action := "signin"
		if f.User != "" {
			action = "signin.stepup"
		}
		return tx.Note(hpcsera.AuditLine{At: now, Actor: "user:" + r.User, Action: action, User: r.User, About: id, Detail: strings.Join(r.Methods, " ")})
	})
	return r.session(id), id + "." + base64.RawURLEncoding.EncodeToString(secret), store.Failed("open a session of "+r.User, err)
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// Current returns the session of a cookie and who that is, or nil for nobody.
// Using a session keeps it from ending by idleness.
func (s *Service) Current(ctx context.Context, secret string) (*Session, *auth.Principal, error) {
	id, text, _ := strings.Cut(secret, ".")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != 32 || !hpcsera.ValidID("bs", id) {
		return nil, nil, nil
	}
	now := s.now()
	var r record
	var user *hpcsera.User
	err = s.cfg.Store.Read(ctx, func(rd store.Reader) (err error) {
		if err = rd.Document(sessions, id, now, &r); err == nil {
			user, err = rd.User(r.User)
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, store.Failed("look up a session", err)
	}
	hash := sha256.Sum256(raw)
	switch {
	case subtle.ConstantTimeCompare(hash[:], r.Hash) != 1:
		return nil, nil, nil
	case user.Disabled: // for good: a user who is enabled again signs in again
		_, err := s.EndAll(ctx, Which{User: r.User})
		return nil, nil, err
	}
	if now.Sub(r.Seen) >= seenEvery {
		if err := s.saw(ctx, id, now); err != nil {
			return nil, nil, err
		}
	}
	session := r.session(id)
	session.Operator = user.Operator
	return &session, &auth.Principal{Person: &auth.Person{
		User: r.User, Operator: user.Operator, Session: id, SteppedUp: steppedUp(r, now),
	}}, nil
}

// saw notes a session's use. One that was ended meanwhile stays ended.
func (s *Service) saw(ctx context.Context, id string, now time.Time) error {
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		var r record
		if err := tx.Document(sessions, id, now, &r); errors.Is(err, store.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		r.Seen = now
		return tx.PutDocument(r.at(id), r)
	})
	return store.Failed("note the use of a session", err)
}

// Sessions lists a user's sessions, the latest used first.
func (s *Service) Sessions(ctx context.Context, by *auth.Principal, user string) ([]Session, error) {
	if err := auth.Allow(by, auth.ListSessions, auth.Target{User: user}); err != nil {
		return nil, err
	}
	var list []Session
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		list = nil
		return r.Documents(sessions, user, s.now(), func(id string, doc []byte) error {
			var row record
			if err := json.Unmarshal(doc, &row); err != nil {
				return err
			}
			list = append(list, row.session(id))
			return nil
		})
	})
	slices.SortFunc(list, func(a, b Session) int { return cmp.Or(b.Seen.Compare(a.Seen), cmp.Compare(a.ID, b.ID)) })
	return list, store.Failed("list sessions", err)
}

// End ends a session. Ending one that is not there is not found.
func (s *Service) End(ctx context.Context, by *auth.Principal, id string) error {
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		var r record
		err := tx.Document(sessions, id, s.now(), &r)
		if err == nil {
			err = auth.Allow(by, auth.EndSession, auth.Target{User: r.User})
		}
		if errors.Is(err, store.ErrNotFound) || hpcsera.CodeOf(err) == hpcsera.NotFound {
			return hpcsera.Errorf(hpcsera.NotFound, "there is no session %s.", cut(id, 40)).Hint("It may have ended already.")
		} else if err != nil {
			return err
		}
		return s.end(tx, id, r.User, by.Actor())
	})
	return store.Failed("end a session", err)
}

func (s *Service) end(tx store.Tx, id, user, actor string) error {
	if err := tx.DeleteDocument(sessions, id); err != nil {
		return err
	}
	return tx.Note(hpcsera.AuditLine{At: s.now(), Actor: actor, Action: "session.end", User: user, About: id})
}

// Which selects sessions that end together.
type Which struct {
	User string // "" is anybody's
	// SID is the Auth app's session that they hang on, "" any. One that ended
	// there never begins again, so the moment does not matter.
	SID string
	// Before spares sessions that began later by the Auth app's clock: the
	// message was about those before it. Zero spares none.
	Before time.Time
}

func (w Which) chooses(r record) bool {
	if w.SID != "" {
		return r.SID == w.SID
	}
	return w.Before.IsZero() || !r.after(w.Before)
}

// EndAll ends sessions, at the Auth app's word or of who is disabled, and returns how many there were.
// It may be repeated.
func (s *Service) EndAll(ctx context.Context, w Which) (ended int, err error) {
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		chosen := map[string]string{}
		err := tx.Documents(sessions, w.User, s.now(), func(id string, doc []byte) error {
			var r record
			if err := json.Unmarshal(doc, &r); err != nil {
				return err
			}
			if w.chooses(r) {
				chosen[id] = r.User
			}
			return nil
		})
		for id, user := range chosen {
			if err == nil {
				err = s.end(tx, id, user, "server")
			}
		}
		ended = len(chosen)
		return err
	})
	return ended, store.Failed("end sessions", err)
}

// Events is where the Auth app tells what happened to its people:
// decision.Client.
type Events interface {
	Events(ctx context.Context, wait time.Duration) ([]decision.Event, error)
	Ack(ctx context.Context, ids ...string) error
}

// The clocks of Listen.
const (
	eventWait  = 25 * time.Second
	eventRetry = 5 * time.Second
)

// Listen applies what the Auth app tells until ctx ends, so that whoever left
// an institution has no access here within a poll. It is to be run once, in a
// goroutine of the server; on several replicas each event may be heard twice.
func (s *Service) Listen(ctx context.Context, from Events) error {
	told := false
	for ctx.Err() == nil {
		events, err := from.Events(ctx, eventWait)
		for _, e := range events {
			if err == nil {
				err = s.Heard(ctx, e)
			}
			if err == nil {
				err = from.Ack(ctx, e.ID)
			}
		}
		if err == nil {
			told = false
			continue
		}
		if !told && ctx.Err() == nil {
			s.cfg.Log.Warn("what happened to people at the Auth app is not known; it is asked again", "err", err)
		}
		told = true
		select {
		case <-ctx.Done():
		case <-time.After(eventRetry):
		}
	}
	return nil
}

// Heard ends sessions after an event of the Auth app, which comes to those who
// ask for it even where no logout token reached us. Whoever left is disabled:
// tokens and agents, too, are refused from the next request on. It may be
// repeated.
func (s *Service) Heard(ctx context.Context, e decision.Event) error {
	var err error
	switch e.Type {
	case decision.SignedOut:
		_, err = s.EndAll(ctx, Which{User: e.User, SID: e.Session, Before: e.At})
	case decision.Left:
		back, seen := s.since(ctx, e.User, e.At)
		if err = seen; err == nil && !back {
			err = s.cfg.Users.Leave(ctx, e.User)
		}
		if err == nil {
			_, err = s.EndAll(ctx, Which{User: e.User, Before: e.At})
		}
	case decision.Returned: // an operator here decides whether they are let in again
	}
	return err
}

// since reports whether a user signed in after a moment: an event from before
// that is old news.
func (s *Service) since(ctx context.Context, user string, at time.Time) (later bool, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		return r.Documents(sessions, user, s.now(), func(_ string, doc []byte) error {
			var r record
			err := json.Unmarshal(doc, &r)
			later = later || r.after(at)
			return err
		})
	})
	return later, store.Failed("read sessions of "+user, err)
}

// LoggedOut takes a logout token (OpenID Connect Back-Channel Logout) and ends
// the sessions that it is about. A token that comes again ends nothing that
// began after it, so none has to be remembered. After a change of its keys the
// Auth app may be refused for up to 30 seconds where somebody sends forged
// tokens all the time; what it says by [Service.Heard] is not.
func (s *Service) LoggedOut(ctx context.Context, token string) error {
	app, err := s.authApp(ctx)
	if err != nil {
		return err
	}
	out, err := s.logoutVerifier(app).VerifyLogout(ctx, token)
	if err != nil {
		s.cfg.Log.Warn("a logout token was refused", "err", err)
		return hpcsera.Errorf(hpcsera.MalformedRequest, "the logout token is none of our Auth app for us.")
	}
	_, err = s.EndAll(ctx, Which{User: out.Subject, SID: out.SessionID, Before: out.IssuedAt.Add(time.Second)})
	return err
}
