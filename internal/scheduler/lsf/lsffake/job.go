package lsffake

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// job is one job, or one member of an array.
type job struct {
	ID        int       `json:"id"`
	Index     int       `json:"index,omitempty"` // from 1 in an array
	Token     string    `json:"token"`           // random: ids are reused after a crash
	Name      string    `json:"name"`            // without the index
	State     string    `json:"state"`
	User      string    `json:"user"`
	Queue     string    `json:"queue"`
	Project   string    `json:"project"`
	Text      string    `json:"text,omitempty"` // description
	Command   string    `json:"command"`
	Directory string    `json:"directory"`
	Output    string    `json:"output,omitempty"`
	Env       []string  `json:"env"`
	Slots     int       `json:"slots"`
	Limit     int       `json:"limit,omitempty"` // minutes
	Most      int       `json:"most,omitempty"`  // members that may run at once
	Begin     time.Time `json:"begin"`
	Submitted time.Time `json:"submitted"`
	Ended     time.Time `json:"ended"`
	PID       int       `json:"pid,omitempty"` // sbatchd's
	Exit      int       `json:"exit,omitempty"`
	Term      string    `json:"term,omitempty"`
	Events    []string  `json:"events"`
}

// address is how a job is named: 6 or 6[3].
func (j *job) address() string {
	if j.Index == 0 {
		return strconv.Itoa(j.ID)
	}
	return fmt.Sprintf("%d[%d]", j.ID, j.Index)
}

// fullName has a member's index.
func (j *job) fullName() string {
	if j.Index == 0 {
		return j.Name
	}
	return fmt.Sprintf("%s[%d]", j.Name, j.Index)
}

func (j *job) ended() bool { return j.State == "DONE" || j.State == "EXIT" }

// say records an event, whose time each reader prints as it was told to.
func (j *job) say(format string, args ...any) {
	j.Events = append(j.Events, strconv.FormatInt(time.Now().Unix(), 10)+" "+fmt.Sprintf(format, args...))
}

// end is how the job ended; term is TERM_… or empty.
func (j *job) end(exit int, term string) {
	j.State, j.Exit, j.Term, j.Ended = "EXIT", exit, term, time.Now()
	switch {
	case exit == 0 && term == "":
		j.State = "DONE"
		j.say("Done successfully. The CPU time used is 0.1 seconds;")
	case exit == 0:
		j.say("Exited; The CPU time used is 0.0 seconds;")
	default:
		j.say("Exited with exit code %d. The CPU time used is 0.1 seconds;", exit)
	}
	switch {
	case term != "":
		j.say("Completed <exit>; %s;", term)
	case exit != 0:
		j.say("Completed <exit>;")
	}
}

const (
	termOwner  = "TERM_OWNER: job killed by owner"
	termLimit  = "TERM_RUNLIMIT: job killed after reaching LSF run time limit"
	termZombie = "TERM_ZOMBIE: job exited while LSF is not available"
)

// use is how many slots are taken, and how many members of each array run.
type use struct {
	slots   int
	members map[int]int // by the array's id
}

func usage(s *state) use {
	u := use{members: map[int]int{}}
	for _, j := range s.Jobs {
		if j.State == "RUN" {
			u.take(j)
		}
	}
	return u
}

func (u *use) take(j *job) {
	u.slots += j.Slots
	u.members[j.ID]++
}

// waits says why a job is not started, empty when it can be.
func (c *command) waits(u use, j *job) string {
	switch {
	case j.State == "PSUSP":
		return "The job was suspended by the user while pending;"
	case j.State != "PEND":
		return ""
	case time.Now().Before(j.Begin):
		return "The job has a specified start time;"
	case j.Most > 0 && u.members[j.ID] >= j.Most:
		return "The job array has reached its running element limit;"
	case u.slots+j.Slots > c.Slots:
		return "Not enough job slot(s): 1 host;"
	}
	return ""
}

// dispatch starts what can start, and buries jobs whose sbatchd is gone.
func (c *command) dispatch(s *state) error {
	for _, j := range s.Jobs {
		if j.State == "RUN" && errors.Is(syscall.Kill(j.PID, 0), syscall.ESRCH) {
			j.end(1, termZombie)
		}
	}
	u := usage(s)
	for _, j := range s.Jobs {
		if j.State != "PEND" || c.waits(u, j) != "" {
			continue
		}
		cmd := exec.Command("/proc/self/exe", j.Token) //nolint:noctx // it outlives this command and ends with its job
		cmd.Args[0] = c.path("bin", "sbatchd")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		j.State, j.PID = "RUN", cmd.Process.Pid
		u.take(j)
		j.say("Dispatched %d Task(s) on Host(s) <fake1>, Allocated %d Slot(s) on Host(s) <fake1>, Effective RES_REQ <select[type == local] order[r15s:pg] >;", j.Slots, j.Slots)
		if err := cmd.Process.Release(); err != nil {
			return err
		}
	}
	return nil
}

