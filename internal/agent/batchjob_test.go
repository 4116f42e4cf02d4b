package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/agent/wrapper"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// program is what a step's user code does.
type program struct {
	exit      hpcsera.Exit
	run       time.Duration
	onTerm    string // "": dies of SIGTERM; "exit 0", "exit 3"
	diesFirst bool   // with its node in its first run, and is queued once more
}

type batchJob struct {
	id        string
	tag       string
	member    int
	requeue   bool
	submitted time.Time
	cluster   *cluster

	now       scheduler.Status
	past      []seen
	held      bool
	cancelled bool
	lost      bool // the controller forgot it
	poke      chan struct{}
}

// seen is a status and since when it holds.
type seen struct {
	at     time.Time
	status scheduler.Status
	known  bool
}

// set changes what the batch system says of a job. The caller holds mu.
func (j *batchJob) set(p scheduler.Phase, native string, reason hpcsera.Reason, exit *hpcsera.Exit) {
	restarts := j.now.Restarts
	j.now = scheduler.Status{Ref: scheduler.Ref{ID: j.id, Tag: j.tag, Member: j.member}, Phase: p, Native: native, Reason: reason, Exit: exit, Submitted: j.submitted, Restarts: restarts}
	j.past = append(j.past, seen{time.Now(), j.now, true})
	j.cluster.w.say("batch job %s of %s: %s %s", j.id, j.tag, native, reason)
}

// as returns what was true at a moment.
func (j *batchJob) as(at time.Time) (scheduler.Status, bool) {
	for i := len(j.past) - 1; i >= 0; i-- {
		if s := j.past[i]; !s.at.After(at) {
			if s.status.Phase == scheduler.PhaseEnded && at.Sub(s.at) > j.cluster.faults.memory {
				return scheduler.Status{}, false
			}
			return s.status, s.known
		}
	}
	return scheduler.Status{}, false
}

func (j *batchJob) wake() {
	select {
	case j.poke <- struct{}{}:
	default:
	}
}

// live is a job's whole life in the batch system.
func (j *batchJob) live() {
	c := j.cluster
	for j.waitInQueue() {
		c.mu.Lock()
		j.set(scheduler.PhaseRunning, "RUNNING", "", nil)
		c.mu.Unlock()
		phase, native, reason, exit := j.run()
		c.mu.Lock()
		if phase == scheduler.PhaseQueued {
			j.now.Restarts++
		}
		j.set(phase, native, reason, exit)
		c.mu.Unlock()
		if phase == scheduler.PhaseEnded {
			return
		}
	}
}

// waitInQueue is true when the job is to run.
func (j *batchJob) waitInQueue() bool {
	c, w := j.cluster, j.cluster.w
	timer := time.NewTimer(w.within(c.tuned().queue))
	defer timer.Stop()
	due := false
	for {
		select {
		case <-timer.C:
			due = true
		case <-j.poke:
		case <-c.ctx.Done():
			return false
		}
		c.mu.Lock()
		switch {
		case j.cancelled:
			j.set(scheduler.PhaseEnded, "CANCELLED", hpcsera.CancelledBySite, nil)
			c.mu.Unlock()
			return false
		case due && w.chance(c.faults.lose):
			w.say("the controller forgets batch job %s", j.id)
			j.lost = true
			c.mu.Unlock()
			return false
		case due && !j.held && !c.out:
			c.mu.Unlock()
			return true
		case due && c.out:
			timer.Reset(10 * time.Second)
		}
		c.mu.Unlock()
	}
}

