package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/operator"
	"github.com/hpcsera/hpcsera/internal/records"
)

// ask sends one operation to the running program and shows the answer.
func ask[Ans any](p *program, c *cobra.Command, op string, request any, show func(io.Writer, Ans) error) error {
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
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(answer)
	}
	return show(p.stdout, answer)
}

// group makes a command that only holds others.
func (p *program) group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(commands...)
	c.PersistentFlags().StringVarP(&p.output, "output", "o", "table", "table or json")
	// A group without one of its commands is a mistake, not a question.
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage.Unknown(c, args[0])
		}
		return c.Help()
	}
	return c
}

// table writes rows below a head.
func table(w io.Writer, head []string, rows [][]string) error {
	tab := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tab, strings.Join(head, "\t"))
	for _, row := range rows {
		fmt.Fprintln(tab, strings.Join(row, "\t"))
	}
	return tab.Flush()
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func showUsers(w io.Writer, users []authapp.User) error {
	var rows [][]string
	for _, u := range users {
		kind, state := "user", "enabled"
		if u.Operator {
			kind = "operator"
		}
		if u.Disabled {
			state = "disabled"
		}
		rows = append(rows, []string{u.Name, kind, state, u.Institution, day(u.Created)})
	}
	return table(w, []string{"NAME", "KIND", "STATE", "INSTITUTION", "CREATED"}, rows)
}

func showInvitation(w io.Writer, i authapp.Invitation) error {
	_, err := fmt.Fprintf(w, "This link makes the account %s, once, within three days. Hand it to nobody else:\n\n  %s\n", i.Name, i.Link)
	return err
}

func (p *program) userCommand() *cobra.Command {
	invite := func(use, short string, n *authapp.NewUser) *cobra.Command {
		c := &cobra.Command{
			Use: use + " NAME", Short: short, Args: usage.Exactly(1), Example: "  hpcsera-auth user " + use + " alice --mail alice@example.org",
			RunE: func(c *cobra.Command, args []string) error {
				n.Name = args[0]
				return ask(p, c, authapp.OpInvite, *n, showInvitation)
			},
		}
		c.Flags().StringVar(&n.Mail, "mail", "", "for notices about the account")
		c.Flags().BoolVar(&n.Operator, "operator", false, "manages people; decides only for themselves, as everybody")
		return c
	}
	list := &cobra.Command{
		Use: "list", Short: "List users", Args: usage.Exactly(0), Example: "  hpcsera-auth user list -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, authapp.OpUsers, authapp.None{}, showUsers)
		},
	}
	set := func(verb, short string, disabled bool) *cobra.Command {
		return &cobra.Command{
			Use: verb + " NAME", Short: short, Args: usage.Exactly(1), Example: "  hpcsera-auth user " + verb + " alice",
			RunE: func(c *cobra.Command, args []string) error {
				return ask(p, c, authapp.OpSetUser, authapp.Switch{Name: args[0], Disabled: disabled},
					func(w io.Writer, u authapp.User) error { return showUsers(w, []authapp.User{u}) })
			},
		}
	}
	return p.group("user", "People",
		invite("add", "Invite somebody new: prints a link that works once", &authapp.NewUser{New: true}),
		invite("invite", "Invite again: a new password and new factors, by a link that works once", &authapp.NewUser{}), list,
		set("disable", "Disable a user: sessions end, and every deployment is told", true), set("enable", "Enable a user again", false))
}

func showDeployments(w io.Writer, all []authapp.Deployment) error {
	var rows [][]string
	for _, d := range all {
		rows = append(rows, []string{d.Name, d.URL, day(d.Created), strings.Join(d.Keys, " ")})
	}
	return table(w, []string{"NAME", "URL", "CREATED", "KEYS"}, rows)
}

