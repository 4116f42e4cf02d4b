package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// killPoint is a moment of a job's way at which agent or server are killed.
type killPoint struct {
	name string
	at   string // the failpoint
	// The batch system starts the job only after some seconds: else a start that
	// is seen soon takes the place of the fact that the job was queued.
	later bool
}

// agentPoints are where the agent is killed, or stands while the server is.
var agentPoints = []killPoint{
	{"before the journal entry of the order", "agent.before-journal.order", false},
	{"after the journal entry of the order", "agent.after-journal.order", false},
	{"before the journal entry that counts the run", "agent.before-journal.run", false},
	{"before the journal entry of the submission", "agent.before-journal.submit", false},
	{"after the journal entry of the submission, before sbatch", "agent.before-submit", false},
	{"sbatch returned, before its answer is recorded", "agent.after-submit", false},
	{"answer of sbatch recorded, before the report", "agent.before-report.queued", true},
	{"before the journal entry of the end", "agent.before-journal.outcome", false},
	{"after the journal entry of the end", "agent.after-journal.outcome", false},
	{"before the last report", "agent.before-report.succeeded", false},
	{"before the journal entry that a report was answered", "agent.before-journal.sent", false},
}

// lostAnswers are where only the agent's death loses something: the answer has
// left the server.
var lostAnswers = []killPoint{
	{"report applied, its answer lost", "agent.after-report.queued", true},
	{"last report applied, its answer lost", "agent.after-report.succeeded", false},
}

// commits are the server's: it is killed before one, and after it, which loses
// the answer.
var commits = []killPoint{
	{"the accepted job", "job.state.pending", false},
	{"the job's delivery", "job.order.pending", false},
	{"the report that it is queued", "job.state.queued", true},
	{"the report that it is running", "job.state.running", false},
	{"the last report", "job.state.succeeded", false},
}

// TestKillTable kills agent and server at every point of a job's way and
// shows that its program ran once.
func TestKillTable(t *testing.T) {
	slurmConf(t)
	for _, p := range slices.Concat(agentPoints, lostAnswers) {
		t.Run(p.at+"/agent", func(t *testing.T) {
			t.Parallel()
			killAgentAt(t, p)
		})
	}
	for _, p := range agentPoints {
		t.Run(p.at+"/server", func(t *testing.T) {
			t.Parallel()
			killServerWhileAgentIsAt(t, p)
		})
	}
	for _, p := range commits {
		for _, when := range []string{"before", "after"} {
			at := "server." + when + "-commit." + p.at
			t.Run(at, func(t *testing.T) {
				t.Parallel()
				d := newDeployment(t, "", "")
				killServerDuring(t, d, newLogin(t, d, "slurm"), killPoint{commitName(when, p.name), at, p.later})
			})
		}
	}
}

// commitName names a point at the server in the table.
func commitName(when, what string) string {
	if when == "after" {
		return "after the commit of " + what + ", its answer lost"
	}
	return when + " the commit of " + what
}

// victim signs the code that the kill tests run.
func (l *login) victim(t *testing.T, p killPoint) string {
	t.Helper()
	if p.later {
		return l.approveLater(t, "kill", "now+3", marking("sleep 1"))
	}
	return l.approve(t, manifest("kill", marking("sleep 1")))
}

func killAgentAt(t *testing.T, p killPoint) {
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	id := l.submit(t, l.victim(t, p))
	first := l.startAgent(t, p.at+"=kill")
	eventually(t, 60*time.Second, "the agent killed at "+p.at, func() bool {
		return first.dead() || d.job(id).State.Final()
	})
	select {
	case <-first.done:
	case <-time.After(5 * time.Second): // the job was seen to end before the agent was
		t.Fatalf("the agent never passed %s\n%s", p.at, first.log)
	}
	l.startAgent(t, "")
	l.expectOnce(t, id, p.name, "agent")
}

// killServerWhileAgentIsAt kills the server while the agent stands at a point,
// and lets the agent go on when a new server answers.
func killServerWhileAgentIsAt(t *testing.T, p killPoint) {
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	gate := filepath.Join(l.home, "gate")
	id := l.submit(t, l.victim(t, p))
	agent := l.startAgent(t, p.at+"=pause:"+gate)
	eventually(t, 60*time.Second, "the agent at "+p.at, func() bool { return exists(gate + ".here") })
	d.killServer()
	d.startServer("")
	write(t, gate, "", 0o644)
	l.expectOnce(t, id, p.name, "server")
	if agent.dead() {
		t.Errorf("the agent ended with its server: %v\n%s", agent.err, agent.log)
	}
}

// killServer ends the server with SIGKILL.
func (d *deployment) killServer() {
	d.t.Helper()
	d.server.kill()
	<-d.server.done
}

