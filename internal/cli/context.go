package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

func (a *app) contextCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "Keep the servers you work with, and their tokens", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.contextAddCommand(), a.contextUseCommand(), a.contextListCommand(), a.contextShowCommand(), a.contextRemoveCommand())
	return cmd
}

func (a *app) contextAddCommand() *cobra.Command {
	var p profile
	var replace, offline bool
	cmd := &cobra.Command{
		Use:   "add NAME --server URL",
		Short: "Add a server; asks for the token",
		Long: `Add a server under a name of your own and make it the current context. The
token is asked for on a terminal, else read from --token-file or
HPCSERA_TOKEN; it goes to the system's keyring, or, where there is none, to a
file that only you can read.

Thumbprints of your agents (--agent, from "hpcsera-agent status" on the site)
are needed to sign code: the client takes them from you, never from the
server.`,
		Example: `  hpcsera context add prod --server https://hpcsera.example.org --site gwdg \
      --agent NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&p.Site, "site", "", "site that jobs go to when they name none")
	f.StringVar(&p.User, "user", "", "your user name, as statements name it (asked of the server)")
	f.StringArrayVar(&p.Agents, "agent", nil, "thumbprint of an agent of yours; may be repeated")
	f.StringVar(&p.SignKey, "sign-key", "", "SSH key to sign code with")
	f.StringVar(&p.Deployment, "deployment", "", "URL by which your agents know the server, if it is another one")
	f.BoolVar(&replace, "replace", false, "replace a context of this name; what is not given stays")
	f.BoolVar(&offline, "offline", false, "do not try the token at the server")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.addContext(cmd.Context(), args[0], p, replace, offline)
	}
	return cmd
}

func (a *app) addContext(ctx context.Context, name string, p profile, replace, offline bool) error {
	c, err := loadConfig(a.env)
	if err != nil {
		return err
	}
	old, exists := c.Contexts[name]
	switch {
	case !hpcsera.ValidName(name):
		return usageError{fmt.Errorf("%q is not a name: use 1 to 63 of a-z, 0-9 and the hyphen", name)}
	case exists && !replace:
		return hpcsera.Errorf(hpcsera.Conflict, "there is a context %q already.", name).Hint("--replace changes it.")
	}
	if err := checkSignKey(p.SignKey); err != nil {
		return err
	}
	if p, err = completeProfile(p, old, a.flags, a.env); err != nil {
		return err
	}
	token, err := a.contextToken(old.Token != "")
	if err != nil {
		return err
	}
	if !token.Empty() && !offline {
		if p, err = a.tryToken(ctx, p, token); err != nil {
			return err
		}
	}
	if !token.Empty() {
		kept, err := tokenStore(a.env)
		if err != nil {
			return err
		}
		if p.Token, err = kept.put(name, token); err != nil {
			return err
		}
		a.screen.say("The token is kept in the %s.", map[string]string{inKeyring: "system's keyring", inFile: "file " + clean(kept.file(name)) + ", which only you can read"}[p.Token])
	}
	c.Contexts[name], c.Current = p, name
	if err := c.save(); err != nil {
		return err
	}
	a.screen.say("%s is the current context now.", name)
	if len(p.Agents) == 0 {
		a.screen.say("To sign code, add your agents' thumbprints: hpcsera context add %s --replace --agent THUMBPRINT", name)
	}
	return nil
}

// completeProfile fills what was not given from the context that is replaced,
// and checks it.
func completeProfile(p, old profile, flags globalFlags, env map[string]string) (profile, error) {
	p.Server = first(flags.server, old.Server, env["HPCSERA_SERVER"])
	p.Project = first(flags.project, old.Project)
	p.AllowHTTP = flags.allowHTTP || old.AllowHTTP
	p.Site, p.User, p.SignKey = first(p.Site, old.Site), first(p.User, old.User), first(p.SignKey, old.SignKey)
	p.Deployment, p.Token, p.Session = first(p.Deployment, old.Deployment), old.Token, old.Session
	if len(p.Agents) == 0 {
		p.Agents = old.Agents
	}
	p.CA = first(flags.ca, old.CA)
	for _, path := range []*string{&p.CA, &p.SignKey} {
		if *path == "" || strings.HasPrefix(*path, "SHA256:") { // a key in the ssh-agent
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return p, err
		}
		*path = absolute
	}
	if p.Server == "" {
		return p, usageError{fmt.Errorf("a context needs a server: --server URL")}
	}
	server, err := client.CheckServer(p.Server, p.AllowHTTP)
	if err != nil {
		return p, err
	}
	p.Server = server.String()
	if err := checkThumbprints(p.Agents); err != nil {
		return p, err
	}
	return p, nil
}

// contextToken finds the token for a new context. kept says that there is one
// already, so that none need be given.
func (a *app) contextToken(kept bool) (client.Secret, error) {
	s := &session{}
	if err := a.readToken(s, profile{}); err != nil || !s.token.Empty() || kept {
		return s.token, err
	}
	if !a.canAsk() {
		a.screen.say("No token was given (--token-file FILE, or HPCSERA_TOKEN): the context has none.")
		return client.Secret{}, nil
	}
	text, err := a.secret("Token (it is not shown): ")
	if err != nil {
		return client.Secret{}, err
	}
	token := client.NewSecret(strings.TrimSpace(string(text)))
	return token, checkToken(token, "what you typed")
}

// tryToken asks the server whose token it is, and shows the answer.
func (a *app) tryToken(ctx context.Context, p profile, token client.Secret) (profile, error) {
	s := &session{profile: p, token: token}
	if err := a.dial(s, 0); err != nil {
		return p, err
	}
	self, err := s.Self(ctx)
	if err != nil {
		return p, err
	}
	switch {
	case p.Project != "" && p.Project != self.Project:
		return p, hpcsera.Errorf(hpcsera.Forbidden, "the token is for project %s, not for %s.", self.Project, p.Project)
	case p.User != "" && p.User != self.User:
		return p, hpcsera.Errorf(hpcsera.Forbidden, "the token is %s's, not %s's.", self.User, p.User)
	}
	p.Project, p.User = self.Project, self.User
	a.screen.say("The token is %s's, for project %s and client %s, until %s. Roles: %s.",
		clean(self.User), clean(self.Project), clean(self.Client), short(&self.Expires), self.Roles)
	a.warnOfSite(ctx, s)
	return p, nil
}

// warnOfSite says so when the server does not know the site that a context is
// to have. It may come, so that is no refusal.
func (a *app) warnOfSite(ctx context.Context, s *session) {
	for _, name := range hpcsera.Sites(s.profile.Site).Names() {
		if _, err := s.Site(ctx, name); hpcsera.CodeOf(err) == hpcsera.NotFound {
			a.screen.say("warning: the server knows no site %s. hpcsera site list shows those there are.", clean(name))
		}
	}
}

func (a *app) contextUseCommand() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			c, _, err := a.findContext(args[0])
			if err != nil {
				return err
			}
			c.Current = args[0]
			return c.save()
		},
	}
}

func (a *app) contextListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the contexts", Args: cobra.NoArgs}
	form := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := loadConfig(a.env)
		if err != nil {
			return err
		}
		return a.show(*form, c, func(w io.Writer) {
			rows := [][]string{{"", "CONTEXT", "SERVER", "PROJECT", "SITE", "TOKEN"}}
			for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
				p, mark := c.Contexts[name], ""
				if name == c.Current {
					mark = "*"
				}
				rows = append(rows, []string{mark, clean(name), clean(p.Server), clean(p.Project), clean(p.Site), clean(first(p.Token, "none"))})
			}
			columns(w, rows)
		})
	}
	return cmd
}

func (a *app) contextShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show [NAME]", Short: "Show a context, the current one by default", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeContexts}
	form := outputFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, err := loadConfig(a.env)
		if err != nil {
			return err
		}
		name := first(first(args...), a.flags.context, a.env["HPCSERA_CONTEXT"], c.Current)
		if name == "" {
			return hpcsera.Errorf(hpcsera.NotFound, "there is no current context.").Hint("hpcsera context add NAME --server URL makes one.")
		}
		_, p, err := a.findContext(name)
		if err != nil {
			return err
		}
		return a.show(*form, p, func(w io.Writer) {
			http := ""
			if p.AllowHTTP {
				http = "allowed"
			}
			facts(w, "context", clean(name), "server", clean(p.Server), "deployment", clean(p.Deployment), "user", clean(p.User), "project", clean(p.Project),
				"site", clean(p.Site), "agents", clean(strings.Join(p.Agents, ", ")), "sign key", clean(p.SignKey), "ca", clean(p.CA),
				"plain http", http, "token", clean(first(p.Token, "none")), "session", clean(p.Session))
		})
	}
	return cmd
}

func (a *app) contextRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Aliases: []string{"rm"}, Short: "Remove a context and its token from this machine", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeContexts,
		Long: `Remove a context and its token from this machine. The token stays valid until
it ends or is revoked.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, p, err := a.findContext(args[0])
			if err != nil {
				return err
			}
			kept, err := tokenStore(a.env)
			if err != nil {
				return err
			}
			if err := errors.Join(kept.drop(args[0], p.Token), kept.drop(sessionOf(args[0]), p.Session)); err != nil {
				return err
			}
			os.Remove(kept.key(args[0]))
			delete(c.Contexts, args[0])
			if c.Current == args[0] {
				c.Current = ""
			}
			return c.save()
		},
	}
}

func (a *app) findContext(name string) (*config, profile, error) {
	c, err := loadConfig(a.env)
	if err != nil {
		return nil, profile{}, err
	}
	p, ok := c.Contexts[name]
	if !ok {
		return nil, p, hpcsera.Errorf(hpcsera.NotFound, "there is no context %q.", name).Hint("hpcsera context list shows those there are.")
	}
	return c, p, nil
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	c, err := loadConfig(a.env)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(c.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
