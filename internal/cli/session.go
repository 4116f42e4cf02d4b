package cli

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// How long a request is tried again while the server cannot be reached.
const (
	shortPatience = 30 * time.Second
	watchPatience = 15 * time.Minute
)

// session is a server to speak to and what the user's settings say of it.
type session struct {
	*client.Client
	profile profile // flags, environment and context in one
	name    string  // of the context, "" without one
	token   client.Secret
	key     *client.Key // of a session of hpcsera login
	from    string      // where the token came from

	demanded bool // profile.Project is what the user wants, and the token may be for another one
}

// settings puts flags, environment and context together. A server or a token
// of the environment is not mixed with the context of another one.
func (a *app) settings() (*session, error) {
	c, err := loadConfig(a.env)
	if err != nil {
		return nil, err
	}
	s := &session{name: first(a.flags.context, a.env["HPCSERA_CONTEXT"], c.Current)}
	stored, ok := c.Contexts[s.name]
	if s.name != "" && !ok {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "there is no context %q.", s.name).At("context").
			Hint("hpcsera context list shows those there are.")
	}
	given := first(a.flags.server, a.env["HPCSERA_SERVER"])
	if given != "" && a.flags.context == "" && !sameServer(given, stored.Server) {
		s.name, stored = "", profile{Server: given}
	}
	s.profile = stored
	s.profile.Server = first(given, stored.Server)
	s.profile.Site = first(a.env["HPCSERA_SITE"], stored.Site)
	s.profile.CA = first(a.flags.ca, stored.CA)
	s.profile.AllowHTTP = a.flags.allowHTTP || stored.AllowHTTP
	if s.profile.Server == "" {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "no server is set.").At("server").
			Hint("Set HPCSERA_SERVER and HPCSERA_TOKEN, or add a context: hpcsera context add NAME --server URL.")
	}
	if _, err := client.CheckServer(s.profile.Server, s.profile.AllowHTTP); err != nil {
		return nil, err // before anybody looks for a token
	}
	if err := a.readToken(s, stored); err != nil {
		return nil, err
	}
	if s.from != "" && s.from != contextToken {
		// Another token may be another user's, for another project.
		s.profile.User, s.profile.Project = "", ""
	}
	demanded := first(a.flags.project, a.env["HPCSERA_PROJECT"])
	if known := s.profile.Project; demanded != "" && known != "" && demanded != known {
		return nil, hpcsera.Errorf(hpcsera.Forbidden, "the token of the context %s is for project %s, not for %s.", s.name, known, demanded).At("project").
			Hint("Use a context for %s (hpcsera context list), or give its token: --token-file.", demanded)
	}
	s.demanded = s.profile.Project == "" && demanded != ""
	s.profile.Project = first(s.profile.Project, demanded)
	return s, nil
}

const contextToken = "the context"

// readToken finds the token: a file or standard input, the environment, the
// context.
func (a *app) readToken(s *session, stored profile) error {
	var text string
	switch {
	case a.flags.tokenFile == "-":
		b, err := io.ReadAll(io.LimitReader(a.input.r, 1<<16))
		if err != nil {
			return err
		}
		text, s.from = string(b), "standard input"
	case a.flags.tokenFile != "":
		b, err := os.ReadFile(a.flags.tokenFile)
		if err != nil {
			return err
		}
		text, s.from = string(b), a.flags.tokenFile
	case a.env["HPCSERA_TOKEN"] != "":
		text, s.from = a.env["HPCSERA_TOKEN"], "HPCSERA_TOKEN"
	case stored.Token != "":
		kept, err := tokenStore(a.env)
		if err != nil {
			return err
		}
		if s.token, err = kept.get(s.name, stored.Token); err != nil {
			return err
		}
		s.from = contextToken
		return checkToken(s.token, "the token of context "+s.name)
	default:
		return nil
	}
	s.token = client.NewSecret(strings.TrimSpace(text))
	return checkToken(s.token, s.from)
}

