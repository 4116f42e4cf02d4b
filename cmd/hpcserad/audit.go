package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/admin"
	"github.com/hpcsera/hpcsera/internal/audit"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/operator"
	"github.com/hpcsera/hpcsera/internal/records"
)

func (p *program) auditCommand() *cobra.Command {
	return group("audit", "The audit log", p.verifyCommand(), p.exportCommand())
}

func (p *program) verifyCommand() *cobra.Command {
	var check audit.Verification
	var inside bool
	c := &cobra.Command{
		Use: "verify", Short: "Check that no line of the audit log was changed, dropped or made anew", Args: usage.Exactly(0),
		Long: "Checks the whole chain. A chain that was made anew as a whole is consistent: give a head\n" +
			"that went to syslog, and the log must hold it. Heads are signed by the key that hpcserad auth key\n" +
			"prints; the whole line shows also that nobody else wrote it. Where there is no syslog, the line\n" +
			"of the server's own log does.",
		Example: "  hpcserad audit verify\n  hpcserad audit verify --head 4711:9f2c…\n" +
			`  hpcserad audit verify --head "$(grep -h 'hpcsera audit head' /var/log/auth.log | tail -n 1)"` +
			"\n" + `  hpcserad audit verify --auth --head "$(grep -h 'hpcsera-auth audit head' /var/log/auth.log | tail -n 1)"`,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("head") {
				if err := command.Heads(check.Head); err != nil {
					return err
				}
			}
			if inside {
				return p.verifyInside(c, check.Head)
			}
			return ask(p, c, admin.OpVerifyAudit, check, func(v audit.Verified) table { return showVerified(v.Lines, v.Head, v.Signed, "this server") })
		},
	}
	c.Flags().StringVar(&check.Head, "head", "", "NUMBER:HASH or the whole line, as it went to syslog")
	insideFlag(c, &inside)
	return c
}

func showVerified(lines int64, head string, signed bool, by string) table {
	words := "Every line is as it was written.\n"
	if signed {
		words += "The head that was kept has " + by + "'s signature.\n"
	}
	return table{head: []string{"LINES", "HEAD"}, rows: [][]string{{number(lines), head}}, below: words}
}

func insideFlag(c *cobra.Command, inside *bool) {
	c.Flags().BoolVar(inside, "auth", false, "the log of the Auth app inside the server")
}

// needInside refuses to ask a server for what an Auth app of its own has.
func needInside(cfg config) error {
	if cfg.Auth.URL == "" {
		return nil
	}
	return hpcsera.Errorf(hpcsera.NotFound, "no Auth app is inside this server: people decide at %s, which keeps its log itself.", cfg.Auth.URL).
		Hint("On its host: hpcsera-auth audit.")
}

func (p *program) verifyInside(c *cobra.Command, head string) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	if err := needInside(cfg); err != nil {
		return err
	}
	r := authapp.VerifyAudit{}
	if head != "" {
		r.Heads = []string{head}
	}
	return ask(p, c, insideAudit+authapp.OpVerifyAudit, r, func(h authapp.AuditHead) table {
		end, _ := records.ParseHead(h.Head) // an empty log has none
		return showVerified(end.Number, h.Head, h.Signed > 0, "the Auth app")
	})
}

func (p *program) exportCommand() *cobra.Command {
	var after int64
	var inside bool
	c := &cobra.Command{
		Use: "export", Short: "Print the audit log, one JSON object per line", Args: usage.Exactly(0),
		Example: "  hpcserad audit export > audit.jsonl\n  hpcserad audit export --after 4711\n  hpcserad audit export --auth > auth.jsonl",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			if inside {
				if err := needInside(cfg); err != nil {
					return err
				}
				return export(c.Context(), p, after, func(ctx context.Context, after int64) ([]records.AuditLine, error) {
					return operator.Call[[]records.AuditLine](ctx, cfg.AdminSocket, insideAudit+authapp.OpAudit, authapp.AuditPage{After: after, Limit: 1000})
				}, func(l records.AuditLine) int64 { return l.Number })
			}
			return export(c.Context(), p, after, func(ctx context.Context, after int64) ([]hpcsera.AuditLine, error) {
				return operator.Call[[]hpcsera.AuditLine](ctx, cfg.AdminSocket, admin.OpAudit, audit.Pages{After: after})
			}, func(l hpcsera.AuditLine) int64 { return l.Number })
		},
	}
	c.Flags().Int64Var(&after, "after", 0, "only lines after this number")
	insideFlag(c, &inside)
	return c
}

// export prints page after page until there is none.
func export[Line any](ctx context.Context, p *program, after int64, page func(context.Context, int64) ([]Line, error), number func(Line) int64) error {
	out := json.NewEncoder(p.stdout)
	for {
		lines, err := page(ctx, after)
		if err != nil || len(lines) == 0 {
			return err
		}
		for _, line := range lines {
			if err := out.Encode(line); err != nil {
				return err
			}
			after = number(line)
		}
	}
}
