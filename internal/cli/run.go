package cli

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) runCommand() *cobra.Command {
	r := &runner{app: a}
	cmd := &cobra.Command{
		Use:   "run FILE",
		Short: "Run a job and fetch its results",
		Long: `Run a job: submit it, show its states and its output as they come, fetch its
results, and end 0 only if it succeeded. FILE is a job.yaml, or a script for a
batch system whose directives are mapped (.sbatch).

SIGTERM cancels the job. Ctrl-C asks on a terminal and cancels elsewhere. When
the network is lost the job goes on; the command says so and reattaches.

Results go to ./NAME-JOB/ or to --output-dir.

With -o json standard output has one event of the job a line, as it comes, and
at last the job itself as it ended; all else, the job's output too, goes to
standard error.`,
		Example: `  hpcsera run job.yaml -p viscosity=0.02
  hpcsera run job.yaml -o json | jq -r .state
  hpcsera run script.sbatch --site gwdg --queue medium`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeJobFiles,
	}
	r.flags = addSubmitFlags(cmd)
	outputDirFlags(cmd, &r.dir, &r.force)
	f := cmd.Flags()
	f.BoolVar(&r.noFetch, "no-fetch", false, "leave the results on the server")
	f.BoolVar(&r.raw, "raw", false, "show output on a terminal as it is, escape sequences too")
	f.StringVar(&r.timeout, "timeout", "", "how long to watch at most, such as 2h; the job goes on then, and the exit code is 13")
	form := formFlag(cmd, "text, or json for the job's events and end, line by line", []string{"text", "json"})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.lines = *form == "json"
		return r.run(cmd.Context(), args[0])
	}
	return cmd
}

// runner is one hpcsera run.
type runner struct {
	app     *app
	flags   *submitFlags
	dir     string
	force   bool
	noFetch bool
	raw     bool
	timeout string
	lines   bool // -o json
}

func (r *runner) run(ctx context.Context, file string) error {
	a := r.app
	local, err := a.loadJob(file, r.flags.run)
	if err != nil {
		return err
	}
	if r.flags.dryRun {
		return a.showDryRun(local)
	}
	s, err := a.connect(ctx, shortPatience)
	if err != nil {
		return err
	}
	watching, cancel, err := withTimeout(ctx, r.timeout)
	if err != nil {
		return err
	}
	defer cancel()
	job, err := a.submit(ctx, s, local, r.flags)
	if err != nil {
		return err
	}
	a.screen.say("job %s (%s)", a.screen.bold(job.ID), place(job))
	w := a.newWatcher(s, job)
	w.logs, w.raw, w.lines, w.approvals = true, r.raw, r.lines, r.flags.waitApproval
	job, err = r.watch(watching, s, w)
	if errors.Is(err, errUnapproved) {
		// The approval that it had does not hold, or not for the agent that
		// would take it. One more is tried; a second time it is refused.
		if job, err = a.consent(ctx, s, local, job, r.flags); err != nil {
			return err
		}
		w.job = job
		if job, err = r.watch(watching, s, w); errors.Is(err, errUnapproved) {
			return a.takeBack(ctx, s, job, hpcsera.Errorf(hpcsera.ApprovalRefused, "%s", first(job.Message, "the approval does not hold.")))
		}
	}
	if err != nil {
		return a.explainBreak(err, s, job.ID)
	}
	err = r.conclude(ctx, s, job)
	if r.lines {
		err = errors.Join(err, a.showLine(job))
	}
	return err
}

// errDetached says that the user left the job to itself.
var errDetached = errors.New("detached")

// watch follows the job. Signals are its own now: they cancel the job or ask.
func (r *runner) watch(ctx context.Context, s *session, w *watcher) (hpcsera.Job, error) {
	a, id := r.app, w.job.ID
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	signals := make(chan os.Signal, 4)
	defer a.signals.take(func(sig os.Signal) {
		select {
		case signals <- sig:
		default:
		}
	})()
	s, err := a.watching(s)
	if err != nil {
		return w.job, err
	}
	w.s = s
	type outcome struct {
		job hpcsera.Job
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		job, err := w.follow(ctx)
		done <- outcome{job, err}
	}()
	c := &cancellation{app: a, s: s, id: id, result: make(chan error, 1)}
	defer c.stop()
	for {
		select {
		case o := <-done:
			return o.job, o.err
		case err := <-c.result:
			c.answered(err)
		case sig := <-signals:
			switch {
			case c.asked:
				leave(c.insist())
			case sig == syscall.SIGTERM || !a.canAsk():
				c.start(ctx)
			default:
				switch r.askWhat(ctx, signals, id) {
				case "cancel":
					c.start(ctx)
				case "detach":
					leave(errDetached)
				}
			}
		}
	}
}

