package scheduler

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// After the end or the killing of a command, its pipes are waited for this
// long: something it started may hold them open.
const pipeDelay = 2 * time.Second

// A process in the kernel's hands (state D: its file system hangs) dies only
// when the kernel lets go of it, maybe never. killDelay after its deadline the
// caller gets its error all the same, and the process is left to a goroutine
// that ends with it. With maxWaiters of them no more commands are started.
const (
	killDelay  = pipeDelay + 3*time.Second
	maxWaiters = 64
)

var errStuck = errors.New("the command cannot be killed")

// await waits for the end of a command, but only so long after the end of ctx.
func await(ctx context.Context, ended <-chan error, delay time.Duration) error {
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return errStuck
	}
}

// waiters adds n to the number of commands whose end is awaited and returns it.
func (s *Scheduler) waiters(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting += n
	return s.waiting
}

// personal are the variables a command gets from the agent's own environment,
// beside Variables. Everything else stays out, above all what changes commands'
// meaning or runs code: LD_*, BASH_ENV, SBATCH_*, SQUEUE_FORMAT.
var personal = []string{"HOME", "USER", "LOGNAME", "TZ"}

// Variables say where batch systems and their settings are.
var Variables = []string{
	"SLURM_CONF",
	"PBS_CONF_FILE", "PBS_SERVER",
	"LSF_ENVDIR", "LSF_SERVERDIR", "LSF_BINDIR", "LSF_LIBDIR",
	"SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT", "SGE_ARCH",
}

// environment returns the variables every command gets. Locale C makes batch
// systems print what parsers know.
func environment(from, path []string) []string {
	env := []string{"PATH=" + strings.Join(path, ":"), "LANG=C", "LC_ALL=C"}
	set := map[string]bool{}
	for _, kv := range from {
		if name, _, ok := strings.Cut(kv, "="); ok && (slices.Contains(personal, name) || slices.Contains(Variables, name)) && !set[name] {
			set[name] = true
			env = append(env, kv)
		}
	}
	if me, err := user.Current(); err == nil { // under cron HOME may be all there is
		for name, value := range map[string]string{"HOME": me.HomeDir, "USER": me.Username, "LOGNAME": me.Username} {
			if !set[name] {
				env = append(env, name+"="+value)
			}
		}
	}
	return env
}

// Ran is a command of the batch system that was run.
type Ran struct {
	Path      string   // of the program; "" where there is none
	Argv, Env []string // as the driver's Call has them
	Output    Output   // nothing, and exit -1, of one that was killed or never ran
	Took      time.Duration
	Err       error // of running it, or of reading what it printed
}

// do runs one call and reads its output.
func do[T any](ctx context.Context, s *Scheduler, k kind, call Call[T]) (T, error) {
	var zero T
	if call.Refusal != nil {
		return zero, call.Refusal
	}
	if s.budget != nil {
		if err := s.budget.wait(ctx, k); err != nil {
			return zero, &Refused{Message: "the agent's budget of commands is used up: " + err.Error(), Throttled: true, Unreached: true}
		}
	}
	if s.room != nil {
		select {
		case s.room <- struct{}{}:
			defer func() { <-s.room }()
		case <-ctx.Done():
			return zero, &Refused{Message: "other commands of the batch system take too long: " + ctx.Err().Error(), Throttled: true, Unreached: true}
		}
	}
	start := time.Now()
	out, err := s.run(ctx, k, call.Argv, call.Env)
	var result T
	if err != nil {
		out.Exit = -1
	} else {
		result, err = call.Parse(out)
	}
	took := time.Since(start)
	if s.cfg.Seen != nil {
		path, _ := s.Command(call.Argv[0]) // err tells of it
		s.cfg.Seen(Ran{Path: path, Argv: call.Argv, Env: call.Env, Output: out, Took: took, Err: err})
	}
	_, refused := errors.AsType[*Refused](err)
	s.count(k, took, err != nil && !(refused && k == submitKind) && !errors.Is(err, ErrNoHistory))
	s.cfg.Log.Debug("batch system command", "kind", string(k), "argv", call.Argv, "exit", out.Exit,
		"stdout_bytes", len(out.Stdout), "took", took, "error", err)
	if err != nil {
		return zero, err
	}
	return result, nil
}

