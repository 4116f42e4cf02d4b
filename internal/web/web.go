package web

import (
	"embed"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/signin"
)

//go:embed pages/*.html
var templates embed.FS

//go:embed assets/*.js
var scripts embed.FS

// Config is what a Site is made of.
type Config struct {
	Sessions *signin.Service
	Access   *access.Service
	Code     *code.Service
	// URL is where browsers and programs reach this server, AuthURL the Auth
	// app, both without a slash at the end.
	URL, AuthURL string
	Log          *slog.Logger
	Now          func() time.Time // nil is time.Now
}

// Site is the pages. It may be used by many goroutines.
type Site struct {
	cfg   Config
	frame *page.Frame
	pages *page.Pages
	mux   *http.ServeMux
	byWay map[string]route // by pattern
}

// New returns the pages.
func New(cfg Config) (*Site, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Site{cfg: cfg, mux: http.NewServeMux(), byWay: map[string]route{}}
	var err error
	s.frame, err = page.New(page.Config{
		Product: "HPCSerA", Account: "/sessions", SignOut: "/signout", Secure: strings.HasPrefix(cfg.URL, "https:"), Log: cfg.Log,
		Nav: []page.Link{
			{Path: "/", Label: "Overview"}, {Path: "/tokens", Label: "Tokens"}, {Path: "/projects", Label: "Projects"},
			{Path: "/clients", Label: "Clients"}, {Path: "/agents", Label: "Agents"}, {Path: "/sites", Label: "Sites"}, {Path: "/code", Label: "Code"},
			{Path: "/requests", Label: "Requests"}, {Path: "/sessions", Label: "Sessions"}, {Path: "/audit", Label: "Activity"},
			{Path: "/users", Label: "Users", Operators: true},
		},
	})
	if err != nil {
		return nil, err
	}
	own, err := fs.Sub(scripts, "assets")
	if err != nil {
		return nil, err
	}
	if err := s.frame.Assets(own); err != nil {
		return nil, err
	}
	files, err := fs.Sub(templates, "pages")
	if err != nil {
		return nil, err
	}
	if s.pages, err = s.frame.Pages(files, notices, s.words()); err != nil {
		return nil, err
	}
	for _, r := range s.routes() {
		s.byWay[r.way] = r
		s.mux.Handle(r.way, s.serve(r))
	}
	s.mux.Handle("GET /assets/", s.frame.Handler())
	s.mux.Handle("/", s.serve(route{serve: s.lost, open: true}))
	return s, nil
}

// maxForm is above every form of ours.
const maxForm = 128 << 10

// Handler serves the pages. Whoever mounts it gives the API's paths to the API.
func (s *Site) Handler() http.Handler {
	return s.frame.Protect(http.MaxBytesHandler(s.mux, maxForm))
}

// Ways lists what the pages answer, as patterns of http.ServeMux.
func (s *Site) Ways() []string {
	var list []string
	for _, r := range s.routes() {
		list = append(list, r.way)
	}
	return list
}

// route is one page or one form.
type route struct {
	way   string // the pattern: METHOD PATH
	serve func(*visit) error
	// does says what a form does, to the user who is asked for the second factor
	// in between: "make a token".
	does string
	// again shows the form's page again, with what was wrong; nil shows an error
	// page.
	again func(*visit) error
	// open lets in who is not signed in.
	open bool
}

