package cli

import (
	"io"

	"github.com/spf13/cobra"
)

func (a *app) convertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "convert FILE.sbatch",
		Short: "Print the job.yaml that a batch script stands for",
		Long: `Print the job.yaml that a batch script stands for, as hpcsera run FILE would
submit it. Directives that cannot be mapped are refused with their line.`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeJobFiles,
	}
	run := addRunFlags(cmd.Flags())
	form := outputFlag(cmd)
	cmd.Flags().Lookup("output").DefValue, *form = "yaml", "yaml"
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		local, err := a.loadJob(args[0], run)
		if err != nil {
			return err
		}
		if *form == "json" {
			return a.show(*form, local.Spec, nil)
		}
		text, err := local.YAML()
		if err != nil {
			return err
		}
		return a.show("table", nil, func(w io.Writer) {
			if a.screen.outTTY {
				text = []byte(cleanLines(string(text)))
			}
			_, _ = w.Write(text) // as fmt.Fprint: nobody to tell
		})
	}
	return cmd
}
