package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) waitCommand() *cobra.Command {
	var timeout string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "wait JOB...",
		Short: "Wait for jobs to end",
		Long: `Wait for jobs to end, and show each state as it comes. The exit code is 0 when
all succeeded, else that of the first that did not: 10 failed, 11 cancelled,
13 when --timeout came first; the jobs go on then.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	cmd.Flags().StringVar(&timeout, "timeout", "", "how long to wait at most, such as 2h (for ever)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no states")
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel, err := withTimeout(cmd.Context(), timeout)
		if err != nil {
			return err
		}
		defer cancel()
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		if s, err = a.watching(s); err != nil {
			return err
		}
		var worst error
		var jobs []hpcsera.Job
		for _, id := range args {
			job, err := a.waitFor(ctx, s, id, quiet)
			if err != nil {
				return a.explainBreak(err, s, id)
			}
			jobs = append(jobs, job)
			a.epitaph(job)
			if worst == nil {
				worst = ended(job)
			}
		}
		err = a.show(*form, hpcsera.JobList{Jobs: jobs}, func(io.Writer) {})
		return errors.Join(worst, err)
	}
	return cmd
}

func (a *app) waitFor(ctx context.Context, s *session, id string, quiet bool) (hpcsera.Job, error) {
	job, err := s.Job(ctx, id)
	if err != nil {
		return job, err
	}
	w := a.newWatcher(s, job)
	w.quiet, w.approvals = quiet, true
	return w.follow(ctx)
}

// errTimeout says that --timeout came before the job's end.
var errTimeout = errors.New("the time is over")

// withTimeout bounds ctx by a --timeout flag.
func withTimeout(ctx context.Context, text string) (context.Context, context.CancelFunc, error) {
	if text == "" {
		return ctx, func() {}, nil
	}
	d, err := hpcsera.ParseDuration(text)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("--timeout: %w", err)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(d), errTimeout)
	return ctx, cancel, nil
}

// explainBreak says, when watching ended before the job did, that the job
// goes on and how to come back to it.
func (a *app) explainBreak(err error, s *session, id string) error {
	var stopped interrupted
	switch {
	case errors.Is(err, errTimeout):
		return &exitError{code: exitTimedOut, text: fmt.Sprintf("the time is over and %s has not ended. The job goes on: hpcsera wait %s", id, id)}
	case errors.Is(err, errDetached):
		return &exitError{code: exitTimedOut, text: fmt.Sprintf("detached. The job goes on: hpcsera wait %s", id)}
	case errors.As(err, &stopped):
		a.screen.say("The job goes on: hpcsera wait %s", id)
		return &exitError{code: exitSignal + int(stopped.signal)}
	case exitCode(err) == exitUnreachable:
		a.screen.say("What the job does is not known here; it goes on without us. Come back to it: hpcsera wait %s", id)
	case exitCode(err) != exitCancelled:
		a.screen.say("The job goes on; this command does not: hpcsera wait %s", id)
	}
	return err
}
