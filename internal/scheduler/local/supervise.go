package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// thisProgram is what /proc/self/exe runs: the same file, even when the one at
// its path was replaced meanwhile.
const thisProgram = "/proc/self/exe"

// again is a call of this program's own command. It outlives its caller and is
// bound to no context: it ends with its job.
func (f *folder) again(verb, id string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), thisProgram, "local", verb, "--dir="+f.dir, "--slots="+strconv.Itoa(f.slots), id)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// dispatch starts what can start: the oldest first, and none before one that
// waits for more slots, or large jobs would wait for ever.
func (f *folder) dispatch(ctx context.Context) error {
	defer f.lock(ctx)()
	ids, err := f.ids()
	if err != nil {
		return err
	}
	used := 0
	var waiting []found
	for _, id := range ids {
		x, ok, err := f.look(id)
		if err != nil {
			return err
		}
		switch {
		case ok && x.State == running:
			used += f.share(x.spec)
		case ok && x.State == queued:
			waiting = append(waiting, x)
		}
	}
	for _, x := range waiting {
		if f.slots >= 0 && used+f.share(x.spec) > f.slots {
			return nil
		}
		if err := f.start(x.ID); err != nil {
			return err
		}
		used += f.share(x.spec)
	}
	return nil
}

// share is how many slots a job takes: at most all.
func (f *folder) share(j job) int {
	if f.slots < 0 {
		return 0
	}
	return min(j.Cores, f.slots)
}

// start starts a supervisor and waits until it has its claim, so that the next
// to count the slots sees it.
func (f *folder) start(id string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := f.again("run", id)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{w}
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		return err
	}
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = r.Read(make([]byte, 1)) // the claim, or the end of the process
	return cmd.Process.Release()
}

// supervise runs one job from claim to end. It is a process of its own.
func (f *folder) supervise(id string) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	me, err := self()
	if err != nil {
		return err
	}
	first, err := f.put(f.path(id, "claim.json"), me)
	claimed := os.NewFile(3, "claimed")
	claimed.Close()
	if err != nil || !first {
		return err
	}
	j, _, err := load[job](f.path(id, "job.json"))
	if err != nil {
		return err
	}
	e := f.runScript(id, j, signals)
	e.Ended = time.Now().UTC()
	if err := f.record(id, e); err != nil {
		return err
	}
	return f.dispatch(context.Background())
}

// record writes the end. On a full disk it goes on trying, for until then the
// job counts as running, which is better than lost.
func (f *folder) record(id string, e end) error {
	again := time.NewTicker(5 * time.Second)
	defer again.Stop()
	for range 720 {
		_, err := f.put(f.path(id, "end.json"), e)
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && !errors.Is(err, syscall.EIO) {
			return err
		}
		<-again.C
	}
	return errors.New("no space for the record of the end")
}

// runScript runs the script and tells how it ended.
func (f *folder) runScript(id string, j job, signals <-chan os.Signal) end {
	output, err := os.OpenFile(j.Output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return end{State: failure, Message: fmt.Sprintf("It was not run: %v", err), Exit: &hpcsera.Exit{Code: 126}}
	}
	defer output.Close()
	cmd := f.again("exec", id)
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.Chdir, output, output
	if err := cmd.Start(); err != nil {
		return end{State: failure, Message: fmt.Sprintf("It was not run: %v", err), Exit: &hpcsera.Exit{Code: 126}}
	}
	done := make(chan struct{}) // watch returns only after it
	go func() {
		defer close(done)
		_ = cmd.Wait() // its state says more
	}()
	e := f.watch(id, j, cmd.Process.Pid, signals, done)
	killSession(cmd.Process.Pid) // what the script left behind
	if e.State != "" {
		return e
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		return end{State: failure, Exit: &hpcsera.Exit{Signal: int(status.Signal())}}
	case status.ExitStatus() != 0:
		return end{State: failure, Exit: &hpcsera.Exit{Code: status.ExitStatus()}}
	}
	return end{State: completed, Exit: &hpcsera.Exit{}}
}

// watch waits for the script's end and brings it about when the time is up or
// the job is cancelled. The result has a State only then.
func (f *folder) watch(id string, j job, pid int, signals <-chan os.Signal, done <-chan struct{}) end {
	var limit, kill <-chan time.Time
	if j.Limit > 0 {
		timer := time.NewTimer(j.Limit)
		defer timer.Stop()
		limit = timer.C
	}
	look := time.NewTicker(time.Second) // for a cancel whose signal came to nothing
	defer look.Stop()
	var result end
	stop := func(e end) {
		if result.State != "" {
			return
		}
		result = e
		terminate(pid)
		kill = time.After(j.Grace)
	}
	for {
		select {
		case <-done:
			return result
		case <-limit:
			stop(end{State: timedOut, Message: fmt.Sprintf("It was ended after its time limit of %v.", hpcsera.Duration(j.Limit))})
		case <-look.C:
			if marked(f.path(id, "cancel")) {
				stop(end{State: cancelled})
			}
		case s := <-signals:
			if marked(f.path(id, "cancel")) {
				stop(end{State: cancelled})
			} else {
				stop(end{State: cancelled, BySite: true, Message: fmt.Sprintf("Its supervisor was told to end: %v.", s)})
			}
		case <-kill:
			killSession(pid)
		}
	}
}

// execute becomes the script: it records itself as the script's process, and
// is replaced by the script, which so has the recorded process id.
func (f *folder) execute(id string) error {
	me, err := self()
	if err != nil {
		return err
	}
	first, err := f.put(f.path(id, "child.json"), me)
	if err != nil {
		return err
	}
	if !first {
		return errors.New("this job was given up before its script could start")
	}
	script := f.path(id, "script")
	return fmt.Errorf("the script cannot be run: %w", syscall.Exec(script, []string{script}, append(os.Environ(), JobVariable+"="+filepath.Base(id))))
}