// killServerDuring restarts the server once with a failpoint, before anything
// is submitted, and again when it has died there.
func killServerDuring(t *testing.T, d *deployment, l *login, p killPoint) {
	t.Helper()
	code := l.victim(t, p)
	d.stopServer()
	d.startServer(p.at + "=kill")
	died := make(chan struct{})
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	victim := d.server
	go func() {
		select {
		case <-victim.done:
			close(died)
			d.restartQuietly()
		case <-stop:
		}
	}()
	l.startAgent(t, "")
	id := l.submit(t, code)
	l.expectOnce(t, id, p.name, "server")
	select {
	case <-died:
	default:
		t.Fatalf("the server never passed %s", p.at)
	}
}

// restartQuietly starts the server again; whoever waits for it tries again.
func (d *deployment) restartQuietly() {
	p := startCommand(d.t, nil, append(os.Environ(), d.extra...), d.hpcserad(), "serve", "--config", d.config)
	d.mu.Lock()
	d.server = p
	d.mu.Unlock()
}

// expectOnce waits for the job's end and until nothing is left that could run
// its program again, and then counts.
func (l *login) expectOnce(t *testing.T, id, point, victim string) {
	t.Helper()
	j := l.d.await(id, 90*time.Second)
	l.expectNothingLeft(t, id)
	runs := l.runs(t, id)
	row(point, victim, runs, j)
	if j.State != hpcsera.Succeeded || runs != 1 || j.Attempt != 1 {
		t.Errorf("%s: job is %s (%s: %s), ran %d times in attempt %d, want succeeded, once, 1\nagent:\n%s", point, j.State, j.Reason, j.Message, runs, j.Attempt, l.agent.log)
	}
}

// expectNothingLeft waits until no doorbell of the job rings and no submission
// of it stands in the queue, where it could still run the program.
func (l *login) expectNothingLeft(t *testing.T, id string) {
	t.Helper()
	tags := l.submissions(t, id)
	if len(tags) == 0 {
		t.Errorf("job %s has no submission in the spool, want at least one", id)
		return
	}
	var queued string
	eventually(t, 60*time.Second, "no submission of "+id+" in the queue", func() bool {
		queued = strings.TrimSpace(slurm(t, "squeue", "--noheader", "--name="+strings.Join(tags, ","), "--format=%i %j %T"))
		return queued == ""
	})
	eventually(t, 20*time.Second, "no doorbell of "+id+" in the inbox", func() bool {
		rings, err := filepath.Glob(filepath.Join(l.spool, "inbox", id+".*"))
		return err == nil && len(rings) == 0
	})
}

// submissions returns the tags of everything that was, or may have been,
// submitted for a job.
func (l *login) submissions(t *testing.T, id string) []string {
	t.Helper()
	s, err := spool.Open(l.spool)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(l.spool, "submissions"))
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, e := range entries {
		sub, err := s.Submission(e.Name())
		if os.IsNotExist(err) {
			continue // its writer was killed, so it was never handed over
		}
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(sub.Members, func(m spool.Member) bool { return m.Job == id }) {
			tags = append(tags, sub.Tag)
		}
	}
	return tags
}

// hangingSbatch is a submit command that does not answer in time and queues
// the job all the same, later.
func hangingSbatch(t *testing.T, l *login, after time.Duration) string {
	t.Helper()
	path := filepath.Join(l.home, "sbatch-hangs")
	late := fmt.Sprintf("setsid -f sh -c 'sleep %d; exec /usr/bin/sbatch \"$@\"' sh \"$@\" >/dev/null 2>&1 </dev/null\n", int(after.Seconds()))
	once := filepath.Join(l.home, "hung-once")
	write(t, path, "#!/bin/sh\nif [ -e "+once+" ]; then exec /usr/bin/sbatch \"$@\"; fi\ntouch "+once+"\n"+late+"sleep 600\n", 0o755)
	l.own(t)
	return path
}

// TestHungSubmitRunsOnce: sbatch hangs and queues the job 20 s after the
// agent's deadline.
func TestHungSubmitRunsOnce(t *testing.T) {
	t.Parallel()
	for _, victim := range lateQueueVictims {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLogin(t, d, "slurm", "submit_timeout: 2s")
			path := hangingSbatch(t, l, 22*time.Second)
			l.configure(t, "commands: {sbatch: "+path+"}")
			id := l.submit(t, l.approve(t, manifest("hung", marking("sleep 1"))))
			p := l.startAgent(t, "")
			eventually(t, 20*time.Second, "sbatch hangs", func() bool { return exists(filepath.Join(l.home, "hung-once")) })
			switch victim {
			case "agent":
				p.kill()
				<-p.done
				l.startAgent(t, "")
			case "server":
				d.killServer()
				d.startServer("")
			}
			j := d.await(id, 60*time.Second)
			// Wait until the late sbatch has queued its job and that one has ended.
			tag := l.firstSubmission(t, id)
			eventually(t, 60*time.Second, "the late job has come and gone", func() bool { return l.lateJobGone(t, tag) })
			l.expectNothingLeft(t, id)
			runs := l.runs(t, id)
			row(lateQueue, victim, runs, j)
			if j.State != hpcsera.Succeeded || runs != 1 {
				t.Errorf("job is %s (%s: %s), ran %d times, want succeeded once\n%s", j.State, j.Reason, j.Message, runs, l.agent.log)
			}
		})
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
