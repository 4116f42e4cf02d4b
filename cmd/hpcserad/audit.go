package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/internal/admin"
	"github.com/hpcsera/hpcsera/internal/audit"
	"github.com/hpcsera/hpcsera/internal/operator"
)

func (p *program) auditCommand() *cobra.Command {
	var check audit.Verification
	verify := &cobra.Command{
		Use: "verify", Short: "Check that no line of the audit log was changed, dropped or made anew", Args: command.Exactly(0),
		Long: "Checks the whole chain. A chain that was made anew as a whole is consistent: give a head\n" +
			"that went to syslog, and the log must hold it. Heads are signed by the key that hpcserad auth key\n" +
			"prints; the whole line shows also that nobody else wrote it.",
		Example: "  hpcserad audit verify\n  hpcserad audit verify --head 4711:9f2c…\n" +
			`  hpcserad audit verify --head "$(grep -h 'hpcsera audit head' /var/log/auth.log | tail -n 1)"`,
		RunE: func(c *cobra.Command, _ []string) error {
			return ask(p, c, admin.OpVerifyAudit, check, func(v audit.Verified) table {
				words := "Every line is as it was written.\n"
				if v.Signed {
					words += "The head that was kept has this server's signature.\n"
				}
				return table{head: []string{"LINES", "HEAD"}, rows: [][]string{{number(v.Lines), v.Head}}, below: words}
			})
		},
	}
	verify.Flags().StringVar(&check.Head, "head", "", "NUMBER:HASH or the whole line, as it went to syslog")

	var pages audit.Pages
	export := &cobra.Command{
		Use: "export", Short: "Print the audit log, one JSON object per line", Args: command.Exactly(0),
		Example: "  hpcserad audit export > audit.jsonl\n  hpcserad audit export --after 4711",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			out := json.NewEncoder(p.stdout)
			for {
				lines, err := operator.Call[[]hpcsera.AuditLine](c.Context(), cfg.AdminSocket, admin.OpAudit, pages)
				if err != nil || len(lines) == 0 {
					return err
				}
				for _, line := range lines {
					if err := out.Encode(line); err != nil {
						return err
					}
				}
				pages.After = lines[len(lines)-1].Number
			}
		},
	}
	export.Flags().Int64Var(&pages.After, "after", 0, "only lines after this number")
	return group("audit", "The audit log", verify, export)
}
