package pbsfake

import (
	"context"
	"encoding/json"
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

const (
	serverName  = "vm"
	version     = "23.06.06"
	rerunPause  = 5 * time.Second // until a requeued job is tried again
	maxSequence = 9999999
)

// server is the state, under its lock.
type server struct {
	Config  `json:"-"`
	dir     string
	changed bool
	Next    int    `json:"next"`
	Jobs    []*job `json:"jobs"`
}

// job is a job, an array, or an array's member.
type job struct {
	Number int  `json:"number"`
	Array  bool `json:"array,omitempty"` // it is the array itself
	Member bool `json:"member,omitempty"`
	Index  int  `json:"index,omitempty"`
	First  int  `json:"first,omitempty"`
	Last   int  `json:"last,omitempty"`

	Name, Owner, Queue, Account, Project string
	Home, WorkDir, Output, Error, Join   string
	Rerunnable                           bool
	Begin                                time.Time
	Walltime                             time.Duration
	Resources                            map[string]string // Resource_List
	Cores                                int
	Argv                                 []string
	Script                               bool // Argv[0] is the spooled script
	Variables                            [][2]string
	Arguments                            string // Submit_arguments
	Priority                             string

	State      string
	Substate   int
	Holds      string
	Comment    string
	Runs       int
	Exit       *int
	Created    time.Time
	Modified   time.Time
	Started    time.Time
	Ended      time.Time
	Supervisor int
	Session    int
	DeletedBy  string
	Rerun      bool
	NotBefore  time.Time
}

// with runs do under the lock, after everything has started that can.
func (c *command) with(do func(*server) int) int {
	lock, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		defer lock.Close()
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	s := &server{dir: c.dir}
	if err == nil {
		err = errors.Join(read(filepath.Join(c.dir, "config.json"), &s.Config), read(filepath.Join(c.dir, "state.json"), s))
	}
	if err != nil {
		return c.fail(1, "%v", err)
	}
	if s.Down && c.name != "pbs_mom" {
		fmt.Fprintln(c.stderr, "Connection refused")
		return c.fail(noServer, "cannot connect to server %s (errno=%d)", serverName, noServer)
	}
	s.schedule()
	status := do(s)
	s.schedule()
	if !s.changed {
		return status
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = replace(filepath.Join(c.dir, "state.json"), b)
	}
	if err != nil {
		return c.fail(1, "%v", err)
	}
	return status
}

func read(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func replace(path string, b []byte) error {
	tmp := path + "." + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (j *job) id() string {
	switch {
	case j.Array:
		return fmt.Sprintf("%d[].%s", j.Number, serverName)
	case j.Member:
		return fmt.Sprintf("%d[%d].%s", j.Number, j.Index, serverName)
	}
	return fmt.Sprintf("%d.%s", j.Number, serverName)
}

// find returns the job with an id, with or without the server's name.
func (s *server) find(id string) *job {
	for _, j := range s.Jobs {
		if j.id() == full(id) {
			return j
		}
	}
	return nil
}

func full(id string) string {
	if strings.Contains(id, ".") {
		return id
	}
	return id + "." + serverName
}

// members returns those of an array.
func (s *server) members(array *job) []*job {
	var list []*job
	for _, j := range s.Jobs {
		if j.Member && j.Number == array.Number {
			list = append(list, j)
		}
	}
	return list
}

func (s *server) parent(j *job) *job {
	for _, p := range s.Jobs {
		if p.Array && p.Number == j.Number {
			return p
		}
	}
	return nil
}

func (s *server) cores() int {
	if s.Cores == 0 {
		return 64
	}
	return s.Cores
}

// set notes that a job has another state.
func (s *server) set(j *job, state string, substate int) {
	j.State, j.Substate, j.Modified = state, substate, time.Now()
	s.changed = true
}

// schedule starts jobs, oldest first.
func (s *server) schedule() {
	now := time.Now()
	used := 0
	for _, j := range s.Jobs {
		if (j.State == "R" || j.State == "E") && !j.Array {
			used += j.Cores
		}
		if j.State == "W" && !j.Begin.After(now) {
			s.set(j, "Q", 10)
		}
	}
	for _, j := range s.Jobs {
		if j.State != "Q" || j.Array || j.NotBefore.After(now) {
			continue
		}
		if p := s.parent(j); j.Member && (p == nil || p.State != "Q" && p.State != "B") {
			continue
		}
		var comment string
		switch {
		case j.Cores > s.cores():
			comment = fmt.Sprintf("Can Never Run: Insufficient amount of resource: ncpus (R: %d A: %d T: %d)", j.Cores, s.cores()-used, s.cores())
		case used+j.Cores > s.cores():
			comment = fmt.Sprintf("Not Running: Insufficient amount of resource: ncpus (R: %d A: %d T: %d)", j.Cores, s.cores()-used, s.cores())
		default:
			s.start(j)
			used += j.Cores
			continue
		}
		if j.Comment != comment {
			j.Comment, s.changed = comment, true
		}
	}
}

// start starts a job's pbs_mom, which waits for the lock.
func (s *server) start(j *job) {
	mom := filepath.Join(s.dir, "bin", "pbs_mom")
	cmd := exec.CommandContext(context.Background(), mom, j.id())
	cmd.Args[0] = mom
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		j.Comment, s.changed = "Not Running: "+err.Error(), true
		return
	}
	j.Runs++
	j.Started, j.Supervisor, j.DeletedBy, j.Rerun = time.Now(), cmd.Process.Pid, "", false
	j.Comment = "Job run at " + j.Started.Format("Mon Jan 02 at 15:04") + " on " + j.vnode()
	s.set(j, "R", 42)
	if p := s.parent(j); j.Member && p.State == "Q" {
		p.Started, p.Comment = j.Started, "Job Array Began at "+j.Started.Format("Mon Jan 02 at 15:04")
		s.set(p, "B", 70)
	}
	_ = cmd.Process.Release()
}

func (j *job) vnode() string { return fmt.Sprintf("(%s:ncpus=%d)", serverName, j.Cores) }

// end records that a job is over. A member stays X until its array is over; what
// is over is forgotten where no history is kept.
func (s *server) end(j *job, substate int, exit *int, how string) {
	j.Exit, j.Ended, j.Supervisor, j.Session = exit, time.Now(), 0, 0
	if j.Comment != "" {
		how = j.Comment + " and " + how
	}
	j.Comment = how
	if !j.Member {
		s.set(j, "F", substate)
		s.forget()
		return
	}
	s.set(j, "X", substate)
	array := s.parent(j)
	worst := 92
	for _, m := range s.members(array) {
		if m.State != "X" {
			return
		}
		if m.Substate != 92 {
			worst = 93
		}
	}
	if array.DeletedBy != "" {
		worst = 91
	}
	for _, m := range s.members(array) {
		s.set(m, "F", m.Substate)
	}
	zero := 0
	if array.State == "B" {
		array.Exit = &zero // whatever the members' are
	}
	array.Ended = time.Now()
	s.set(array, "F", worst)
	s.forget()
}

func (s *server) forget() {
	if s.History {
		return
	}
	var keep []*job
	for _, j := range s.Jobs {
		if j.State != "F" {
			keep = append(keep, j)
		}
	}
	s.Jobs, s.changed = keep, true
}
