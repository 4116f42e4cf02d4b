package session

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
)

// formSize bounds what a form of ours can hold; a passkey's answer is the
// largest.
const formSize = 64 << 10

// Handler serves the pages of this package below the frame's prefix. What it
// does not know is a page that does not exist.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /signin":                  s.showSignIn,
		"POST /signin":                 s.takePassword,
		"GET /signin/factor":           s.showFactor,
		"POST /signin/app":             s.takeApp,
		"POST /signin/recovery":        s.takeRecovery,
		"POST /signin/passkey/options": s.offerSignIn,
		"POST /signin/passkey":         s.takePasskey,
		"POST /signout":                s.signOut,

		"GET /stepup":                  s.showStepUp,
		"POST /stepup/app":             s.stepUpByApp,
		"POST /stepup/passkey/options": s.offerStepUp,
		"POST /stepup/passkey":         s.stepUpByPasskey,

		"GET /setup":                  s.showSetup,
		"POST /setup":                 s.takeSetup,
		"GET /setup/factor":           s.showSetupFactor,
		"POST /setup/app":             s.setupApp,
		"POST /setup/passkey/options": s.offerSetup,
		"POST /setup/passkey":         s.setupPasskey,

		"GET /account":                   s.showAccount,
		"POST /account/mail":             s.changeMail,
		"GET /account/password":          s.showPassword,
		"POST /account/password":         s.changePassword,
		"POST /account/recovery":         s.renewRecovery,
		"GET /account/app":               s.showApp,
		"POST /account/app":              s.addApp,
		"POST /account/app/remove":       s.removeApp,
		"GET /account/passkey":           s.showPasskey,
		"POST /account/passkey/options":  s.offerPasskey,
		"POST /account/passkey":          s.addPasskey,
		"POST /account/passkey/remove":   s.removePasskey,
		"POST /account/sessions/end":     s.endSession,
		"POST /account/sessions/end-all": s.endSessions,

		"GET /people":          s.showPeople,
		"POST /people/invite":  s.invitePerson,
		"POST /people/disable": s.disablePerson,
		"POST /people/enable":  s.enablePerson,
		"POST /people/renew":   s.renewPerson,

		"GET /institution/{name}/start":    s.startAbroad,
		"GET /institution/{name}/callback": s.backFromAbroad,
	} {
		s.route(mux, pattern, h)
	}
	// A program calls it, not a browser: it brings no cookie and gets no page.
	mux.HandleFunc("POST "+s.cfg.Frame.Path("/institution/{name}/logout"), s.logoutByInstitution)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, hpcsera.Errorf(hpcsera.NotFound, "The address leads nowhere."))
	})
	return s.cfg.Frame.Protect(mux)
}

func (s *Service) route(mux *http.ServeMux, pattern string, h func(http.ResponseWriter, *http.Request) error) {
	method, path := pattern[:len("GET")], pattern[len("GET "):]
	if method != http.MethodGet {
		method, path = pattern[:len("POST")], pattern[len("POST "):]
	}
	mux.HandleFunc(method+" "+s.cfg.Frame.Path(path), func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, formSize)
		if r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				s.fail(w, r, formError(err))
				return
			}
		}
		if err := h(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

func formError(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return hpcsera.Errorf(hpcsera.BodyTooLarge, "The form is too long.")
	}
	return hpcsera.Errorf(hpcsera.MalformedRequest, "The form cannot be read.")
}

// fail shows an error's page, with the navigation for who is signed in.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	user := ""
	if n, err := s.Session(r); err == nil {
		user = n.User
	}
	s.cfg.Frame.Fail(w, r, user, err)
}

// again shows a form with what was wrong with it, if a person can mend that.
func (s *Service) again(w http.ResponseWriter, r *http.Request, name string, v page.View, err error) error {
	var told *hpcsera.Error
	status := http.StatusUnprocessableEntity
	if !errors.As(err, &told) {
		return err
	}
	switch told.Code {
	case hpcsera.Unauthenticated:
		status = http.StatusUnauthorized
		if cause := errors.Unwrap(told); cause != nil {
			s.cfg.Log.InfoContext(r.Context(), "factor refused", "error", errors.Unwrap(cause))
		}
	case hpcsera.QuotaExceeded:
		status = http.StatusTooManyRequests
	case hpcsera.InvalidField, hpcsera.Forbidden, hpcsera.Conflict:
	default:
		return err
	}
	v.Problem = told
	s.pages.Render(w, r, status, name, v)
	return nil
}

// answer sends a passkey's request to the page's script.
func answer(w http.ResponseWriter, options any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(options)
}
