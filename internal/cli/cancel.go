package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) cancelCommand() *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "cancel JOB...",
		Short: "Cancel jobs",
		Long: `Cancel jobs. A job that ends first keeps its real end; one that has ended
is left as it is. With --purge, jobs that have ended are erased with their
output.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "erase jobs that have ended")
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		if !purge {
			return a.each(args, *form, func(id string) (hpcsera.Job, error) { return s.Cancel(cmd.Context(), id) })
		}
		var failed error
		for _, id := range args {
			if err := s.Purge(cmd.Context(), id); err != nil {
				failed = errors.Join(failed, named(id, err))
				continue
			}
			a.screen.say("%s is erased.", clean(id))
		}
		return failed
	}
	return cmd
}

// each acts on jobs one after another and shows what became of them. One that
// is refused does not keep the others from being acted on.
func (a *app) each(ids []string, form string, act func(string) (hpcsera.Job, error)) error {
	jobs := []hpcsera.Job{}
	var failed error
	for _, id := range ids {
		job, err := act(id)
		if err != nil {
			failed = errors.Join(failed, named(id, err))
			continue
		}
		jobs = append(jobs, job)
	}
	var err error
	if len(jobs) > 0 {
		err = a.show(form, hpcsera.JobList{Jobs: jobs}, func(w io.Writer) { writeJobs(w, jobs) })
	}
	if form == "table" {
		for _, job := range jobs {
			switch {
			case job.State.Final() || job.Times.Delivered == nil:
			case job.Desired == hpcsera.DesiredCancel:
				a.screen.say("%s: asked for; its agent carries it out. hpcsera wait %s tells when.", job.ID, job.ID)
			case job.Desired == hpcsera.DesiredHold && job.State != hpcsera.Held, job.Desired == hpcsera.DesiredRun && job.State == hpcsera.Held:
				a.screen.say("%s: asked for; its agent carries it out. hpcsera events -f %s tells when.", job.ID, job.ID)
			}
		}
	}
	return errors.Join(err, failed)
}

// named puts the job's id in front of an error about it.
func named(id string, err error) error {
	var own *hpcsera.Error
	if !errors.As(err, &own) {
		return err
	}
	copied := *own
	copied.Message = id + ": " + own.Message
	return &copied
}
