package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) retryCommand() *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:               "retry JOB",
		Short:             "Run a job anew that has ended",
		Long:              "Make a new job like one that has ended, with retry_of. Its id goes to standard output.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	cmd.Flags().StringVar(&key, "idempotency-key", "", "text that makes the request safe to repeat (random, or from CI_JOB_ID)")
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		if key == "" {
			key = a.idempotencyKey([]byte("retry " + args[0]))
		}
		job, err := s.Retry(cmd.Context(), args[0], key)
		if err != nil {
			return err
		}
		return a.showSubmitted(*form, job)
	}
	return cmd
}

// showSubmitted prints a new job's id for scripts and says the rest beside it.
func (a *app) showSubmitted(form string, job hpcsera.Job) error {
	if form == "table" {
		a.screen.say("%s. Next: hpcsera wait %s", a.screen.headline(job), job.ID)
		for _, warning := range job.Warnings {
			a.screen.say("warning: %s", clean(warning))
		}
	}
	return a.show(form, job, func(w io.Writer) { fmt.Fprintln(w, clean(job.ID)) })
}