// sbatchd runs one job, whose token it is given, from start to end.
func (c *command) sbatchd(args []string) int {
	var j job
	err := c.update(func(s *state) error { // waits for whoever started it to write it down
		for _, other := range s.Jobs {
			if other.Token == args[0] {
				other.say("Starting (Pid %d);", os.Getpid())
				other.say("Running with execution home </home/%s>, Execution CWD <%s>, Execution Pid <%d>;", other.User, other.Directory, os.Getpid())
				j = *other
			}
		}
		return nil
	})
	if err != nil || j.Token == "" {
		return failure
	}
	exit, term := c.run(&j)
	c.down()
	return c.report(func(s *state) {
		for _, other := range s.Jobs {
			if other.Token == j.Token && other.State == "RUN" {
				other.end(exit, term)
			}
		}
	})
}

func (c *command) report(change func(*state)) int {
	if err := c.update(func(s *state) error { change(s); return nil }); err != nil {
		return c.fail("%v", err)
	}
	return 0
}

// run runs the command in a shell, as LSF does, and returns the exit status
// and why it was ended.
func (c *command) run(j *job) (int, string) {
	output, err := os.OpenFile(j.Output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		output, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	if err != nil {
		return 1, ""
	}
	defer output.Close()
	file := c.path("work", j.Token)
	text := "#!/bin/sh\n\n# LSBATCH: User input\n" + j.Command + "\nExitStat=$?\nwait\nexit $ExitStat\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return 1, ""
	}
	defer os.Remove(file)
	cmd := exec.Command("/bin/sh", file) //nolint:noctx // watch ends it
	cmd.Dir, cmd.Stdout, cmd.Stderr = j.Directory, output, output
	if _, err := os.Stat(j.Directory); err != nil {
		cmd.Dir = "/tmp"
	}
	cmd.Env = append(append([]string{}, j.Env...), "LSB_JOBID="+strconv.Itoa(j.ID), "LSB_JOBINDEX="+strconv.Itoa(j.Index), "LSB_JOBNAME="+j.fullName(),
		"LSB_QUEUE="+j.Queue, "LSB_HOSTS=fake1", "LSB_BATCH_JID="+j.address(), "LSB_OUTPUTFILE="+j.Output, "LS_SUBCWD="+j.Directory, "PWD="+cmd.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 1, ""
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }() // its state says more
	term := c.watch(j, cmd.Process.Pid, done)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind
	exit := cmd.ProcessState.ExitCode()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		exit = 128 + int(status.Signal())
	}
	fmt.Fprintf(output, "\n------------------------------------------------------------\nSender: LSF System <lsfadmin@fake1>\nSubject: Job %s: <%s>\n\nExit %d. %s\n",
		j.address(), j.fullName(), exit, term)
	return exit, term
}

// watch waits for the end, and brings it about at the run limit and when the
// job is killed: all processes of the job get the signals, in turn.
func (c *command) watch(j *job, pid int, done <-chan struct{}) string {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	started := time.Now()
	term := ""
	var steps []syscall.Signal
	var next time.Time
	for {
		select {
		case <-done:
			return term
		case now := <-look.C:
			if _, err := os.Stat(c.path("work", j.Token+".kill")); err == nil && term == "" {
				term, steps, next = termOwner, []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}, now
			}
			if term == "" && j.Limit > 0 && now.Sub(started) > time.Duration(j.Limit)*c.Minute {
				term, steps, next = termLimit, []syscall.Signal{syscall.SIGUSR2, syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL}, now
			}
			if len(steps) > 0 && !now.Before(next) {
				_ = syscall.Kill(-pid, steps[0])
				steps, next = steps[1:], now.Add(c.KillInterval)
			}
		}
	}
}

// matches reports whether a name fits -J's pattern, in which * is anything. A
// pattern without an index means all members of an array.
func matches(pattern string, j *job) bool {
	if pattern == "" {
		return true
	}
	for _, name := range []string{j.Name, j.fullName()} {
		if ok, err := filepath.Match(strings.ReplaceAll(pattern, "[", `\[`), name); ok && err == nil {
			return true
		}
	}
	return false
}