func (p *program) deploymentCommand() *cobra.Command {
	var address, file string
	add := &cobra.Command{
		Use: "add NAME", Short: "Register an API server, or another key of one", Args: usage.Exactly(1),
		Long: "Registers an API server under the name that users will see. Its key is the public one, as JWK, that\n" +
			"hpcserad auth key prints. Adding another key keeps the one before, so that keys change without a gap.",
		Example: "  hpcsera-auth deployment add hpc --url https://hpc.example.org --key hpc.jwk",
		RunE: func(c *cobra.Command, args []string) error {
			key, err := os.ReadFile(file)
			if err != nil {
				return fmt.Errorf("read the deployment's key: %w", err)
			}
			return ask(p, c, authapp.OpAddDeployment, consent.NewDeployment{Name: args[0], URL: address, Key: string(key)},
				func(w io.Writer, d authapp.Deployment) error { return showDeployments(w, []authapp.Deployment{d}) })
		},
	}
	add.Flags().StringVar(&address, "url", "", "where users and agents reach it")
	add.Flags().StringVar(&file, "key", "", "file with its public key as JWK")
	for _, name := range []string{"url", "key"} {
		_ = add.MarkFlagRequired(name) // it exists: it was made above
	}
	list := &cobra.Command{
		Use: "list", Short: "List API servers", Args: usage.Exactly(0), Example: "  hpcsera-auth deployment list",
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, authapp.OpDeployments, authapp.None{}, showDeployments)
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Take a registration back, with all that waits", Args: usage.Exactly(1), Example: "  hpcsera-auth deployment remove hpc",
		RunE: func(c *cobra.Command, args []string) error {
			return ask(p, c, authapp.OpRemoveDeployment, authapp.Named{Name: args[0]}, func(w io.Writer, n authapp.Named) error {
				_, err := fmt.Fprintf(w, "removed %s\n", n.Name)
				return err
			})
		},
	}
	return p.group("deployment", "API servers that this Auth app serves", add, list, remove)
}

// auditPage is how many lines are fetched at once.
const auditPage = 1000

func (p *program) auditCommand() *cobra.Command {
	var heads []string
	verify := &cobra.Command{
		Use: "verify", Short: "Check that the audit log was not changed", Args: usage.Exactly(0),
		Long:    "Reads the whole audit log and checks its chain. A head that was kept earlier (syslog has one an hour) shows\nwhether something was cut off or written anew; the whole line, which is signed, also that nobody else wrote it.",
		Example: "  hpcsera-auth audit verify --head 4711:5ae3…",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := command.Heads(heads...); err != nil {
				return err
			}
			return ask(p, c, authapp.OpVerifyAudit, authapp.VerifyAudit{Heads: heads}, func(w io.Writer, h authapp.AuditHead) error {
				_, err := fmt.Fprintf(w, "unchanged up to %s\n", h.Head)
				if err == nil && h.Signed > 0 {
					_, err = fmt.Fprintf(w, "%d of the heads that were kept: signed by this Auth app\n", h.Signed)
				}
				return err
			})
		},
	}
	verify.Flags().StringArrayVar(&heads, "head", nil, "NUMBER:HASH or the whole line that was kept; may be given often")
	var after int64
	export := &cobra.Command{
		Use: "export", Short: "Write the audit log as JSON lines", Args: usage.Exactly(0),
		Example: "  hpcsera-auth audit export > audit.jsonl\n  hpcsera-auth audit export --after 4711",
		RunE:    func(c *cobra.Command, _ []string) error { return p.exportAudit(c, after) },
	}
	export.Flags().Int64Var(&after, "after", 0, "only lines after this number")
	return p.group("audit", "What happened", verify, export)
}

func (p *program) exportAudit(c *cobra.Command, after int64) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	enc := json.NewEncoder(p.stdout)
	for {
		lines, err := operator.Call[[]records.AuditLine](c.Context(), cfg.AdminSocket, authapp.OpAudit, authapp.AuditPage{After: after, Limit: auditPage})
		if err != nil {
			return err
		}
		for _, l := range lines {
			if err := enc.Encode(l); err != nil {
				return err
			}
			after = l.Number
		}
		if len(lines) < auditPage {
			return nil
		}
	}
}