// routes is the one list of all pages and forms.
func (s *Site) routes() []route {
	return []route{
		{way: "GET /{$}", serve: s.home, open: true},
		{way: "GET /signin", serve: s.signIn, open: true},
		{way: "GET " + decision.CallbackPath, serve: s.callback, open: true},
		{way: "POST " + decision.LogoutPath, serve: s.backchannel, open: true},
		{way: "POST /signout", serve: s.signOut, open: true},
		{way: "GET /stepup", serve: s.stepUp},
		{way: "GET /confirm", serve: s.confirm},
		{way: "POST /confirm", serve: s.confirmed},

		{way: "GET /tokens", serve: s.tokens},
		{way: "GET /tokens/new", serve: s.newToken},
		{way: "POST /tokens", serve: s.createToken, does: "make a token", again: s.newToken},
		{way: "GET /tokens/revoke", serve: s.askRevoke},
		{way: "POST /tokens/revoke", serve: s.revoke, does: "revoke tokens", again: s.askRevoke},

		{way: "GET /projects", serve: s.projects},
		{way: "POST /projects", serve: s.createProject, does: "make a project", again: s.projects},
		{way: "GET /projects/{project}", serve: s.project},
		{way: "POST /projects/{project}/members", serve: s.setMember, does: "change who is in a project", again: s.project},

		{way: "GET /clients", serve: s.clients},
		{way: "POST /clients", serve: s.createClient, does: "register a client", again: s.clients},
		{way: "GET /clients/{client}", serve: s.client},
		{way: "POST /clients/{client}/registration", serve: s.register, does: "change how a client gets tokens", again: s.client},
		{way: "POST /clients/{client}/asking", serve: s.enableClient, does: "change whether a client may ask you", again: s.client},
		{way: "POST /clients/{client}/disabled", serve: s.disableClient, does: "disable or enable a client", again: s.client},

		{way: "GET /agents", serve: s.agents},
		{way: "POST /agents/{agent}/renew", serve: s.renewAgent, does: "renew the enrolment of an agent", again: s.agents},
		{way: "GET /agents/{agent}/remove", serve: s.askRemove},
		{way: "POST /agents/{agent}/remove", serve: s.removeAgent, does: "remove an agent", again: s.askRemove},

		{way: "GET /code", serve: s.code},
		{way: "GET /code/{project}/{digest}", serve: s.codePart},
		{way: "GET /requests", serve: s.requests},

		{way: "GET /sessions", serve: s.sessions},
		{way: "POST /sessions/end", serve: s.endSession, does: "end a session", again: s.sessions},
		{way: "POST /sessions/end-others", serve: s.endOthers, does: "end your other sessions", again: s.sessions},
		{way: "GET /audit", serve: s.audit},

		{way: "GET /users", serve: s.users},
		{way: "POST /users", serve: s.createUser, does: "make a user", again: s.users},
		{way: "POST /users/{user}/disabled", serve: s.disableUser, does: "disable or enable a user", again: s.users},
		{way: "GET /sites", serve: s.sites},
		{way: "GET /sites/{site}", serve: s.site},
		{way: "POST /sites", serve: s.createSite, does: "register a site", again: s.sites},
		{way: "POST /sites/{site}/drained", serve: s.drainSite, does: "drain or open a site", again: s.sites},
	}
}

// notices are the messages that a page can show once.
var notices = map[string]string{
	"signed-out":       "You are signed out here.",
	"revoked":          "It is revoked, and refused from now on.",
	"revoked-none":     "There was nothing left to revoke.",
	"project-made":     "The project is there, and you own it. Add its members below.",
	"member-set":       "Saved.",
	"member-removed":   "Removed. Tokens of this member for the project are refused from now on.",
	"client-made":      "The client is registered. You can make tokens for it now.",
	"client-may":       "The client may ask you for tokens from now on.",
	"client-may-not":   "The client may not ask you any more. Tokens that it has go on working.",
	"client-disabled":  "The client is disabled: its tokens are refused from now on.",
	"client-enabled":   "The client is enabled again.",
	"client-set":       "Saved.",
	"agent-renewed":    "The enrolment is renewed. Its key and its jobs stay as they are.",
	"agent-removed":    "The agent is removed: its credential opens nothing any more.",
	"session-ended":    "The session has ended.",
	"sessions-ended":   "All other sessions have ended.",
	"user-made":        "The user is there.",
	"user-disabled":    "The user is disabled: nothing of theirs works from now on.",
	"user-enabled":     "The user is enabled again.",
	"site-made":        "The site is registered. Users can enrol agents there now.",
	"site-drained":     "The site is drained: its agents get no new jobs.",
	"site-undrained":   "The site is open again.",
	"stepup-confirmed": "You are confirmed for the next five minutes.",
}