// cancellation is the request to cancel the watched job. The watch goes on
// beside it and shows when the job has ended.
type cancellation struct {
	app    *app
	s      *session
	id     string
	asked  bool
	done   bool
	result chan error
	end    context.CancelFunc
}

// start asks for the job's end. A signal that comes later does not break the
// request off.
func (c *cancellation) start(ctx context.Context) {
	c.app.screen.say("Cancelling %s. A second signal ends at once.", c.id)
	c.stop()
	ctx, c.end = context.WithCancel(context.WithoutCancel(ctx))
	c.asked, c.done = true, false
	go func() {
		_, err := c.s.Cancel(ctx, c.id)
		c.result <- err
	}()
}

// answered takes the answer. A refusal can be tried again.
func (c *cancellation) answered(err error) {
	c.done = true
	if err != nil {
		c.asked = false
		c.app.screen.say("hpcsera: the job could not be cancelled: %s", fullStop(clean(err.Error())))
	}
}

// insist is how the command ends at once although the job has not: when the
// request was answered, or has had its time.
func (c *cancellation) insist() error {
	if !c.done {
		timer := time.NewTimer(takeBackTime)
		defer timer.Stop()
		select {
		case err := <-c.result:
			if err != nil {
				return &exitError{code: exitCode(err), text: "the job could not be cancelled, so it goes on: " + err.Error()}
			}
		case <-timer.C:
			return &exitError{code: exitUnreachable, text: "the server did not answer the cancellation, so the job may go on: hpcsera cancel " + c.id}
		}
	}
	return &exitError{code: exitCancelled, text: "the cancellation of " + c.id + " was asked for; how it ended was not waited for."}
}

// stop ends a request that nobody waits for any more.
func (c *cancellation) stop() {
	if c.end != nil {
		c.end()
	}
}

// askWhat asks what Ctrl-C is to mean. Nothing else is shown meanwhile. A
// second Ctrl-C detaches, since that loses nothing.
func (r *runner) askWhat(ctx context.Context, signals <-chan os.Signal, id string) string {
	screen := r.app.screen
	screen.mu.Lock()
	defer screen.mu.Unlock()
	screen.prompt("\n%s is not over. [c]ancel it, [d]etach and leave it running, or Enter to go on watching? ", id)
	select {
	case line, ok := <-r.app.input.next():
		answer := strings.ToLower(strings.TrimSpace(line))
		switch {
		case !ok || strings.HasPrefix(answer, "d"):
			return "detach"
		case strings.HasPrefix(answer, "c"):
			return "cancel"
		}
		return ""
	case sig := <-signals:
		screen.prompt("\n")
		if sig == syscall.SIGTERM {
			return "cancel"
		}
		return "detach"
	case <-ctx.Done():
		return ""
	}
}

// conclude fetches the results of a job that has ended and says how it did.
func (r *runner) conclude(ctx context.Context, s *session, job hpcsera.Job) error {
	a := r.app
	fetched := r.fetch(ctx, s, job)
	if job.State == hpcsera.Succeeded && len(job.Result) > 0 && string(job.Result) != "null" {
		a.screen.say("result %s", clean(string(job.Result)))
	}
	a.epitaph(job)
	if job.State != hpcsera.Succeeded {
		if fetched != nil {
			a.screen.say("hpcsera: %s", fullStop(clean(fetched.Error())))
		}
		return ended(job)
	}
	if fetched != nil {
		a.screen.say("%s succeeded, but its results are not all here. Fetch them again: hpcsera fetch %s", job.ID, job.ID)
	}
	return fetched
}

func (r *runner) fetch(ctx context.Context, s *session, job hpcsera.Job) error {
	if r.noFetch || job.Times.Delivered == nil {
		return nil
	}
	list, err := s.Artifacts(ctx, job.ID)
	if err != nil || len(list) == 0 {
		return err
	}
	return r.app.fetch(ctx, s, job, list, r.dir, r.force)
}
