package local

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// refusal is what a submit says of a job that it does not take.
type refusal struct{ error }

// Main is the commands of the local batch system: submit, list, cancel, hold,
// release, and run and exec, which are for their own use. It returns the exit
// status: 0 done, 1 failed, 2 wrong usage, 3 refused.
func Main(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{""}
	}
	c := command{verb: args[0], stdout: stdout}
	flags := flag.NewFlagSet("local "+c.verb, flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("dir", "", "folder of the jobs' state")
	slots := flags.Int("slots", 0, "cores for jobs; 0 is all, -1 no limit")
	flags.StringVar(&c.job.Tag, "tag", "", "name of the job")
	flags.StringVar(&c.job.Comment, "comment", "", "the user's name for it")
	flags.StringVar(&c.job.Chdir, "chdir", "", "working directory")
	flags.StringVar(&c.job.Output, "output", "", "file for what the script prints")
	flags.IntVar(&c.job.Cores, "cores", 1, "cores it uses")
	flags.DurationVar(&c.job.Limit, "time", 0, "time limit; 0 is none")
	flags.DurationVar(&c.job.Grace, "grace", 10*time.Second, "between SIGTERM and SIGKILL")
	flags.BoolVar(&c.hold, "hold", false, "hold it")
	if err := flags.Parse(args[1:]); err != nil {
		return 2
	}
	if *slots == 0 {
		*slots = runtime.NumCPU()
	}
	c.args = flags.Args()
	f, err := open(*dir, *slots)
	if err == nil {
		c.folder = f
		err = c.run(context.Background())
	}
	if _, refused := errors.AsType[refusal](err); refused {
		fmt.Fprintln(stderr, err)
		return refusedStatus
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s local %s: %v\n", Command, c.verb, err)
		if c.verb == "exec" {
			return 126 // what shells say of a program that cannot be run
		}
		return 1
	}
	return 0
}

type command struct {
	*folder
	verb   string
	args   []string
	job    job
	hold   bool
	stdout io.Writer
}

func (c *command) run(ctx context.Context) error {
	single := ""
	if len(c.args) == 1 {
		single = c.args[0]
	}
	switch {
	case c.verb == "submit" && single != "":
		return c.submit(ctx, single)
	case c.verb == "list" && len(c.args) == 0:
		return c.list(ctx)
	case c.verb == "cancel":
		return c.each(c.cancel)
	case c.verb == "hold":
		defer c.lock(ctx)() // not while a dispatch has it in hand
		return c.each(c.holdJob)
	case c.verb == "release":
		return errors.Join(c.each(c.release), c.dispatch(ctx))
	case c.verb == "run" && validID(single):
		return c.supervise(single)
	case c.verb == "exec" && validID(single):
		return c.execute(single)
	}
	return errors.New("there is no such command")
}

func (c *command) print(a answer) error {
	a.Done = true
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n", b)
	return err
}

func (c *command) submit(ctx context.Context, script string) error {
	if !hpcsera.ValidID("s", c.job.Tag) {
		return refusal{fmt.Errorf("the name %q is not a submission's id", c.job.Tag)}
	}
	text, err := os.ReadFile(script)
	if err != nil {
		return refusal{fmt.Errorf("the script cannot be read: %w", err)}
	}
	for _, dir := range []string{c.job.Chdir, filepath.Dir(c.job.Output)} {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() || !filepath.IsAbs(dir) {
			return refusal{fmt.Errorf("there is no folder %q", dir)}
		}
	}
	c.job.Cores = max(c.job.Cores, 1)
	c.job.Submitted = time.Now().UTC()
	id, err := c.add(c.job, text, c.hold)
	if err != nil {
		return err
	}
	if err := c.print(answer{ID: id}); err != nil {
		return err
	}
	_ = c.dispatch(ctx) // it is queued, whatever happens now; the next list tries again
	return nil
}

func (c *command) list(ctx context.Context) error {
	if err := errors.Join(c.prune(time.Now()), c.dispatch(ctx)); err != nil {
		return err
	}
	ids, err := c.ids()
	if err != nil {
		return err
	}
	var a answer
	for _, id := range ids {
		x, ok, err := c.look(id)
		if err != nil {
			return err
		}
		if ok {
			a.Jobs = append(a.Jobs, x.entry)
		}
	}
	return c.print(a)
}

// each does something to the jobs named ID/TAG. One that is gone, or has
// another tag, is left alone.
func (c *command) each(do func(found) error) error {
	for _, arg := range c.args {
		id, tag, _ := strings.Cut(arg, "/")
		if !validID(id) {
			return fmt.Errorf("%q is not ID/TAG", arg)
		}
		x, ok, err := c.look(id)
		if err != nil {
			return err
		}
		if ok && x.entry.Tag == tag {
			if err := do(x); err != nil {
				return fmt.Errorf("job %s: %w", id, err)
			}
		}
	}
	return nil
}

func (c *command) holdJob(x found) error {
	if x.State != queued {
		return nil
	}
	return mark(c.path(x.ID, "hold"))
}

func (c *command) release(x found) error {
	if x.State != held {
		return nil
	}
	if err := os.Remove(c.path(x.ID, "hold")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return syncDir(c.path(x.ID))
}

// cancel takes the claim of a job that has not started, so that it never will.
// A running one is told to its supervisor; without supervisor its processes
// are killed here.
func (c *command) cancel(x found) error {
	if x.State == queued || x.State == held {
		first, err := c.put(c.path(x.ID, "claim.json"), c.here)
		if err != nil {
			return err
		}
		if first {
			_, err := c.put(c.path(x.ID, "end.json"), end{State: cancelled, Ended: time.Now().UTC()})
			return err
		}
		var ok bool // it has just started
		if x, ok, err = c.look(x.ID); err != nil || !ok {
			return err
		}
	}
	if x.State != running {
		return nil
	}
	if err := mark(c.path(x.ID, "cancel")); err != nil {
		return err
	}
	if x.claim.alive(c.here) {
		return syscall.Kill(x.claim.PID, syscall.SIGTERM)
	}
	killSession(x.child.PID)
	return nil
}
