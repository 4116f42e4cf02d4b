package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/client"
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what stands between you and a job",
		Long: `Check the settings, the way to the server, the clock, the token and the agents,
one after another, and say what to do about each that is wrong. The exit code
is that of the first that is.`,
		Args: cobra.NoArgs,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e := a.examine(cmd.Context())
		err := a.show(*form, e, e.write)
		for _, c := range e.Checks {
			if c.Verdict == bad {
				return &exitError{code: c.exit}
			}
		}
		return err
	}
	return cmd
}

// verdict is how a check came out.
type verdict string

const (
	good    verdict = "ok"
	warning verdict = "warning"
	bad     verdict = "wrong"
)

// check is one thing that was looked at.
type check struct {
	Name    string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Finding string  `json:"finding"`
	exit    int
}

// examination is what doctor found, in the order in which things depend on
// each other; it ends with the first that makes the next ones pointless.
type examination struct {
	Version string  `json:"version"`
	Checks  []check `json:"checks"`
}

func (e *examination) add(name string, v verdict, format string, args ...any) {
	e.Checks = append(e.Checks, check{Name: name, Verdict: v, Finding: fmt.Sprintf(format, args...), exit: exitRefused})
}

// fail adds what went wrong, with the exit code that belongs to it.
func (e *examination) fail(name string, err error) {
	e.Checks = append(e.Checks, check{Name: name, Verdict: bad, Finding: inCommands(client.Redact(err.Error())), exit: exitCode(err)})
}

func (e *examination) write(w io.Writer) {
	rows := [][]string{{"client", "", clean(e.Version)}}
	for _, c := range e.Checks {
		rows = append(rows, []string{c.Name, string(c.Verdict), clean(c.Finding)})
	}
	columns(w, rows)
}

func (a *app) examine(ctx context.Context) *examination {
	e := &examination{Version: a.version + " " + runtime.GOOS + "/" + runtime.GOARCH}
	s, err := a.settings()
	if err != nil {
		e.fail("settings", err)
		return e
	}
	a.examineSettings(e, s)
	if err := a.dial(s, 0); err != nil {
		e.fail("server", err)
		return e
	}
	health, err := s.Health(ctx)
	switch {
	case err != nil:
		e.fail("server", err)
		return e
	case !health.Ready:
		e.fail("server", hpcsera.Errorf(hpcsera.Unavailable, "%s is there but cannot serve: %s", s.Server(), health.Says))
		return e
	}
	e.add("server", good, "%s answers", s.Server())
	if health.Ahead != 0 {
		e.add("clock", warning, "the server's clock differs by %v from the one here: approvals and times will look odd. Set the clock by NTP.", health.Ahead)
	} else {
		e.add("clock", good, "agrees with the server's")
	}
	if s.token.Empty() {
		e.fail("token", hpcsera.Errorf(hpcsera.Unauthenticated, "there is none.").Hint("Set HPCSERA_TOKEN, or store one: hpcsera context add."))
		return e
	}
	self, err := s.Self(ctx)
	if err != nil {
		e.fail("token", err)
		return e
	}
	examineToken(e, s, self, time.Now())
	sites, err := s.Sites(ctx)
	if err != nil {
		e.fail("sites", err)
		return e
	}
	a.examineSites(e, s, sites, time.Now())
	return e
}

func (a *app) examineSettings(e *examination, s *session) {
	from := "environment and flags"
	if s.name != "" {
		from = "context " + s.name
	}
	e.add("settings", good, "%s; server %s", from, s.profile.Server)
	if dir, err := configDir(a.env); err == nil {
		if info, err := os.Stat(dir); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
			e.add("settings", bad, "others can write to %s. Do: chmod go-w %s", dir, dir)
		}
	}
	if err := checkSignKey(s.profile.SignKey); err != nil {
		e.fail("signing", err)
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if a.env[name] != "" {
			e.add("proxy", good, "%s is set", name) // its value may hold a password
		}
	}
}

func examineToken(e *examination, s *session, self hpcsera.Token, now time.Time) {
	left := self.Expires.Sub(now)
	text := fmt.Sprintf("%s of %s, project %s, client %s, from %s; ends %s; roles %s", self.ID, self.User, self.Project, self.Client, s.from, short(&self.Expires), self.Roles)
	switch {
	case s.profile.Project != "" && s.profile.Project != self.Project:
		e.add("token", bad, "%s. It is not for project %s, which is set here.", text, s.profile.Project)
	case left < 72*time.Hour:
		e.add("token", warning, "%s. It ends soon: get another one.", text)
	default:
		e.add("token", good, "%s", text)
	}
}

// checkSignKey refuses a file that cannot be read. What is no file is in the
// ssh-agent, which may be started later.
func checkSignKey(key string) error {
	if key == "" || strings.HasPrefix(key, "SHA256:") {
		return nil
	}
	if _, err := os.ReadFile(key); err != nil {
		return fmt.Errorf("the key to sign with cannot be read: %w. Name another: hpcsera context add NAME --replace --sign-key KEYFILE", err)
	}
	return nil
}

// siteFrom says where the site comes from that jobs go to which name none.
func (a *app) siteFrom(contextName string) string {
	if a.env["HPCSERA_SITE"] != "" {
		return "HPCSERA_SITE"
	}
	return "the context " + contextName
}

// unknownSite says that there is no site of a name, and who gave the name.
func unknownSite(name, from string) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.UnknownSite, "there is no site %q, which %s names.", name, from).Hint("hpcsera site list shows them.")
}

// examineSites looks for the site that is set, for the user's own agents, and
// whether those pinned here are among them.
func (a *app) examineSites(e *examination, s *session, sites []hpcsera.Site, now time.Time) {
	for _, set := range hpcsera.Sites(s.profile.Site).Names() {
		if !slices.ContainsFunc(sites, func(site hpcsera.Site) bool { return site.Name == set }) {
			e.fail("site "+set, unknownSite(set, a.siteFrom(s.name)))
		}
	}
	var known []string
	for _, site := range sites {
		for _, agent := range site.Agents {
			known = append(known, agent.Thumbprint)
		}
		if site.Disabled {
			e.add("site "+site.Name, warning, "drained by the server's operator")
			continue
		}
		about, next := aboutAgents(hpcsera.Job{State: hpcsera.Pending}, &site, now)
		v := good
		if next != "" {
			v = warning
		}
		e.add("site "+site.Name, v, "%s", strings.TrimSpace(strings.Join(about, " ")+" "+next))
	}
	if len(sites) == 0 {
		e.add("sites", warning, "there are none that you reach. Ask the server's operator.")
	}
	if len(s.profile.Agents) == 0 {
		e.add("signing", warning, "no agent's thumbprint is kept here, so code cannot be signed without --agent")
		return
	}
	for _, t := range s.profile.Agents {
		if !slices.Contains(known, t) {
			e.add("signing", warning, "the server knows no agent of yours with the thumbprint %s that is kept here: it was enrolled anew, or is another server's", t)
		}
	}
	if form, err := approval.Deployment(first(s.profile.Deployment, s.Server())); err == nil {
		e.add("signing", good, "statements will name the server %s; your agents must know it by that URL", form)
	}
}
