package page_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/page/pagetest"
)

func newFrame(t *testing.T, change ...func(*page.Config)) *page.Frame {
	t.Helper()
	cfg := page.Config{
		Prefix: "/auth", Product: "HPCSerA", Account: "/account", SignOut: "/signout",
		Nav: []page.Link{{Path: "/", Label: "Inbox"}, {Path: "/account", Label: "Account"}},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, c := range change {
		c(&cfg)
	}
	f, err := page.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newPages(t *testing.T, f *page.Frame, main string) *page.Pages {
	t.Helper()
	p, err := f.Pages(fs.FS(fstest.MapFS{
		"thing.html": {Data: []byte(`{{define "title"}}Thing{{end}}{{define "main"}}<h1>Thing</h1>` + main + `{{end}}`)},
	}), map[string]string{"saved": "It was saved."}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(h http.HandlerFunc, path string, cookies ...*http.Cookie) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	h(w, r)
	return w
}

func TestAnotherSitesFormIsRefused(t *testing.T) {
	f := newFrame(t)
	done := 0
	h := f.Protect(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { done++ }))
	send := func(method, name, value string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "https://auth.example/auth/account", nil)
		r.Header.Set(name, value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for name, values := range map[string][]string{
		"Sec-Fetch-Site": {"cross-site", "same-site"},
		"Origin":         {"https://evil.example", "http://auth.example:8443", "null"},
	} {
		for _, value := range values {
			w := send(http.MethodPost, name, value)
			if w.Code != http.StatusForbidden || done != 0 {
				t.Errorf("%s %s: got status %d and %d calls, want 403 and none", name, value, w.Code, done)
			}
			pagetest.Check(t, "foreign", w.Header(), w.Body.Bytes())
		}
	}
	send(http.MethodPost, "Sec-Fetch-Site", "same-origin")
	send(http.MethodPost, "Origin", "https://auth.example")
	send(http.MethodGet, "Sec-Fetch-Site", "cross-site")
	if done != 3 {
		t.Errorf("of our own forms and a foreign link %d came through, want 3", done)
	}
}

func TestTextOfOthersCannotHideOrBreakOut(t *testing.T) {
	f := newFrame(t)
	p := newPages(t, f, `<p title="{{show .Data}}">{{show .Data}}</p><pre>{{showText .Data}}</pre>`)
	const evil = "<script>alert(1)</script>\" onload=x \x1b[31m \u202eevil\u202c \u200b\u2066 \xff a\nb \U000e0041 ㅤ"
	w := get(func(w http.ResponseWriter, r *http.Request) {
		p.Render(w, r, http.StatusOK, "thing", page.View{User: evil, Data: evil})
	}, "/auth/")
	pagetest.Check(t, "thing", w.Header(), w.Body.Bytes())
	body := w.Body.String()
	for _, gone := range []string{"<script>alert", "\x1b", "\u202e", "\u200b", "\U000e0041", "ㅤ"} {
		if strings.Contains(body, gone) {
			t.Errorf("the page contains %q", gone)
		}
	}
	for _, shown := range []string{`\u{1b}[31m`, `\u{202e}evil\u{202c}`, `\xff`, `a\u{a}b`, "a\nb"} {
		if !strings.Contains(body, shown) {
			t.Errorf("the page does not show %q", shown)
		}
	}
}

func TestAPageThatBreaksIsNeverHalfSent(t *testing.T) {
	f := newFrame(t)
	p := newPages(t, f, `<p>half {{.Data.Missing}}</p>`)
	for _, name := range []string{"thing", "nothing"} {
		w := get(func(w http.ResponseWriter, r *http.Request) { p.Render(w, r, http.StatusOK, name, page.View{Data: 1}) }, "/auth/")
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "half") {
			t.Errorf("%s: got status %d and %q", name, w.Code, w.Body)
		}
	}
}

func TestErrorsAreToldAsFarAsPeopleCanAct(t *testing.T) {
	f := newFrame(t)
	for _, c := range []struct {
		err    error
		status int
		says   string
	}{
		{hpcsera.Errorf(hpcsera.NotFound, "no such session."), 404, "no such session."},
		{hpcsera.Errorf(hpcsera.Conflict, "the link was used.").Hint("Ask for a new one."), 409, "Ask for a new one."},
		{hpcsera.Errorf(hpcsera.Internal, "password of the database: %w", errors.New("geheim")), 500, "Something went wrong"},
		{errors.New("geheim"), 500, "Something went wrong"},
		{hpcsera.Errorf(hpcsera.QuotaExceeded, "<script>"), 429, "&lt;script&gt;"},
		{hpcsera.Errorf(hpcsera.Unavailable, "too many at once."), 503, "<h1>The server is busy</h1>"},
		{page.Titled{Title: "Nobody is there", Err: hpcsera.Errorf(hpcsera.Unavailable, "nobody answers.")}, 503, "<h1>Nobody is there</h1>"},
	} {
		w := get(func(w http.ResponseWriter, r *http.Request) { f.Fail(w, r, "alice", c.err) }, "/auth/x")
		pagetest.Check(t, "error", w.Header(), w.Body.Bytes())
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) || strings.Contains(w.Body.String(), "geheim") {
			t.Errorf("%v: got status %d, want %d and %q in:\n%s", c.err, w.Code, c.status, c.says, w.Body)
		}
	}
}

func TestEmbeddedFilesHaveAddressesThatNeverChangeMeaning(t *testing.T) {
	f := newFrame(t)
	if w := get(f.Handler().ServeHTTP, "/auth/assets/page.css"); w.Code != http.StatusNotFound {
		t.Errorf("without its hash: got status %d, want 404", w.Code)
	}
	p := newPages(t, f, "")
	w := get(func(w http.ResponseWriter, r *http.Request) { p.Render(w, r, http.StatusOK, "thing", page.View{}) }, "/auth/")
	found := regexp.MustCompile(`(?:href|src)="(/auth/assets/[^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1)
	if len(found) < 2 {
		t.Fatalf("got the files %v", found)
	}
	for _, m := range found {
		w := get(f.Handler().ServeHTTP, m[1])
		if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: got status %d, headers %v", m[1], w.Code, w.Header())
		}
	}
}

func TestTheNavigationShowsWhereOneIs(t *testing.T) {
	f := newFrame(t)
	p := newPages(t, f, "")
	for path, want := range map[string]string{"/auth/": "Inbox", "/auth/account": "Account", "/auth/account/keys": "Account", "/auth/accounting": ""} {
		w := get(func(w http.ResponseWriter, r *http.Request) {
			p.Render(w, r, http.StatusOK, "thing", page.View{User: "alice"})
		}, path)
		pagetest.Check(t, path, w.Header(), w.Body.Bytes())
		got := ""
		if m := regexp.MustCompile(`aria-current="page">(\w+)`).FindStringSubmatch(w.Body.String()); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	w := get(func(w http.ResponseWriter, r *http.Request) { p.Render(w, r, http.StatusOK, "thing", page.View{}) }, "/auth/")
	if strings.Contains(w.Body.String(), "<nav") || strings.Contains(w.Body.String(), "Sign out") {
		t.Error("who is not signed in sees a navigation")
	}
	f = newFrame(t, func(c *page.Config) {
		c.Nav = append(c.Nav, page.Link{Path: "/people", Label: "People", Operators: true})
	})
	p = newPages(t, f, "")
	for _, operator := range []bool{false, true} {
		w := get(func(w http.ResponseWriter, r *http.Request) {
			p.Render(w, r, http.StatusOK, "thing", page.View{User: "alice", Operator: operator})
		}, "/auth/")
		if strings.Contains(w.Body.String(), "People") != operator {
			t.Errorf("operator %v: the navigation is\n%s", operator, w.Body)
		}
	}
}

func TestAMessageIsShownOnceAndCannotBeInvented(t *testing.T) {
	f := newFrame(t)
	p := newPages(t, f, "")
	show := func(w http.ResponseWriter, r *http.Request) {
		p.Render(w, r, http.StatusOK, "thing", page.View{User: "alice"})
	}
	w := get(show, "/auth/?notice=saved", &http.Cookie{Name: "hpcsera-flash", Value: "Your account is locked"})
	if strings.Contains(w.Body.String(), "locked") || strings.Contains(w.Body.String(), "saved") {
		t.Error("a message was invented")
	}
	set := httptest.NewRecorder()
	f.Flash(set, "saved")
	w = get(show, "/auth/", set.Result().Cookies()...)
	if !strings.Contains(w.Body.String(), "It was saved.") || len(w.Result().Cookies()) != 1 || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("got the cookies %v and\n%s", w.Result().Cookies(), w.Body)
	}
}

func TestCookiesAreBoundToTheHostAndHiddenFromScripts(t *testing.T) {
	f := newFrame(t, func(c *page.Config) { c.Secure = true })
	w := httptest.NewRecorder()
	f.SetCookie(w, "hpcsera-auth", "secret", time.Now().Add(time.Hour))
	c := w.Result().Cookies()[0]
	if c.Name != "__Host-hpcsera-auth" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("got %v", c)
	}
	read := func(cookies ...*http.Cookie) string {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		for _, c := range cookies {
			r.AddCookie(c)
		}
		return f.Cookie(r, "hpcsera-auth")
	}
	planted := &http.Cookie{Name: "hpcsera-auth", Value: "planted"}
	if got := read(planted); got != "" {
		t.Errorf("a cookie without the host prefix: got %q", got)
	}
	if got := read(c, c); got != "" {
		t.Errorf("a cookie that is there twice: got %q", got)
	}
	if got := read(c, planted); got != "secret" {
		t.Errorf("got %q, want the cookie", got)
	}
}

func TestGoingOnToAnotherProgramIsAPageAndNoRedirect(t *testing.T) {
	f := newFrame(t)
	w := get(func(w http.ResponseWriter, r *http.Request) {
		f.Forward(w, r, "https://api.example/cb?code=a&state=b", "gwdg")
	}, "/auth/x")
	pagetest.Check(t, "forward", w.Header(), w.Body.Bytes())
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `content="0; url=https://api.example/cb?code=a&amp;state=b"`) {
		t.Errorf("got status %d and\n%s", w.Code, w.Body)
	}
}