// run is the batch job's script: the wrapper, step by step as the real one.
func (j *batchJob) run() (scheduler.Phase, string, hpcsera.Reason, *hpcsera.Exit) {
	c, w := j.cluster, j.cluster.w
	f := c.tuned()
	killed := func() (scheduler.Phase, string, hpcsera.Reason, *hpcsera.Exit) {
		if j.requeue && w.chance(2) {
			return scheduler.PhaseQueued, "PENDING", hpcsera.WaitingForResources, nil
		}
		if w.chance(2) {
			return scheduler.PhaseEnded, "NODE_FAIL", hpcsera.NodeFailure, nil
		}
		return scheduler.PhaseEnded, "FAILED", "", &hpcsera.Exit{Signal: int(syscall.SIGKILL)}
	}
	if !c.pause(w.within(3*time.Second)) || w.chance(f.kill) {
		return killed()
	}
	sub, err := w.spool.Submission(j.tag)
	if err != nil {
		return scheduler.PhaseEnded, "FAILED", "", &hpcsera.Exit{Code: 1}
	}
	m := sub.Members[j.member]
	task, err := w.spool.Task(j.tag, m)
	if err != nil {
		return scheduler.PhaseEnded, "FAILED", "", &hpcsera.Exit{Code: 1}
	}
	n, won := j.claim(m, task.Requeue)
	if !won {
		return scheduler.PhaseEnded, "FAILED", "", &hpcsera.Exit{Code: wrapper.NotRun}
	}
	w.mu.Lock()
	w.claims[fmt.Sprintf("%s/%d", m.Job, m.Step)]++
	w.mu.Unlock()
	if !c.pause(w.within(100*time.Millisecond)) || w.chance(f.kill) {
		w.say("job %s start %d: killed between claim and program", m.Job, n)
		return killed()
	}
	r := w.begins(m, n, j.id)
	exit, how := j.program(m, r)
	finish := func() {
		w.mu.Lock()
		r.ended, r.exit = time.Now(), exit
		w.mu.Unlock()
	}
	if how == "died" {
		finish()
		return scheduler.PhaseQueued, "PENDING", hpcsera.WaitingForResources, nil
	}
	if how == "killed" || w.chance(f.kill) {
		finish()
		w.say("job %s start %d: killed without a record", m.Job, n)
		return killed()
	}
	w.mu.Lock()
	r.ended, r.exit, r.recorded, r.told = time.Now(), exit, true, how != "ended"
	w.mu.Unlock()
	if err := w.spool.Finish(m.Job, m.Step, n, spool.End{Exit: exit, Told: r.told, Started: r.started, Ended: time.Now(), Host: "node1"}); err != nil {
		w.broken("end record: %v", err)
	}
	w.say("job %s step %d start %d ENDED %+v (%s)", m.Job, m.Step, n, exit, how)
	j.loseBell(m, n, "end")
	c.pause(w.within(time.Second))
	switch {
	case how == "requeued":
		return scheduler.PhaseQueued, "PENDING", hpcsera.WaitingForResources, nil
	case how == "cancelled":
		return scheduler.PhaseEnded, "CANCELLED", hpcsera.CancelledBySite, &exit
	case exit == (hpcsera.Exit{}):
		return scheduler.PhaseEnded, "COMPLETED", "", &exit
	case j.requeue && w.chance(f.requeue):
		return scheduler.PhaseQueued, "PENDING", hpcsera.WaitingForResources, nil
	}
	return scheduler.PhaseEnded, "FAILED", "", &exit
}

// claim is the wrapper's.
func (j *batchJob) claim(m spool.Member, requeue bool) (int, bool) {
	w := j.cluster.w
	mine := spool.Claim{Owner: spool.OwnerWrapper, Tag: j.tag, Member: j.member, NativeID: j.id, Host: "node1", At: time.Now()}
	for n := m.N; ; n++ {
		owner, won, err := w.spool.Take(m.Job, m.Step, n, mine)
		if err != nil {
			w.broken("claim: %v", err)
			return n, false
		}
		if won {
			j.loseBell(m, n, "start")
			return n, true
		}
		if owner.Owner != spool.OwnerWrapper || owner.Tag != j.tag || owner.NativeID != j.id || !requeue {
			w.say("batch job %s runs nothing: start %d is %s's", j.id, n, owner.Owner)
			return n, false
		}
		if s, _, _, err := w.spool.Latest(m.Job, m.Step, n); err == nil && s.End.Done() {
			w.say("batch job %s runs nothing: start %d has succeeded", j.id, n)
			return n, false
		}
	}
}

