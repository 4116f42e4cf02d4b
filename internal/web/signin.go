package web

import (
	"net/http"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/signin"
)

// flowCookie remembers a sign-in that is on its way, by its state: two tabs do
// not disturb one another.
func flowCookie(state string) string { return "hpcsera-signin-" + state[:min(10, len(state))] }

// signIn sends the browser to the Auth app.
func (s *Site) signIn(v *visit) error {
	return s.begin(v, signin.Begin{To: s.local(v.text("to")), Now: v.session})
}

func (s *Site) begin(v *visit, b signin.Begin) error {
	begun, err := s.cfg.Sessions.Begin(v.Context(), b)
	if err != nil {
		return away(err)
	}
	s.frame.SetCookie(v.w, flowCookie(begun.State), begun.Sealed, begun.Ends)
	if b.StepUp {
		// A form may have led here, and browsers follow no redirect from a form to
		// another host under our policy.
		s.frame.Forward(v.w, v.Request, begun.URL, "the Auth app, which asks for your second factor")
		return nil
	}
	http.Redirect(v.w, v.Request, begun.URL, http.StatusFound)
	return nil
}

// away says above its page when it is the Auth app that does not answer: this
// server is well.
func away(err error) error {
	if hpcsera.CodeOf(err) == hpcsera.Unavailable {
		return page.Titled{Title: "The sign-in service cannot be reached", Err: err}
	}
	return err
}

// callback takes the Auth app's answer.
func (s *Site) callback(v *visit) error {
	state := v.URL.Query().Get("state")
	if len(state) != 26 || strings.Trim(state, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return hpcsera.Errorf(hpcsera.Forbidden, "this is no answer to a sign-in.").Hint("Go to the start and sign in again.")
	}
	sealed := s.frame.Cookie(v.Request, flowCookie(state))
	s.frame.DropCookie(v.w, flowCookie(state))
	finished, err := s.cfg.Sessions.Finish(v.Context(), v.URL.Query(), sealed, v.UserAgent())
	if err != nil {
		return away(err)
	}
	// Without an end: the browser forgets it when it is closed. The server has
	// an end of its own.
	s.frame.SetCookie(v.w, sessionCookie, finished.Secret, noEnd)
	s.frame.Redirect(v.w, v.Request, finished.To)
	return nil
}

// signOut ends the session here. The one at the Auth app goes on; the start
// says so.
func (s *Site) signOut(v *visit) error {
	if v.session != nil {
		if err := s.cfg.Sessions.End(v.Context(), v.by, v.session.ID); err != nil {
			return err
		}
	}
	s.frame.DropCookie(v.w, sessionCookie)
	return s.done(v, "signed-out", "/")
}

// backchannel is where the Auth app tells that a session ended there. No
// browser comes here.
func (s *Site) backchannel(v *visit) error {
	err := s.cfg.Sessions.LoggedOut(v.Context(), v.PostFormValue("logout_token"))
	v.w.Header().Set("Content-Type", "application/json")
	switch hpcsera.CodeOf(err) {
	case "":
		v.w.WriteHeader(http.StatusOK)
	case hpcsera.MalformedRequest:
		v.w.WriteHeader(http.StatusBadRequest)
		_, _ = v.w.Write([]byte(`{"error":"invalid_request"}`)) // whoever left needs no answer
	default:
		s.cfg.Log.ErrorContext(v.Context(), "a logout was not done", "err", err)
		v.w.WriteHeader(http.StatusServiceUnavailable)
	}
	return nil
}