// run executes one command in a process group of its own and kills the whole
// group at the deadline. A *Refused error means that it never ran.
func (s *Scheduler) run(ctx context.Context, k kind, argv, extra []string) (Output, error) {
	path, err := s.Command(argv[0])
	if err != nil {
		return Output{}, &Refused{Message: err.Error(), Throttled: true, Unreached: true}
	}
	if s.waiters(0) >= maxWaiters {
		return Output{}, &Refused{Message: "commands of the batch system hang and cannot be killed", Throttled: true, Unreached: true}
	}
	timeout := s.cfg.QueryTimeout
	if k == submitKind {
		timeout = s.cfg.SubmitTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stdout, stderr := &bounded{limit: s.cfg.MaxOutput, full: cancel}, &bounded{limit: s.cfg.MaxOutput, full: cancel}
	cmd := exec.CommandContext(limited, path)
	cmd.Args = append([]string{path}, argv[1:]...)
	cmd.Env = slices.Concat(s.env, extra)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process.Pid) }
	cmd.WaitDelay = pipeDelay
	if err := cmd.Start(); err != nil {
		return Output{}, &Refused{Message: err.Error(), Throttled: true, Unreached: true}
	}
	name := filepath.Base(path)
	ended := make(chan error, 1)
	s.waiters(1)
	go func() { ended <- cmd.Wait(); s.waiters(-1) }() // ends with the process, see stuck
	if err = await(limited, ended, killDelay); errors.Is(err, errStuck) {
		return Output{}, unavailable("%s did not answer within %v and cannot be killed: its file system hangs.", name, timeout)
	}
	out := Output{Stdout: stdout.buf.Bytes(), Stderr: stderr.buf.Bytes(), Exit: cmd.ProcessState.ExitCode()}
	if err == nil {
		return out, nil
	}
	switch exit, _ := errors.AsType[*exec.ExitError](err); {
	case stdout.over || stderr.over:
		return Output{}, unavailable("%s printed more than %d bytes.", name, s.cfg.MaxOutput)
	case ctx.Err() != nil:
		return Output{}, unavailable("%s was interrupted: %w", name, context.Cause(ctx))
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return Output{}, unavailable("%s did not answer within %v and was killed.", name, timeout)
	case exit != nil && exit.ExitCode() < 0:
		return Output{}, unavailable("%s: %v.%s", name, exit, words(out.Stderr))
	case exit == nil:
		return Output{}, unavailable("%s: %w", name, err)
	}
	return out, nil // a status other than 0 is the parser's to judge
}

func unavailable(format string, args ...any) error {
	return hpcsera.Errorf(hpcsera.Unavailable, format, args...)
}

func words(stderr []byte) string {
	if s := FirstLine(stderr); s != "" {
		return " " + s
	}
	return ""
}

// FirstLine returns the first line of text that says something, cut to 500
// bytes, for errors.
func FirstLine(text []byte) string {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return strings.ToValidUTF8(string(line[:min(len(line), 500)]), "")
		}
	}
	return ""
}

// killGroup ends a command with everything it started. A command that ended
// by itself in the meantime was not killed.
func killGroup(pid int) error {
	err := syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Command finds the absolute path of one of the batch system's commands. It is
// done for every call: a file system that was away may be back.
func (s *Scheduler) Command(name string) (string, error) {
	if p, ok := s.cfg.Commands[name]; ok {
		if !filepath.IsAbs(p) {
			return "", hpcsera.Errorf(hpcsera.InvalidField, "the path of %s is not absolute: %s.", name, p).At("commands." + name)
		}
		return p, nil
	}
	if p := Look(name, s.cfg.Path); p != "" {
		return p, nil
	}
	return "", hpcsera.Errorf(hpcsera.Unavailable, "there is no command %s in %s.", name, strings.Join(s.cfg.Path, ":")).
		Hint("Name its path in the agent's configuration.")
}

// Look returns the path of the program that a command's name means in folders,
// "" where none has it. Folders are absolute: what lies where a process happens
// to be is nobody's command.
func Look(name string, folders []string) string {
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); filepath.IsAbs(folder) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// bounded keeps what a command prints, up to a limit: a list that was cut off
// must not be read as a whole one.
type bounded struct {
	buf   bytes.Buffer
	limit int64
	over  bool
	full  func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(b.buf.Len()+len(p)) > b.limit {
		b.over = true
		b.full()
		return 0, errors.New("too much output")
	}
	return b.buf.Write(p)
}
