package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// killTable collects the rows of the table that the kill tests print.
var killTable struct {
	mu   sync.Mutex
	rows []string
}

func row(point, victim string, runs int, j hpcsera.Job) {
	killTable.mu.Lock()
	defer killTable.mu.Unlock()
	state := string(j.State)
	if j.Reason != "" {
		state += " " + string(j.Reason)
	}
	killTable.rows = append(killTable.rows, fmt.Sprintf("%-62s %-8s %4d  %s", point, victim, runs, state))
}

// TestKillTable kills agent and server at every point of a job's way and
// shows that its program ran once.
func TestKillTable(t *testing.T) {
	slurmConf(t)
	t.Cleanup(func() {
		killTable.mu.Lock()
		defer killTable.mu.Unlock()
		fmt.Printf("\n%-62s %-8s %4s  %s\n%s\n\n", "point", "victim", "runs", "final state", strings.Join(killTable.rows, "\n"))
	})
	for _, c := range []struct{ point, failpoint string }{
		{"before the journal entry of the order", "agent.before-journal=kill@2"},
		{"after the journal entry of the order", "agent.after-journal=kill@2"},
		{"before the journal entry of the prepared job", "agent.before-journal=kill@3"},
		{"after the journal entry of the submission, before sbatch", "agent.before-submit=kill"},
		{"after sbatch returned, before its answer is recorded", "agent.after-submit=kill"},
		{"after the record, before a report", "agent.before-report=kill@3"},
		{"report applied, its answer lost", "agent.after-report=kill@2"},
		{"last report applied, its answer lost", "agent.after-report=kill@4"},
		{"between two journal entries (5)", "agent.before-journal=kill@5"},
		{"between two journal entries (6)", "agent.after-journal=kill@6"},
		{"between two journal entries (8)", "agent.before-journal=kill@8"},
		{"between two journal entries (9)", "agent.after-journal=kill@9"},
	} {
		t.Run(c.failpoint, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLogin(t, d, "slurm")
			id := l.submit(t, l.approve(t, manifest("kill", marking("sleep 1"))))
			first := l.startAgent(t, c.failpoint)
			eventually(t, 30*time.Second, "the agent killed at the point", func() bool {
				return first.dead() || d.job(id).State.Final()
			})
			if !first.dead() {
				t.Fatalf("the agent never passed %s\n%s", c.failpoint, first.log)
			}
			l.startAgent(t, "")
			l.expectOnce(t, id, c.point, "agent")
		})
	}
	for n := 1; n <= 6; n++ {
		for _, when := range []string{"before", "after"} {
			point := fmt.Sprintf("server.%s-commit=kill@%d", when, n)
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				killServerAt(t, point, fmt.Sprintf("%s commit %d of the server", when, n))
			})
		}
	}
}

// killServerAt restarts the server once with a failpoint, before anything is
// submitted, and again whenever it died.
func killServerAt(t *testing.T, failpoint, point string) {
	d := newDeployment(t, "", "")
	killServerDuring(t, d, newLogin(t, d, "slurm"), failpoint, point)
}

func killServerDuring(t *testing.T, d *deployment, l *login, failpoint, point string) {
	t.Helper()
	code := l.approve(t, manifest("kill", marking("sleep 1")))
	d.stopServer()
	d.startServer(failpoint)
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
	l.expectOnce(t, id, point, "server")
	select {
	case <-died:
	default:
		t.Fatalf("the server never passed %s", failpoint)
	}
}

// restartQuietly starts the server again; whoever waits for it tries again.
func (d *deployment) restartQuietly() {
	p := start(d.t, nil, append(os.Environ(), d.extra...), "hpcserad", "serve", "--config", d.config)
	d.mu.Lock()
	d.server = p
	d.mu.Unlock()
}

// expectOnce waits for the job's end and checks its marker.
func (l *login) expectOnce(t *testing.T, id, point, victim string) {
	t.Helper()
	j := l.d.await(id, 90*time.Second)
	runs := l.runs(t, id)
	row(point, victim, runs, j)
	if j.State != hpcsera.Succeeded || runs != 1 || j.Attempt != 1 {
		t.Errorf("%s: job is %s (%s: %s), ran %d times in attempt %d, want succeeded once\nagent:\n%s", point, j.State, j.Reason, j.Message, runs, j.Attempt, l.agent.log)
	}
	l.expectNothingLeft(t, id)
}

// expectNothingLeft checks that no doorbell and no queued leftover remains
// that could still run the program.
func (l *login) expectNothingLeft(t *testing.T, id string) {
	t.Helper()
	claims, err := filepath.Glob(filepath.Join(l.home, "spool", id, "*", "*", "claim"))
	if err != nil || len(claims) == 0 {
		t.Errorf("job %s has no start claim (%v)", id, err)
	}
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
	for _, victim := range []string{"none", "agent", "server"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLogin(t, d, "slurm", "submit_timeout: 2s")
			path := hangingSbatch(t, l, 22*time.Second)
			write(t, filepath.Join(l.home, "agent.yaml"), read(t, filepath.Join(l.home, "agent.yaml"))+"commands: {sbatch: "+path+"}\n", 0o600)
			id := l.submit(t, l.approve(t, manifest("hung", marking("sleep 1"))))
			p := l.startAgent(t, "")
			eventually(t, 20*time.Second, "sbatch hangs", func() bool { return exists(filepath.Join(l.home, "hung-once")) })
			switch victim {
			case "agent":
				p.kill()
				<-p.done
				l.startAgent(t, "")
			case "server":
				d.server.kill()
				<-d.server.done
				d.startServer("")
			}
			j := d.await(id, 60*time.Second)
			// Wait until the late sbatch has queued its job and that one has ended.
			tag := l.firstSubmission(t, id)
			eventually(t, 60*time.Second, "the late job has come and gone", func() bool { return l.lateJobGone(t, tag) })
			runs := l.runs(t, id)
			row("sbatch hangs and queues 20 s after the deadline", victim, runs, j)
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
