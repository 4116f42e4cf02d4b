package page

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Pages are the pages of one feature.
type Pages struct {
	frame   *Frame
	pages   map[string]*template.Template
	notices map[string]string
}

// View is what a template sees, besides Data of the feature's own.
type View struct {
	User     string         // who is signed in; "" shows no navigation
	Operator bool           // who sees the operators' places; it permits nothing
	Problem  *hpcsera.Error // what was wrong with a form
	Data     any
}

// Note is one message above a page.
type Note struct{ Kind, Text string }

// framed is a View with what the layout adds.
type framed struct {
	View
	Config
	Here  string // the entry of the navigation that the page belongs to
	Notes []Note
}

// Pages reads a feature's templates. notices are the messages that its
// [Frame.Flash] can name; words are functions of the feature's own, for
// templates, and can be nil.
func (f *Frame) Pages(files fs.FS, notices map[string]string, words template.FuncMap) (*Pages, error) {
	p := &Pages{frame: f, pages: map[string]*template.Template{}, notices: notices}
	base, err := f.layout.Clone()
	if err != nil {
		return nil, err
	}
	base.Funcs(words)
	names, err := fs.Glob(files, "*.html")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, "_") {
			if base, err = base.ParseFS(files, name); err != nil {
				return nil, fmt.Errorf("part %s: %w", name, err)
			}
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "_") {
			continue
		}
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(files, name)
		}
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
		p.pages[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	return p, nil
}

// Render answers with a page. A page that cannot be made is an error page,
// which the log explains.
func (p *Pages) Render(w http.ResponseWriter, r *http.Request, status int, name string, v View) {
	headers(w.Header())
	data := framed{View: v, Config: p.frame.cfg, Here: p.frame.here(r), Notes: p.flashed(w, r)}
	var b bytes.Buffer
	t, ok := p.pages[name]
	err := fmt.Errorf("no page %q", name)
	if ok {
		err = t.ExecuteTemplate(&b, "layout.html", data)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err != nil {
		p.frame.cfg.Log.ErrorContext(r.Context(), "page cannot be shown", "page", name, "error", err)
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte("<!doctype html><html lang=\"en\"><title>Error</title><h1>This page cannot be shown.</h1><p>The server's log says why.</p>"))
		return
	}
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a reader who left needs no page
}

// here returns the longest path of the navigation that the request is below;
// below "/" is only "/" itself, or everything would be.
func (f *Frame) here(r *http.Request) string {
	best, at := "", strings.TrimPrefix(r.URL.Path, f.cfg.Prefix)
	for _, l := range f.cfg.Nav {
		if len(l.Path) > len(best) && (at == l.Path || l.Path != "/" && strings.HasPrefix(at, l.Path+"/")) {
			best = l.Path
		}
	}
	return best
}

// Redirect sends the browser on after a form was taken. to is a path below
// the prefix, and never comes from the request.
func (f *Frame) Redirect(w http.ResponseWriter, r *http.Request, to string) {
	http.Redirect(w, r, f.Path(to), http.StatusSeeOther)
}

// flashCookie carries the name of a message from a form to the page after it.
const flashCookie = "hpcsera-flash"

// Flash lets the next page show one of its feature's notices. The message is
// named, not carried: nobody can make a page say something else.
func (f *Frame) Flash(w http.ResponseWriter, notice string) {
	f.SetCookie(w, flashCookie, notice, time.Time{})
}

func (p *Pages) flashed(w http.ResponseWriter, r *http.Request) []Note {
	text, ok := p.notices[p.frame.Cookie(r, flashCookie)]
	if !ok {
		return nil
	}
	p.frame.DropCookie(w, flashCookie)
	return []Note{{Kind: "ok", Text: text}}
}

// Titled is an error whose page has a heading of its own, where that of its
// status would mislead.
type Titled struct {
	Title string
	Err   error
}

// Error returns the error's own text.
func (t Titled) Error() string { return t.Err.Error() }

// Unwrap returns the error itself.
func (t Titled) Unwrap() error { return t.Err }

// Fail answers with an error page. What a person can act on is told; anything
// else goes to the log only.
func (f *Frame) Fail(w http.ResponseWriter, r *http.Request, user string, err error) {
	var told *hpcsera.Error
	if !errors.As(err, &told) || statusOf(told.Code) >= http.StatusInternalServerError {
		f.cfg.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
	}
	status := statusOf(hpcsera.CodeOf(err))
	if told == nil || status == http.StatusInternalServerError {
		told = hpcsera.Errorf(hpcsera.Internal, "Something went wrong in the server.").Hint("Try again. If it happens again, tell the operator when it was.")
	}
	title := titles[status]
	var own Titled
	if errors.As(err, &own) {
		title = own.Title
	}
	f.own.Render(w, r, status, "error", View{User: user, Data: struct {
		Title string
		Error *hpcsera.Error
	}{title, told}})
}

// Forward sends the browser on to another program by a page: browsers refuse
// a redirect to another host as the answer to a form. to must be an address
// that was registered, never one that a request brought; name says where it
// leads.
func (f *Frame) Forward(w http.ResponseWriter, r *http.Request, to, name string) {
	f.own.Render(w, r, http.StatusOK, "forward", View{Data: struct{ To, Name string }{to, name}})
}

// titles are the headings of error pages.
var titles = map[int]string{
	http.StatusBadRequest:            "That could not be understood",
	http.StatusUnauthorized:          "Please sign in",
	http.StatusForbidden:             "That is not allowed",
	http.StatusNotFound:              "There is no such page",
	http.StatusConflict:              "That is not possible now",
	http.StatusRequestEntityTooLarge: "That is too long",
	http.StatusUnprocessableEntity:   "That is not possible",
	http.StatusTooManyRequests:       "Too many tries",
	http.StatusServiceUnavailable:    "The server is busy",
	http.StatusInsufficientStorage:   "The server's disk is full",
	http.StatusInternalServerError:   "Something went wrong",
}

// statusOf returns the status of an error page. Pages meet few codes; the API
// has its own table of all (internal/httpapi), which would bring the whole API
// into the Auth app.
func statusOf(code hpcsera.Code) int {
	switch code {
	case hpcsera.MalformedRequest, hpcsera.InvalidField, hpcsera.UnknownField:
		return http.StatusBadRequest
	case hpcsera.Unauthenticated, hpcsera.TokenInvalid:
		return http.StatusUnauthorized
	case hpcsera.Forbidden:
		return http.StatusForbidden
	case hpcsera.NotFound:
		return http.StatusNotFound
	case hpcsera.Conflict, hpcsera.JobFinal, hpcsera.JobNotFinal:
		return http.StatusConflict
	case hpcsera.BodyTooLarge:
		return http.StatusRequestEntityTooLarge
	case hpcsera.LimitExceeded, hpcsera.InvalidValue, hpcsera.ApprovalRefused, hpcsera.UnknownSite, hpcsera.UnknownCode:
		return http.StatusUnprocessableEntity
	case hpcsera.QuotaExceeded:
		return http.StatusTooManyRequests
	case hpcsera.Unavailable:
		return http.StatusServiceUnavailable
	case hpcsera.StorageFull:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}
