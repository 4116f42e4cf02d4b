package web

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/signin"
)

// What grants something needs a second factor that was shown within five
// minutes. A form that comes later is not lost:
//
//	form ──► kept ──► Auth app ──► shown again: "you wanted to …" ──► the form's
//	                                                                own path
//
// It is shown, not sent: the page that comes back from another program must do
// nothing by itself, and the user sees what the second factor was for.

// askStepUp sends the browser to the second factor: at once after a form, which
// it keeps; by a page that says why instead of a page.
func (s *Site) askStepUp(v *visit, r route) error {
	if r.does == "" {
		return s.show(v, "stepup", struct{ To string }{v.URL.RequestURI()})
	}
	id, err := s.cfg.Sessions.Keep(v.Context(), v.by, v.URL.Path, v.PostForm)
	if err == nil {
		s.frame.Redirect(v.w, v.Request, "/stepup?form="+id)
	}
	return err
}

// stepUp sends the browser to the Auth app.
func (s *Site) stepUp(v *visit) error {
	to := s.local(v.text("to"))
	if id := v.text("form"); id != "" {
		to = "/confirm?" + url.Values{"form": {id}}.Encode()
	}
	return s.begin(v, signin.Begin{To: to, Now: v.session, StepUp: true})
}

// kept is a form that came back from the second factor.
type kept struct {
	ID, Does string
	Fields   []field
}

// field is one value of it, as far as it tells a person something.
type field struct{ Label, Value string }

// labels name the fields of forms, in the order in which they are shown.
var labels = [][2]string{
	{"name", "Name"}, {"project", "Project"}, {"client", "Client"}, {"member", "User"}, {"role", "Role"}, {"remove", "Remove"}, {"for", "Roles"},
	{"roles", "Role"}, {"site", "Site"}, {"scope", "Reaches"}, {"days", "Days"}, {"operator", "Operator"}, {"method", "Authenticates by"},
	{"new_secret", "New secret"}, {"jwks", "Public keys"}, {"ciba", "Asks users"}, {"notify", "Notified at"}, {"asking", "May ask you"},
	{"disabled", "Disabled"},
}

// told says what a value of a form means.
func told(name, value string) string {
	switch {
	case name == "scope" && value == string(hpcsera.ClientScope):
		return "its own jobs and code"
	case name == "scope" && value == string(hpcsera.ProjectScope):
		return "the whole project's jobs and code"
	case name == "for" && value == "own":
		return "chosen one by one"
	}
	for _, p := range presets {
		if name == "for" && p.Name == value {
			return p.Roles.String()
		}
	}
	return value
}

// confirm shows a kept form again.
func (s *Site) confirm(v *visit) error {
	form, err := s.cfg.Sessions.Kept(v.Context(), v.by, v.text("form"))
	if err != nil {
		return err
	}
	r := s.formOf(http.MethodPost, form.Path)
	data := kept{ID: form.ID, Does: r.does}
	if parts := strings.Split(form.Path, "/"); len(parts) > 3 {
		data.Fields = append(data.Fields, field{"About", parts[2]})
	}
	for _, label := range labels {
		for _, value := range form.Values[label[0]] {
			if value != "" && (label[0] != "roles" || form.Values.Get("for") == "own") {
				data.Fields = append(data.Fields, field{label[1], told(label[0], value)})
			}
		}
	}
	return s.show(v, "confirm", data)
}

// confirmed sends a kept form as if the browser had sent it now. Its values
// never leave the server, so nobody can change them in between.
func (s *Site) confirmed(v *visit) error {
	form, err := s.cfg.Sessions.Take(v.Context(), v.by, v.text("form"))
	if err != nil {
		return err
	}
	body := form.Values.Encode()
	again := v.Clone(v.Context())
	again.URL = &url.URL{Path: form.Path}
	again.Form, again.PostForm = nil, nil
	again.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	again.Body, again.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	s.mux.ServeHTTP(v.w, again)
	return nil
}
