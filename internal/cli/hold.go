package cli

import (
	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) holdCommand() *cobra.Command {
	return a.patchCommand("hold JOB...", "Hold jobs, so that they do not start", hpcsera.JobPatch{Hold: new(true)})
}

func (a *app) releaseCommand() *cobra.Command {
	return a.patchCommand("release JOB...", "Release jobs that are held", hpcsera.JobPatch{Hold: new(false)})
}

func (a *app) patchCommand(use, about string, patch hpcsera.JobPatch) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: about, Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeJobs}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		return a.each(args, *form, func(id string) (hpcsera.Job, error) { return s.Patch(cmd.Context(), id, patch) })
	}
	return cmd
}
