package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/admin"
	"github.com/hpcsera/hpcsera/internal/operator"
)

// operatorCommands are the commands that ask the running server.
func (p *program) operatorCommands() []*cobra.Command {
	commands := []*cobra.Command{
		p.userCommand(), p.projectCommand(), p.clientCommand(), p.siteCommand(), p.agentCommand(), p.tokenCommand(), p.auditCommand(), p.authCommand(),
	}
	for _, c := range commands {
		c.PersistentFlags().StringVarP(&p.output, "output", "o", "table", "table or json")
		// A group without one of its commands is a mistake, not a question.
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage.Unknown(c, args[0])
			}
			return c.Help()
		}
	}
	return commands
}

// ask sends one operation to the server and shows the answer.
func ask[Ans any](p *program, c *cobra.Command, op string, request any, show func(Ans) table) error {
	if p.output != "table" && p.output != "json" {
		return usage.Error{Err: fmt.Errorf("--output is table or json, not %q", p.output)}
	}
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	answer, err := operator.Call[Ans](c.Context(), cfg.AdminSocket, op, request)
	if err != nil {
		return command.InFlags(c, err)
	}
	if p.output == "json" {
		return writeJSON(p.stdout, answer)
	}
	return show(answer).write(p.stdout)
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(commands...)
	return c
}

// verbs are the two commands of a switch.
type verbs struct{ off, on string }

// disables is what is done to users and clients; what agents of a site have
// goes on, so a site is drained.
var (
	disables = verbs{"disable", "enable"}
	drains   = verbs{"drain", "undrain"}
)

// switches makes the commands that stop something and let it go on. like is a
// name for their examples.
func switches[Ans any](p *program, kind, like string, v verbs, effect string, op string, show func(Ans) table) []*cobra.Command {
	one := func(verb, what string, disabled bool) *cobra.Command {
		return &cobra.Command{
			Use: verb + " NAME", Short: strings.ToUpper(verb[:1]) + verb[1:] + " a " + kind + what, Args: usage.Exactly(1),
			Example: "  hpcserad " + kind + " " + verb + " " + like,
			RunE: func(c *cobra.Command, args []string) error {
				return ask(p, c, op, access.Switch{Name: args[0], Disabled: disabled}, show)
			},
		}
	}
	return []*cobra.Command{
		one(v.off, ": "+effect, true),
		one(v.on, " again", false),
	}
}

func (p *program) userCommand() *cobra.Command {
	var operator bool
	add := &cobra.Command{
		Use: "add NAME", Short: "Make a user", Args: usage.Exactly(1), Example: "  hpcserad user add alice",
		RunE: func(c *cobra.Command, args []string) error {
			return ask(p, c, admin.OpCreateUser, access.NewUser{Name: args[0], Operator: operator}, showUser)
		},
	}
	add.Flags().BoolVar(&operator, "operator", false, "manages the service; never reads logs or runs code")
	list := &cobra.Command{
		Use: "list", Short: "List users", Args: usage.Exactly(0), Example: "  hpcserad user list -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpUsers, access.Filter{}, each(showUser))
		},
	}
	g := group("user", "People", add, list)
	g.AddCommand(switches(p, "user", "alice", disables, "tokens and agents are refused from the next request on", admin.OpSetUser, showUser)...)
	return g
}

func (p *program) projectCommand() *cobra.Command {
	var members []string
	add := &cobra.Command{
		Use: "add NAME", Short: "Make a project", Args: usage.Exactly(1), Example: "  hpcserad project add cfd --member alice=owner --member bob=member",
		RunE: func(c *cobra.Command, args []string) error {
			r := access.NewProject{Name: args[0], Members: map[string]hpcsera.MemberRole{}}
			for _, m := range members {
				user, role, ok := strings.Cut(m, "=")
				if !ok {
					return usage.Error{Err: fmt.Errorf("--member is USER=ROLE, such as alice=owner, not %q", m)}
				}
				r.Members[user] = hpcsera.MemberRole(role)
			}
			return ask(p, c, admin.OpCreateProject, r, showProject)
		},
	}
	add.Flags().StringArrayVar(&members, "member", nil, "USER=viewer, member or owner; may be given often")
	member := &cobra.Command{
		Use: "member PROJECT USER ROLE", Short: "Set what a user is in a project: viewer, member, owner, or none", Args: usage.Exactly(3),
		Example: "  hpcserad project member cfd bob member\n  hpcserad project member cfd bob none",
		RunE: func(c *cobra.Command, args []string) error {
			r := access.NewMember{Project: args[0], User: args[1], Role: hpcsera.MemberRole(args[2])}
			if args[2] == "none" {
				r.Role = ""
			}
			return ask(p, c, admin.OpSetMember, r, showProject)
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List projects and their members", Args: usage.Exactly(0), Example: "  hpcserad project list",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpProjects, access.Filter{}, each(showProject))
		},
	}
	return group("project", "What segments users' workflows", add, member, list)
}