// checkToken refuses what is no client's token before it travels anywhere.
func checkToken(token client.Secret, from string) error {
	id, _, ok := hpcsera.ParseSecret(token.Reveal())
	switch {
	case !ok:
		return hpcsera.Errorf(hpcsera.Unauthenticated, "%s holds no token: it is cut short, mistyped or something else.", from).
			Hint("A token looks like hpcsera_t…_….")
	case strings.HasPrefix(id, "ls_"):
		return hpcsera.Errorf(hpcsera.Unauthenticated, "%s holds the credential of a session, which works only beside its key.", from).
			Hint("Use a token: hpcsera token create asks for one.")
	case !strings.HasPrefix(id, "t_"):
		return hpcsera.Errorf(hpcsera.Unauthenticated, "%s holds an agent's credential, which opens nothing here.", from).
			Hint("Use a token: hpcsera_t…_….")
	}
	return nil
}

// connect returns a session with a client that tries again for as long as
// usual, or as the user said, and tells of trouble. A token for another
// project than the user demanded is refused: what was meant for one project
// is not done in another.
func (a *app) connect(ctx context.Context, usual time.Duration) (*session, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	if s.token.Empty() {
		return nil, hpcsera.Errorf(hpcsera.Unauthenticated, "there is no token for %s.", s.profile.Server).
			Hint("Set HPCSERA_TOKEN, give --token-file, or store one: hpcsera context add NAME --server URL.")
	}
	if err := a.dial(s, usual); err != nil {
		return nil, err
	}
	return s, s.demandProject(ctx)
}

// dial makes the session's client. It connects to nothing yet.
func (a *app) dial(s *session, usual time.Duration) (err error) {
	var roots *x509.CertPool
	if s.profile.CA != "" {
		pem, err := os.ReadFile(s.profile.CA)
		if err != nil {
			return err
		}
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%s holds no certificate.", s.profile.CA).At("ca").Hint("It must be PEM.")
		}
	}
	patience, err := a.patience(usual)
	if err != nil {
		return err
	}
	told := &troubleTeller{say: a.screen.say, patience: patience}
	s.Client, err = client.New(client.Options{
		Server: s.profile.Server, Token: s.token, Key: s.key, Public: s.profile.Deployment, RootCAs: roots, AllowHTTP: s.profile.AllowHTTP,
		Patience: patience, Notify: told.tell, UserAgent: "hpcsera/" + a.version,
	})
	return err
}

// demandProject asks the server whose token it is, where only the server knows
// and the user demanded a project.
func (s *session) demandProject(ctx context.Context) error {
	if !s.demanded {
		return nil
	}
	self, err := s.Self(ctx)
	if err != nil {
		return err
	}
	if self.Project != s.profile.Project {
		return hpcsera.Errorf(hpcsera.Forbidden, "the token (%s) is for project %s, not for %s.", s.from, self.Project, s.profile.Project).
			Hint("A token is for one project: use the other one's.")
	}
	return nil
}

// troubleTeller says once that the server cannot be reached and once that it
// can again, however many requests find out.
type troubleTeller struct {
	say      func(string, ...any)
	extra    string // said with the first line
	patience time.Duration

	mu      sync.Mutex
	trouble bool
}

func (t *troubleTeller) tell(event client.Trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case event.Err != nil && !t.trouble:
		t.trouble = true
		t.say("hpcsera: %s%s Trying again for %s.", fullStop(clean(event.Err.Error())), t.extra, t.patience)
	case event.Err == nil && t.trouble:
		t.trouble = false
		t.say("hpcsera: connected again.")
	}
}

// fullStop returns text as a sentence.
func fullStop(text string) string {
	if strings.HasSuffix(text, ".") {
		return text
	}
	return text + "."
}

func sameServer(a, b string) bool {
	x, errA := client.CheckServer(a, true)
	y, errB := client.CheckServer(b, true)
	return errA == nil && errB == nil && x.String() == y.String()
}

// first returns the first text that is not empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// String keeps the token out of anything that prints a session.
func (s *session) String() string { return fmt.Sprintf("session with %s", s.profile.Server) }

// watching returns the session with the patience of somebody who watches a
// job, and the word that the job does not need us.
func (a *app) watching(s *session) (*session, error) {
	patience, err := a.patience(watchPatience)
	if err != nil {
		return nil, err
	}
	told := &troubleTeller{say: a.screen.say, extra: " The job goes on.", patience: patience}
	other := *s
	other.Client = s.Client.With(patience, told.tell)
	return &other, nil
}
