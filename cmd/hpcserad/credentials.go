package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/admin"
)

func (p *program) agentCommand() *cobra.Command {
	var r access.NewAgent
	create := &cobra.Command{
		Use: "create", Short: "Enrol a user's agent at a site, for the key whose thumbprint it printed", Args: usage.Exactly(0),
		Long: "Makes the credential of an agent. It works only together with the key that the agent made:\n" +
			"hpcsera-agent status prints the key's thumbprint. The credential is shown once and kept nowhere.",
		Example: "  hpcserad agent create --user alice --site gwdg --project cfd --thumbprint NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpCreateAgent, r, showAgentMade)
		},
	}
	f := create.Flags()
	f.StringVar(&r.User, "user", "", "whose agent it is")
	f.StringVar(&r.Site, "site", "", "where it runs")
	f.StringSliceVar(&r.Projects, "project", nil, "whose jobs it takes; may be given often")
	f.StringVar(&r.Thumbprint, "thumbprint", "", "of the agent's key")
	f.IntVar(&r.Days, "days", 0, "until the enrolment ends (default 180)")
	required(create, "user", "site", "project", "thumbprint")

	var removal access.Removal
	remove := &cobra.Command{
		Use: "remove ID", Short: "End an enrolment", Args: usage.Exactly(1), Example: "  hpcserad agent remove ag_8f2k4m6p8r0t2v4x6z8a",
		RunE: func(c *cobra.Command, args []string) error {
			removal.ID = args[0]
			return ask(p, c, admin.OpRemoveAgent, removal, showAgent)
		},
	}
	remove.Flags().BoolVar(&removal.Abandon, "abandon", false, "end its unfinished jobs as failed, whatever they do on the site")

	var filter access.Filter
	list := &cobra.Command{
		Use: "list", Short: "List agents", Args: usage.Exactly(0), Example: "  hpcserad agent list --user alice",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpAgents, filter, each(showAgent))
		},
	}
	list.Flags().StringVar(&filter.User, "user", "", "only this user's")
	list.Flags().StringVar(&filter.Site, "site", "", "only at this site")
	return group("agent", "Users' enrolments at sites", create, remove, list)
}

func (p *program) tokenCommand() *cobra.Command {
	var r access.NewToken
	var scope, from string
	create := &cobra.Command{
		Use: "create", Short: "Make a token for a user, a project and a client", Args: usage.Exactly(0),
		Long: "Makes a token. Its text is shown once and kept nowhere; it approves no code.",
		Example: `  hpcserad token create --user alice --project cfd --client gitlab --for ci
  hpcserad token create --user alice --project cfd --client cli --roles 1,4,5,6,7,8 --days 7
  hpcserad token create --user alice --project cfd --client lake --roles GET_JobStatus,POST_Job --site gwdg`,
		RunE: func(c *cobra.Command, _ []string) error {
			r.Scope = hpcsera.Scope(scope)
			if from != "" {
				var err error
				if r.NotBefore, err = time.Parse(time.RFC3339, from); err != nil {
					return usage.Error{Err: fmt.Errorf("--not-before takes a time like 2026-11-22T08:00:00Z, not %q", from)}
				}
			}
			return ask(p, c, admin.OpCreateToken, r, showTokenMade)
		},
	}
	f := create.Flags()
	f.StringVar(&r.User, "user", "", "for whom it acts")
	f.StringVar(&r.Project, "project", "", "the one project that it reaches")
	f.StringVar(&r.Client, "client", "", "who uses it")
	f.StringVar(&r.Roles, "roles", "", "names or numbers: 1 GET_JobStatus, 2 UPDATE_JobStatus, 3 GET_Job, 4 POST_Code, 5 GET_Code, 6 POST_Job, 7 UPDATE_Job, 8 DELETE_Job")
	f.StringVar(&r.Preset, "for", "", "instead of roles: ci (1,6,8), ci-code (1,4,6,8), engine (1,6,7,8) or viewer (1)")
	f.StringVar(&r.Site, "site", "", "only for this site")
	f.StringVar(&scope, "scope", "", "client (default: only this client's jobs and code) or project")
	f.IntVar(&r.Days, "days", 0, "until it ends (default: tokens.days of the server's settings, 30)")
	f.StringVar(&from, "not-before", "", "when it begins to be good, as in 2026-11-22T08:00:00Z (default at once)")
	required(create, "user", "project", "client")

	var filter access.Filter
	list := &cobra.Command{
		Use: "list", Short: "List tokens, without their texts, which nobody has", Args: usage.Exactly(0), Example: "  hpcserad token list --user alice",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpTokens, filter, each(showToken))
		},
	}
	list.Flags().StringVar(&filter.User, "user", "", "only this user's")
	return group("token", "Access for clients", create, p.revokeCommand(), list)
}

func (p *program) revokeCommand() *cobra.Command {
	var many access.Revocations
	revoke := &cobra.Command{
		Use: "revoke ID | --user NAME [--client NAME]", Short: "Revoke tokens from the next request on; their jobs that wait for an agent are held",
		Long: "Revokes one token, or all of a user, or those of them that one client has.",
		Example: "  hpcserad token revoke t_8f2k4m6p8r0t2v4x6z8a\n  hpcserad token revoke t_8f2k4m6p8r0t2v4x6z8a --stop\n" +
			"  hpcserad token revoke --user alice --client gitlab --stop",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && many.User == "" && many.Client == "" || len(args) == 0 && many.User != "" {
				return nil
			}
			return usage.Error{Err: fmt.Errorf("usage: %s", c.UseLine())}
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return ask(p, c, admin.OpRevokeToken, access.Revocation{ID: args[0], Stop: many.Stop}, showToken)
			}
			return ask(p, c, admin.OpRevokeTokens, many, showCount)
		},
	}
	f := revoke.Flags()
	f.BoolVar(&many.Stop, "stop", false, "cancel the jobs that they started")
	f.StringVar(&many.User, "user", "", "all tokens of this user")
	f.StringVar(&many.Client, "client", "", "with --user: only those of this client")
	return revoke
}

func required(c *cobra.Command, flags ...string) {
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		for _, name := range flags {
			if !c.Flags().Changed(name) {
				return usage.Error{Err: errMissing{name, c.CommandPath()}}
			}
		}
		return nil
	}
}

// errMissing is a flag that must be given and was not.
type errMissing struct{ flag, command string }

// Error says what to do.
func (e errMissing) Error() string {
	return "--" + e.flag + " is missing. See: " + e.command + " --help"
}
