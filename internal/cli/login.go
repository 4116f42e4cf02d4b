package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

func (a *app) loginCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "login",
		Short: "Sign in, to see and take back what you granted, and to ask for tokens",
		Long: `Sign in at a server. You open the page that is shown and type the code there;
the page must show the same fingerprint as this terminal. The session lasts 12
hours, works on this machine only, and grants nothing by itself: what you ask
for with it, such as a token, you decide in the browser.

With --server a context is made for the server where there is none.`,
		Example: `  hpcsera login --server https://hpcsera.example.org
  hpcsera token create --project cfd --for ci-code`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.login(cmd.Context()) },
	}
}

func (a *app) login(ctx context.Context) error {
	c, name, err := a.loginContext()
	if err != nil {
		return err
	}
	p := c.Contexts[name]
	kept, err := tokenStore(a.env)
	if err != nil {
		return err
	}
	// Every session has a key of its own. It takes its place when the user has
	// granted the session: until then an older one goes on.
	fresh := kept.key(name) + ".new"
	if err := os.MkdirAll(filepath.Dir(fresh), 0o700); err != nil {
		return err
	}
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := client.LoadKey(fresh)
	if err != nil {
		return err
	}
	defer os.Remove(fresh)
	s := &session{profile: p, name: name}
	if err := a.dial(s, shortPatience); err != nil {
		return err
	}
	device, err := s.AskDevice(ctx, hpcsera.CLIClient, client.Wish{Type: client.SessionWish, Host: hostName()}, key)
	if err != nil {
		return err
	}
	a.screen.say("To sign in, open this page and type the code:\n\n    %s\n    %s\n", clean(device.URL), clean(device.Code))
	a.screen.say("The page must show this fingerprint, or somebody else is asking:\n\n    %s\n", key.Thumbprint())
	a.screen.say("Waiting until %s.", short(&device.Expires))
	granted, err := s.Collect(ctx, device)
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, kept.key(name)); err != nil {
		return err
	}
	if p.Session, err = kept.put(sessionOf(name), granted.Credential); err != nil {
		return err
	}
	s.profile, s.token, s.key = p, granted.Credential, key
	if err := a.dial(s, shortPatience); err != nil {
		return err
	}
	if p.User, err = s.userOfSession(ctx); err != nil {
		return err
	}
	c.Contexts[name], c.Current = p, name
	if err := c.save(); err != nil {
		return err
	}
	a.screen.say("You are signed in as %s until %s; %s is the current context.", clean(p.User), short(&granted.Expires), name)
	return nil
}

// loginContext finds the context to sign in for, or makes one for --server.
func (a *app) loginContext() (*config, string, error) {
	c, err := loadConfig(a.env)
	if err != nil {
		return nil, "", err
	}
	server := first(a.flags.server, a.env["HPCSERA_SERVER"])
	name := first(a.flags.context, a.env["HPCSERA_CONTEXT"], c.Current)
	p, known := c.Contexts[name]
	switch {
	case known && (server == "" || sameServer(server, p.Server)):
		return c, name, nil
	case a.flags.context != "" && known:
		return nil, "", hpcsera.Errorf(hpcsera.Conflict, "the context %s is for %s.", name, p.Server).Hint("Leave --context out, and one for the other server is found or made.")
	case server == "" && name != "":
		return nil, "", hpcsera.Errorf(hpcsera.NotFound, "there is no context %q.", name).Hint("hpcsera context list shows those there are.")
	case server == "":
		return nil, "", hpcsera.Errorf(hpcsera.InvalidField, "no server is set.").At("server").Hint("Say which: hpcsera login --server URL.")
	}
	for _, other := range slices.Sorted(maps.Keys(c.Contexts)) {
		if sameServer(server, c.Contexts[other].Server) {
			return c, other, nil
		}
	}
	if p, err = completeProfile(profile{}, profile{}, a.flags, a.env); err != nil {
		return nil, "", err
	}
	name = a.freeName(c, p.Server)
	c.Contexts[name] = p
	return c, name, nil
}

