package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "status JOB",
		Short:             "Show a job",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		job, err := s.Job(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return a.show(*form, job, func(w io.Writer) { writeJob(w, job) })
	}
	return cmd
}

// writeJob shows all of a job that a person asks for.
func writeJob(w io.Writer, job hpcsera.Job) {
	var values, artifacts []string
	for name, raw := range job.Values {
		values = append(values, clean(name)+"="+clean(hpcsera.EnvironmentText(raw)))
	}
	for _, a := range job.Artifacts {
		artifacts = append(artifacts, clean(a.Path)+" ("+size(a.Size)+")")
	}
	native, exit, approval, started := "", "", "", ""
	if n := job.Native; n != nil {
		native = strings.TrimSpace(clean(n.System) + " " + clean(n.ID) + " " + clean(n.State))
	}
	if job.Exit != nil {
		exit = exitText(*job.Exit)
	}
	if job.Code.Approval != "" {
		approval = ", approved by " + clean(job.Code.Approval)
	}
	if job.Estimated != nil && job.Times.Running == nil {
		started = short(job.Estimated) + " (expected)"
	}
	facts(w,
		"job", job.ID,
		"name", clean(job.Name),
		"state", strings.TrimSpace(string(job.State)+" "+situation(job)),
		"site", clean(job.Site),
		"project", clean(job.Project)+", user "+clean(job.User)+", client "+clean(job.Client),
		"code", clean(job.Code.Digest)+approval,
		"values", strings.Join(sorted(values), " "),
		"asked for", resourcesText(job.Resources, job.Attributes),
		"native", native,
		"nodes", clean(job.Nodes),
		"attempt", attemptText(job),
		"created", short(&job.Times.Created),
		"delivered", short(job.Times.Delivered),
		"queued", short(job.Times.Queued),
		"started", first(short(job.Times.Running), started),
		"ended", short(job.Times.Ended),
		"exit", exit,
		"result", clean(string(job.Result)),
		"artifacts", strings.Join(artifacts, "\n"),
		"directory", directoryText(job),
		"labels", pairsText(job.Labels),
		"annotations", pairsText(job.Annotation),
		"retry of", clean(job.RetryOf),
		"warnings", cleanLines(strings.Join(job.Warnings, "\n")),
	)
}

func attemptText(job hpcsera.Job) string {
	if job.Attempt <= 1 && len(job.Attempts) == 0 {
		return ""
	}
	return plural(job.Attempt, "start") + " so far"
}
