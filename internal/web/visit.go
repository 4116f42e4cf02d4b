package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/signin"
)

// visit is one request of a browser.
type visit struct {
	w http.ResponseWriter
	*http.Request
	session *signin.Session // nil for who is not signed in
	by      *auth.Principal
	problem *hpcsera.Error // what was wrong with the form that is shown again
}

func (v *visit) user() string {
	if v.session == nil {
		return ""
	}
	return v.session.User
}

func (v *visit) operator() bool { return v.session != nil && v.session.Operator }

// text returns a field of the form, or of the query, without space around it.
func (v *visit) text(name string) string { return strings.TrimSpace(v.FormValue(name)) }

// subject is whose things a page shows: the visitor's own, or those of the
// user that an operator names. Whether that may be is decided by the feature.
func (v *visit) subject() string {
	if name := v.text("user"); name != "" {
		return name
	}
	return v.user()
}

// sessionCookie is the browser's session; page adds __Host- where it can.
const sessionCookie = "hpcsera"

// serve turns a route into a handler.
func (s *Site) serve(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		v := &visit{w: w, Request: req}
		err := s.admit(v, r)
		if err == nil {
			err = r.serve(v)
		}
		if err != nil {
			s.failed(v, r, err)
		}
	})
}

// errHandled says that the answer was given already.
var errHandled = errors.New("answered")

// admit finds out who visits, and sends strangers to sign in.
func (s *Site) admit(v *visit, r route) (err error) {
	if err := v.ParseForm(); err != nil {
		return hpcsera.Errorf(hpcsera.MalformedRequest, "the form cannot be read.")
	}
	if secret := s.frame.Cookie(v.Request, sessionCookie); secret != "" {
		if v.session, v.by, err = s.cfg.Sessions.Current(v.Context(), secret); err != nil {
			return err
		}
		if v.session == nil {
			s.frame.DropCookie(v.w, sessionCookie)
		}
	}
	switch {
	case v.session != nil || r.open:
		return nil
	case v.Method == http.MethodGet:
		s.frame.Redirect(v.w, v.Request, "/signin?to="+url.QueryEscape(v.URL.RequestURI()))
		return errHandled
	}
	return hpcsera.Errorf(hpcsera.Unauthenticated, "your session has ended. Nothing was done.").Hint("Go to the start and sign in again.")
}

// failed answers a request that did not succeed: with the second factor where
// that is all that is missing, with the form again where a person can mend it,
// else with an error page.
func (s *Site) failed(v *visit, r route, err error) {
	if errors.Is(err, errHandled) {
		return
	}
	code := hpcsera.CodeOf(err)
	if code == hpcsera.StepUpRequired {
		if err = s.askStepUp(v, r); err == nil {
			return
		}
	}
	var told *hpcsera.Error
	if errors.As(err, &told) && r.again != nil && mendable[code] {
		v.problem = told
		if err = r.again(v); err == nil {
			return
		}
	}
	s.frame.Fail(v.w, v.Request, v.user(), err)
}

// mendable are the codes that tell a person what to change in a form.
var mendable = map[hpcsera.Code]bool{
	hpcsera.InvalidField: true, hpcsera.LimitExceeded: true, hpcsera.Conflict: true, hpcsera.NotFound: true,
	hpcsera.Forbidden: true, hpcsera.QuotaExceeded: true, hpcsera.InvalidValue: true,
}

// show answers with a page.
func (s *Site) show(v *visit, name string, data any) error {
	status := http.StatusOK
	if v.problem != nil {
		status = http.StatusUnprocessableEntity
	}
	s.pages.Render(v.w, v.Request, status, name, page.View{User: v.user(), Operator: v.operator(), Problem: v.problem, Data: data})
	return nil
}

// done sends the browser on after a form did its work.
func (s *Site) done(v *visit, notice, to string) error {
	s.frame.Flash(v.w, notice)
	s.frame.Redirect(v.w, v.Request, to)
	return nil
}

// lost answers where there is no page.
func (s *Site) lost(*visit) error {
	return hpcsera.Errorf(hpcsera.NotFound, "there is nothing at this address.")
}

// local returns a path of ours that a request brought, or the start when it is
// none: never another place, and never one of the steps of signing in.
func (s *Site) local(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") || strings.ContainsAny(to, "\\\r\n\t") {
		return "/"
	}
	r := s.formOf(http.MethodGet, u.Path)
	if r.serve == nil || r.open || strings.HasPrefix(u.Path, "//") {
		return "/"
	}
	return (&url.URL{Path: u.Path, RawQuery: u.RawQuery}).String()
}

// formOf returns the route that would answer; its serve is nil for none.
func (s *Site) formOf(method, path string) route {
	_, pattern := s.mux.Handler(&http.Request{Method: method, URL: &url.URL{Path: path}})
	return s.byWay[pattern]
}