// freeName names a new context: as the user said, else after the server.
func (a *app) freeName(c *config, server string) string {
	base := a.flags.context
	if u, err := url.Parse(server); base == "" && err == nil {
		base, _, _ = strings.Cut(strings.ToLower(u.Hostname()), ".")
	}
	if !hpcsera.ValidName(base) {
		base = "server"
	}
	for name, i := base, 2; ; i++ {
		if _, taken := c.Contexts[name]; !taken {
			return name
		}
		name = fmt.Sprintf("%.50s-%d", base, i)
	}
}

// userOfSession asks whose session it is.
func (s *session) userOfSession(ctx context.Context) (string, error) {
	id, err := s.Session()
	if err != nil {
		return "", err
	}
	list, err := s.Sessions(ctx)
	if err != nil {
		return "", err
	}
	for _, one := range list {
		if one.ID == id {
			return one.User, nil
		}
	}
	return "", hpcsera.Errorf(hpcsera.Internal, "the server does not list the session that it gave.")
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return clean(name[:min(len(name), 255)])
}

// sessionOf is the name under which a context's session is kept beside its
// token. No context is called like that.
func sessionOf(context string) string { return context + ".session" }

// key is where the key of a context's session is.
func (t *tokens) key(context string) string { return filepath.Join(t.dir, context+".key") }

// inPerson returns the session that was made by hpcsera login.
func (a *app) inPerson() (*session, error) {
	c, name, err := a.loginContext()
	if err != nil {
		return nil, err
	}
	p := c.Contexts[name]
	if p.Session == "" {
		return nil, hpcsera.Errorf(hpcsera.Unauthenticated, "you are not signed in at %s.", p.Server).Hint("hpcsera login")
	}
	kept, err := tokenStore(a.env)
	if err != nil {
		return nil, err
	}
	s := &session{profile: p, name: name, from: "hpcsera login"}
	if s.token, err = kept.get(sessionOf(name), p.Session); err != nil {
		return nil, hpcsera.Errorf(hpcsera.Unauthenticated, "the session is not where it was kept: %w", err).Hint("hpcsera login")
	}
	if s.key, err = client.LoadKey(kept.key(name)); err != nil {
		return nil, err
	}
	return s, a.dial(s, shortPatience)
}

func (a *app) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "logout", Short: "End the session of hpcsera login", Args: cobra.NoArgs,
		Long: `End the session, at the server and on this machine. Tokens are not touched:
hpcsera token revoke takes them back.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.logout(cmd.Context()) },
	}
}

func (a *app) logout(ctx context.Context) error {
	c, name, err := a.loginContext()
	if err != nil {
		return err
	}
	p := c.Contexts[name]
	s, err := a.inPerson()
	if err == nil {
		var id string
		if id, err = s.Session(); err == nil {
			err = s.EndSession(ctx, id)
		}
	}
	if code := hpcsera.CodeOf(err); code == hpcsera.TokenInvalid || p.Session == "" {
		err = nil // it had ended
	}
	kept, failed := tokenStore(a.env)
	if failed != nil {
		return failed
	}
	if failed := kept.drop(sessionOf(name), p.Session); failed != nil {
		return failed
	}
	if failed := os.Remove(kept.key(name)); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
		return failed
	}
	p.Session = ""
	c.Contexts[name] = p
	if failed := c.save(); failed != nil {
		return failed
	}
	if err != nil {
		a.screen.say("The session is forgotten here; the server could not be told, and ends it 12 hours after the login at the latest.")
		return err
	}
	a.screen.say("You are signed out.")
	return nil
}

// waitForDecision shows where a request is decided and waits for its result.
func (a *app) waitForDecision(ctx context.Context, s *session, asked hpcsera.AskedToken) (client.Granted, error) {
	a.screen.say("Decide it here, with your second factor:\n\n    %s\n", clean(asked.URL))
	a.screen.say("Waiting until %s.", short(&asked.Expires))
	granted, err := s.Collect(ctx, client.Wait(asked))
	if err == nil && granted.Expires.Before(time.Now()) {
		return granted, hpcsera.Errorf(hpcsera.Conflict, "what was granted has ended already.")
	}
	return granted, err
}