func (j *batchJob) loseBell(m spool.Member, n int, what string) {
	w := j.cluster.w
	if w.chance(j.cluster.tuned().bell) {
		w.say("job %s start %d: its %s does not ring", m.Job, n, what)
		_ = os.Remove(filepath.Join(w.spool.Dir(), "inbox", fmt.Sprintf("%s.%d.%d.%s", m.Job, m.Step, n, what)))
	}
}

// program runs user code: it prints, works, and ends in one of many ways.
func (j *batchJob) program(m spool.Member, r *run) (exit hpcsera.Exit, how string) {
	c, w := j.cluster, j.cluster.w
	c.mu.Lock()
	p, planned := c.programs[m.Job]
	c.mu.Unlock()
	if !planned {
		p = program{run: w.within(c.tuned().run), onTerm: []string{"", "", "exit 0", "exit 3"}[w.roll(4)]}
		p.exit = []hpcsera.Exit{{}, {}, {}, {Code: 3}, {Signal: 11}}[w.roll(5)]
	}
	if err := spool.Folder(filepath.Join(w.real, "work", m.Job)); err != nil {
		w.broken("%v", err)
	}
	j.print(m, r, fmt.Sprintf("step %d start %d begins\n", r.step, r.n))
	requeued := j.requeue && w.chance(c.tuned().requeue)
	if requeued {
		p.run /= 2
	}
	timer := time.NewTimer(p.run)
	defer timer.Stop()
	for over := false; !over; {
		select {
		case <-timer.C:
			over = true
		case <-j.poke:
			c.mu.Lock()
			cancelled := j.cancelled
			c.mu.Unlock()
			if cancelled {
				j.print(m, r, "terminated\n")
				exit := map[string]hpcsera.Exit{"": {Signal: int(syscall.SIGTERM)}, "exit 0": {}, "exit 3": {Code: 3}}[p.onTerm]
				if exit == (hpcsera.Exit{}) {
					j.leave(m, r) // it ends well early
				}
				return exit, "cancelled"
			}
		case <-c.ctx.Done():
			return hpcsera.Exit{Signal: 9}, "killed"
		}
	}
	if p.diesFirst && r.n == 1 {
		return hpcsera.Exit{Signal: 9}, "died"
	}
	if requeued {
		switch w.roll(3) {
		case 0:
			return hpcsera.Exit{Signal: 9}, "killed"
		case 1:
			j.leave(m, r) // it saved its work
			return hpcsera.Exit{}, "requeued"
		}
		return hpcsera.Exit{Signal: int(syscall.SIGTERM)}, "requeued"
	}
	j.print(m, r, fmt.Sprintf("step %d start %d ends\n", r.step, r.n))
	if p.exit == (hpcsera.Exit{}) {
		j.leave(m, r)
	}
	return p.exit, "ended"
}

func (j *batchJob) print(m spool.Member, r *run, text string) {
	w := j.cluster.w
	f, err := os.OpenFile(w.spool.OutputPath(m.Job, m.Step, r.n, "stdout"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		f.Close()
	}
	if err != nil {
		w.broken("output: %v", err)
	}
	r.output += text
}

// leave writes what a program leaves behind.
func (j *batchJob) leave(m spool.Member, r *run) {
	w := j.cluster.w
	dir := filepath.Join(w.real, "work", m.Job)
	b, _ := json.Marshal(map[string]int{"attempt": r.attempt})
	for name, text := range map[string]string{"result.json": string(b), fmt.Sprintf("out-%d.txt", r.step): strings.Repeat(m.Job, 10)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			w.broken("%v", err)
		}
	}
}