func (p *program) clientCommand() *cobra.Command {
	add := &cobra.Command{
		Use: "add NAME", Short: "Register an external service, or the command line", Args: usage.Exactly(1), Example: "  hpcserad client add gitlab",
		RunE: func(c *cobra.Command, args []string) error {
			return ask(p, c, admin.OpCreateClient, access.Named{Name: args[0]}, showClient)
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List clients", Args: usage.Exactly(0), Example: "  hpcserad client list",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpClients, access.Filter{}, each(showClient))
		},
	}
	g := group("client", "External services", add, list, p.registerCommand())
	g.AddCommand(switches(p, "client", "gitlab", disables, "its tokens are refused from the next request on", admin.OpSetClient, showClient)...)
	return g
}

// registerCommand is for the services that belong to nobody but the site. A
// user's own client is registered by the user, in the browser.
func (p *program) registerCommand() *cobra.Command {
	var r access.NewRegistration
	var method, ciba, keys string
	c := &cobra.Command{
		Use: "register NAME", Short: "Let a client ask users for tokens when it needs them", Args: usage.Exactly(1),
		Long: "Sets how a client authenticates when it asks users for tokens on demand, in place of what was set\n" +
			"before. A client that proves nothing (method none) shows its user a code to type; one with a secret\n" +
			"or a key may also ask users who enabled it by their name (--ciba).",
		Example: "  hpcserad client register notebooks\n  hpcserad client register gitlab --method secret --ciba poll",
		RunE: func(c *cobra.Command, args []string) error {
			r.Client, r.Method, r.CIBA = args[0], hpcsera.ClientMethod(method), hpcsera.CIBAMode(ciba)
			if r.Method == hpcsera.KeyClient && keys == "" {
				return usage.Error{Err: fmt.Errorf("--jwks is missing: the file with the public keys of a client of %s. See: %s --help", method, c.CommandPath())}
			}
			if keys != "" {
				text, err := os.ReadFile(keys)
				if err != nil {
					return fmt.Errorf("read the client's keys: %w", err)
				}
				r.Keys = string(text)
			}
			return ask(p, c, admin.OpRegister, r, showRegistration)
		},
	}
	f := c.Flags()
	f.StringVar(&method, "method", string(hpcsera.PublicClient), "none, secret or private_key_jwt")
	f.BoolVar(&r.NewSecret, "renew", false, "make another secret; the one before stops working")
	f.StringVar(&keys, "jwks", "", "file with its public keys as JWK Set, for private_key_jwt")
	f.StringVar(&ciba, "ciba", "", "poll or ping: it may ask by the user's name")
	f.StringVar(&r.Notify, "notify", "", "URL that is told when users decided, for ping")
	return c
}

func (p *program) siteCommand() *cobra.Command {
	add := &cobra.Command{
		Use: "add NAME", Short: "Register an HPC system", Args: usage.Exactly(1), Example: "  hpcserad site add gwdg",
		RunE: func(c *cobra.Command, args []string) error {
			return ask(p, c, admin.OpCreateSite, access.Named{Name: args[0]}, showSite)
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List sites", Args: usage.Exactly(0), Example: "  hpcserad site list",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpSites, access.Filter{}, each(showSite))
		},
	}
	g := group("site", "HPC systems", add, list)
	g.AddCommand(switches(p, "site", "gwdg", drains, "its agents get no new jobs; what they have goes on", admin.OpSetSite, showSite)...)
	return g
}
