package pbsfake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killDelay is between SIGTERM and SIGKILL: 10 s in PBS.
const killDelay = time.Second

// mom runs one job from its start to its end.
func (c *command) mom() int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	id := c.args[0]
	var j *job
	var cmd *exec.Cmd
	var startErr error
	if c.with(func(s *server) int {
		if j = s.find(id); j == nil || j.State != "R" || j.Supervisor != os.Getpid() {
			return 1
		}
		if j.DeletedBy == "" && !j.Rerun {
			if cmd, startErr = j.launch(s.dir); startErr == nil {
				j.Session = cmd.Process.Pid
			}
		}
		s.changed = true
		return 0
	}) != 0 {
		return 1
	}
	timedOut := false
	if cmd != nil && startErr == nil {
		timedOut = j.await(cmd, signals)
	}
	return c.with(func(s *server) int {
		now := s.find(id)
		if now == nil {
			return 1
		}
		now.over(s, cmd, startErr, timedOut)
		return 0
	})
}

// launch starts the job's command in its home folder, with PBS's variables and
// nothing else.
func (j *job) launch(dir string) (*exec.Cmd, error) {
	spooled, err := os.OpenFile(j.spooled(dir), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer spooled.Close()
	cmd := exec.CommandContext(context.Background(), j.Argv[0], j.Argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.Home, spooled, spooled
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	for _, v := range j.Variables {
		cmd.Env = append(cmd.Env, v[0]+"="+v[1])
	}
	cmd.Env = append(cmd.Env, "HOME="+j.Home, "LOGNAME="+login(j.Owner), "USER="+login(j.Owner), "PATH=/usr/bin:/bin", "SHELL=/bin/sh",
		"PBS_ENVIRONMENT=PBS_BATCH", "PBS_JOBID="+j.id(), "PBS_JOBNAME="+j.Name, "PBS_QUEUE="+j.Queue, "PBS_JOBDIR="+j.Home,
		"PBS_NODENUM=0", "PBS_TASKNUM=1", "NCPUS="+strconv.Itoa(j.Cores), "OMP_NUM_THREADS="+strconv.Itoa(j.Cores))
	if j.Member {
		cmd.Env = append(cmd.Env, fmt.Sprintf("PBS_ARRAY_ID=%d[].%s", j.Number, serverName), "PBS_ARRAY_INDEX="+strconv.Itoa(j.Index))
	}
	return cmd, cmd.Start()
}

func (j *job) spooled(dir string) string { return filepath.Join(dir, "spool", j.id()+".OU") }

// await waits for the end of the job's command, and brings it about when the time
// is up or the server asks for it.
func (j *job) await(cmd *exec.Cmd, signals <-chan os.Signal) (timedOut bool) {
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }() // its state says more
	var limit, kill <-chan time.Time
	if j.Walltime > 0 {
		limit = time.After(j.Walltime)
	}
	for {
		select {
		case <-done:
			killSession(cmd.Process.Pid)
			return timedOut
		case <-limit:
			timedOut = true
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			kill = time.After(killDelay)
		case <-signals:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			kill = time.After(killDelay)
		case <-kill:
			killSession(cmd.Process.Pid)
		}
	}
}

// over records the end of a run, with its status as PBS encodes it.
func (j *job) over(s *server, cmd *exec.Cmd, startErr error, timedOut bool) {
	if j.Rerun {
		j.NotBefore, j.Rerun, j.Supervisor, j.Session = time.Now().Add(rerunPause), false, 0, 0
		s.set(j, "Q", 10)
		return
	}
	j.deliver(s.dir)
	exit, substate, how := 0, 92, "finished"
	switch {
	case timedOut:
		exit, substate, how = -29, 93, "exceeded resource walltime"
	case j.DeletedBy != "":
		exit, substate, how = 256+int(syscall.SIGTERM), 91, "terminated by "+j.DeletedBy
	case startErr != nil || cmd == nil:
		exit, substate, how = 254, 93, "failed"
	default:
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			exit = 256 + int(status.Signal())
		} else {
			exit = cmd.ProcessState.ExitCode()
		}
		if exit != 0 {
			substate, how = 93, "failed"
		}
	}
	s.end(j, substate, &exit, how)
}

// deliver copies the output to where it was asked for.
func (j *job) deliver(dir string) {
	b, err := os.ReadFile(j.spooled(dir))
	_, path, _ := strings.Cut(j.Output, ":")
	if err == nil && path != "" {
		_ = os.WriteFile(path, b, 0o600) // PBS would send mail
	}
	os.Remove(j.spooled(dir))
}

// killSession ends every process of a session, until there is none.
func killSession(leader int) {
	for range 50 {
		found := false
		stats, _ := filepath.Glob("/proc/[0-9]*/stat")
		for _, file := range stats {
			b, err := os.ReadFile(file)
			_, rest, ok := strings.Cut(string(b), ") ")
			fields := strings.Fields(rest)
			if err != nil || !ok || len(fields) < 4 || fields[3] != strconv.Itoa(leader) || fields[0] == "Z" || fields[0] == "X" {
				continue
			}
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && !errors.Is(syscall.Kill(pid, syscall.SIGKILL), syscall.ESRCH) {
				found = true
			}
		}
		if !found {
			return
		}
	}
}

func login(owner string) string {
	name, _, _ := strings.Cut(owner, "@")
	return name
}
