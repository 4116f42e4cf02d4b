package consent

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/session"
)

// Person is who sits at a browser.
type Person struct {
	User     string
	Operator bool      // sees the operators' places; it permits nothing here
	Session  string    // its id for deployments (sid); it signs nobody in
	Verified time.Time // when they last proved to be there, at sign-in or after
	Stepped  time.Time // when a second factor was last given; zero is never
	Methods  []string  // how, as RFC 8176 names it
	// What deployments are told at sign-in, of Prove only.
	Mail     string
	Projects []string // by the word of the user's institution
}

// Sessions tells who sits at a browser; package session does ([From]).
type Sessions interface {
	// Handler serves sign-in and account below the prefix.
	Handler() http.Handler
	// Current returns who is signed in, without sending anybody anywhere.
	Current(r *http.Request) (Person, bool)
	// Require returns who is signed in and, where fresh is set, gave a second
	// factor within the last five minutes. Otherwise it has answered: it sends
	// the browser to do so and then back.
	Require(w http.ResponseWriter, r *http.Request, fresh bool) (Person, bool)
	// Prove returns who is signed in and proved to be there at since or later,
	// for requests that open a page. Otherwise it has answered, as above.
	Prove(w http.ResponseWriter, r *http.Request, since time.Time) (Person, bool)
	// SpendVisit counts a stranger's request that leaves something to remember,
	// and refuses too many from one address.
	SpendVisit(r *http.Request) error
	// Mail sends a mail to a user's address and returns when it was sent, or
	// not_found for somebody who has none.
	Mail(ctx context.Context, user, subject, text string) error
}

// From makes Sessions of the service that knows who people are.
func From(s *session.Service, f *page.Frame) Sessions { return visitors{s, f} }

type visitors struct {
	*session.Service
	frame *page.Frame
}

func person(n *session.Session) Person {
	return Person{User: n.User, Operator: n.Operator, Session: n.ID, Verified: n.Verified(), Stepped: n.Stepped, Methods: n.Methods}
}

func (v visitors) Current(r *http.Request) (Person, bool) {
	n, err := v.Session(r)
	if err != nil {
		return Person{}, false
	}
	return person(n), true
}

func (v visitors) Require(w http.ResponseWriter, r *http.Request, fresh bool) (Person, bool) {
	level := session.SignedIn
	if fresh {
		level = session.SteppedUp
	}
	n, ok := v.Service.Require(w, r, level)
	if !ok {
		return Person{}, false
	}
	return person(n), true
}

func (v visitors) Prove(w http.ResponseWriter, r *http.Request, since time.Time) (Person, bool) {
	who, ok := v.Require(w, r, false)
	if !ok {
		return who, false
	}
	if who.Verified.Before(since) {
		v.frame.Redirect(w, r, "/stepup?return="+url.QueryEscape(r.URL.RequestURI()))
		return who, false
	}
	known, err := v.User(r.Context(), who.User)
	if err != nil {
		v.frame.Fail(w, r, who.User, err)
		return who, false
	}
	who.Mail, who.Projects = known.Mail, known.Projects
	return who, true
}

// Watch tells deployments what happened to a person; it is session's Watch.
func (s *Service) Watch(tx records.Tx, e session.Event) error {
	switch e.Kind {
	case session.SessionEnded:
		return s.SignedOut(tx, e.User, e.Session)
	case session.UserDisabled:
		return s.Left(tx, e.User)
	case session.UserEnabled:
		return s.Returned(tx, e.User)
	}
	return nil
}
