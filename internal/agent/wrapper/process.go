package wrapper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// stage is what the wrapper's processes have in common: where they work, what
// they print into, and the signals of the batch system, which each of them
// gets while it runs.
type stage struct {
	dir            string
	stdout, stderr *os.File
	signals        <-chan os.Signal
	told           bool // a signal came
}

// process is one command of a start.
type process struct {
	argv, env      []string
	stdout, stderr io.Writer
	timeout        time.Duration // 0: none
	most           int64         // bytes that it may print; 0: no limit
}

// ending is how a process ended.
type ending struct {
	exit    hpcsera.Exit
	timeout bool // it was ended at its timeout
	output  bool // it was ended because it had printed too much
}

// run runs a process in a group of its own. An error says that it did not run.
func (s *stage) run(p process) (end ending, err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if p.most > 0 {
		left := &allowance{left: p.most, over: func() { cancel(errTooMuch) }}
		p.stdout, p.stderr = &rationed{p.stdout, left}, &rationed{p.stderr, left}
	}
	if p.timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, p.timeout)
		defer stop()
	}
	program, err := find(p.argv[0], p.env)
	if err != nil {
		return end, err
	}
	cmd := exec.CommandContext(ctx, program, p.argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, p.env, p.stdout, p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return end, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case signal := <-s.signals:
			s.told = true
			_ = syscall.Kill(-cmd.Process.Pid, signal.(syscall.Signal))
		case err := <-done:
			end.timeout, end.output = errors.Is(ctx.Err(), context.DeadlineExceeded), errors.Is(context.Cause(ctx), errTooMuch)
			if end.timeout || end.output {
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			}
			// The batch system signals all processes of a job, one after the other.
			s.told = s.told || len(s.signals) > 0
			end.exit, err = exitOf(cmd, err)
			return end, err
		}
	}
}

// exitOf tells how a command ended; waited is what waiting for it returned.
func exitOf(cmd *exec.Cmd, waited error) (hpcsera.Exit, error) {
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return hpcsera.Exit{}, fmt.Errorf("its end is not known: %w", waited)
	case status.Signaled():
		return hpcsera.Exit{Signal: int(status.Signal())}, nil
	}
	return hpcsera.Exit{Code: status.ExitStatus()}, nil
}

// find looks a command up where the process itself would: in the PATH that it
// gets, not in the wrapper's own.
func find(name string, env []string) (string, error) {
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	path := ""
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, "PATH="); ok {
			path = value
		}
	}
	if file := scheduler.Look(name, filepath.SplitList(path)); file != "" {
		return file, nil
	}
	return "", fmt.Errorf("there is no command %s in %s", name, path)
}

// tail is the end of what was printed to a file since it had a size: the words
// of whoever failed.
func tail(f *os.File, since int64) string {
	const most = 2000
	r, err := os.Open(f.Name())
	if err != nil {
		return ""
	}
	defer r.Close()
	size := fileSize(f)
	from := max(since, size-most)
	b := make([]byte, size-from)
	read, _ := r.ReadAt(b, from)
	return strings.TrimSpace(strings.ToValidUTF8(string(b[:read]), "\ufffd"))
}

func fileSize(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

// outputs opens the files that a start prints into.
func (w *wrapper) outputs(n int) (stdout, stderr *os.File, err error) {
	open := func(stream string) (*os.File, error) {
		return os.OpenFile(w.spool.OutputPath(w.member.Job, w.member.Step, n, stream), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	if stdout, err = open("stdout"); err != nil {
		return nil, nil, err
	}
	if stderr, err = open("stderr"); err != nil {
		stdout.Close()
		return nil, nil, err
	}
	return stdout, stderr, nil
}

var errTooMuch = errors.New("it printed too much")

// allowance is what both streams of a process may still take.
type allowance struct {
	mu   sync.Mutex
	left int64
	over func()
}

// rationed writes what the allowance permits and swallows the rest, so that the
// process can be told to end instead of hanging in a write.
type rationed struct {
	to   io.Writer
	from *allowance
}

func (r *rationed) Write(b []byte) (int, error) {
	r.from.mu.Lock()
	defer r.from.mu.Unlock()
	fits := b[:min(int64(len(b)), r.from.left)]
	r.from.left -= int64(len(fits))
	if len(fits) < len(b) {
		r.from.over()
	}
	if _, err := r.to.Write(fits); err != nil {
		return 0, err
	}
	return len(b), nil
}

// failed is the end of a start whose program was not begun.
func failed(end spool.End, err error) spool.End {
	end.Failure, end.Exit.Code, end.Ended = err.Error(), 126, time.Now().UTC()
	return end
}
