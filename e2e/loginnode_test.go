package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent"
)

// on runs a command of the agent's on another login node, which sees the same
// files: a namespace of its own gives it another host name (uts_namespaces(7)).
func (l *login) on(t *testing.T, host string, args ...string) *process {
	t.Helper()
	words := []string{"--uts", "sh", "-c", `hostname "$0" && exec "$@"`, host}
	if l.as != nil {
		words = append(words, "setpriv", "--reuid", l.as.Uid, "--regid", l.as.Gid, "--clear-groups")
	} else if os.Getuid() != 0 {
		words = append([]string{"--map-root-user"}, words...)
	}
	words = append(words, filepath.Join(bin, "hpcsera-agent"))
	return startCommand(t, nil, l.env, "unshare", append(words, args...)...)
}

// says waits until a process has printed something.
func (p *process) says(t *testing.T, text string) {
	t.Helper()
	eventually(t, 4*time.Minute, text, func() bool {
		if !strings.Contains(p.log.String(), text) && p.dead() {
			t.Fatalf("it ended (%v) and never said %q:\n%s", p.err, text, p.log)
		}
		return strings.Contains(p.log.String(), text)
	})
}

// TestAHomeOnTwoLoginNodesHasOneAgentAtATime: the later one waits, touches
// nothing meanwhile, and goes on where the first one stopped.
func TestAHomeOnTwoLoginNodesHasOneAgentAtATime(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	code := l.approve(t, manifest("twice", marking("while [ ! -e go ]; do sleep 0.1; done")))
	first := l.on(t, "login1", "run")
	first.says(t, "connected")
	second := l.on(t, "login2", "run")
	second.says(t, "the agent runs on login1 already")
	id := l.submit(t, code)
	eventually(t, time.Minute, "the job runs", func() bool { return l.runs(t, id) == 1 })
	for _, host := range []string{"login1", "login2"} {
		eventually(t, time.Minute, "status on "+host+" tells of the one that works", func() bool {
			p := l.on(t, host, "status", "-o", "json")
			<-p.done
			var s struct {
				Last agent.Status `json:"last"`
			}
			if err := json.Unmarshal([]byte(p.log.String()), &s); err != nil {
				t.Fatalf("status on %s: %v\n%s", host, err, p.log)
			}
			return s.Last.Host == "login1" && s.Last.PID == first.cmd.Process.Pid && s.Last.Jobs == 1 && s.Last.Server == ""
		})
	}
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-first.done
	if first.err != nil {
		t.Errorf("the first one ended with %v\n%s", first.err, first.log)
	}
	second.says(t, "connected")
	third := l.on(t, "login1", "run")
	third.says(t, "the agent runs on login2 already")
	write(t, filepath.Join(l.jobDir(id), "go"), "", 0o644)
	d.await(id, 2*time.Minute, hpcsera.Succeeded)
	if n := l.runs(t, id); n != 1 {
		t.Errorf("the job ran %d times, want once", n)
	}
	other := l.submit(t, l.approve(t, manifest("later", marking("true"))))
	d.await(other, 2*time.Minute, hpcsera.Succeeded)
	if n := l.runs(t, other); n != 1 {
		t.Errorf("the second job ran %d times, want once", n)
	}
}

// TestTheAgentOutlivesItsTerminalAndHeedsAWatchdog: nobody reads what it prints
// any more and the terminal hangs up, but it serves; announced that its CPU time
// is used up, it ends in order; and killed, it goes on with the next start.
func TestTheAgentOutlivesItsTerminalAndHeedsAWatchdog(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm", "nice: 7")
	read, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(filepath.Join(bin, "hpcsera-agent"), "run"), log: &buffer{}, done: make(chan struct{})}
	p.cmd.Env, p.cmd.SysProcAttr, p.cmd.Dir = l.env, credential(t, l.as), "/"
	p.cmd.Stdout, p.cmd.Stderr = gone, gone
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() { p.kill(); <-p.done })
	read.Close()
	gone.Close()
	id := l.submit(t, l.approve(t, manifest("heard", marking("nice > nice; while [ ! -e go ]; do sleep 0.1; done"))))
	eventually(t, time.Minute, "the job runs", func() bool { return l.runs(t, id) == 1 })
	for range 3 {
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	var s struct {
		Last agent.Status `json:"last"`
	}
	eventually(t, time.Minute, "the status tells what it takes", func() bool {
		if err := json.Unmarshal([]byte(l.command(t, "", "status", "-o", "json")), &s); err != nil {
			t.Fatal(err)
		}
		return s.Last.Use.CPU > 0
	})
	if u := s.Last.Use; u.Nice != 7 || u.Cores < 1 || u.MemoryGoal != 512<<20 || u.Files == 0 || u.LoginLimit != 8 || s.Last.Commands == nil || s.Last.Commands.AtOnce != 8 {
		t.Errorf("got %+v, want the bounds and what is used", s.Last)
	}
	if text := l.command(t, "", "status"); !strings.Contains(text, "takes       nice 7, CPU ") || !strings.Contains(text, "of 8 commands at once") {
		t.Errorf("status says\n%s", text)
	}
	if p.dead() {
		t.Fatalf("it ended with %v", p.err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGXCPU); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if p.err != nil {
		t.Errorf("it ended with %v, want it in order", p.err)
	}
	l.startAgent(t, "")
	l.agent.says(t, "connected")
	l.agent.kill()
	<-l.agent.done
	l.startAgent(t, "")
	write(t, filepath.Join(l.jobDir(id), "go"), "", 0o644)
	d.await(id, 2*time.Minute, hpcsera.Succeeded)
	if n := l.runs(t, id); n != 1 {
		t.Errorf("the job ran %d times, want once", n)
	}
}

// crontab runs crontab(1) as the agent's user.
func (l *login) crontab(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("crontab", args...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr, cmd.Stdin = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, "/", credential(t, l.as), strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestInstallWithRealCron: no systemd of the user's answers here, so the agent
// goes into a real crontab; what stands there does a job as cron would have it
// done, without any variable of a login shell; and uninstall leaves the crontab as
// it was.
func TestInstallWithRealCron(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	original, failure := l.crontab(t, "", "-l")
	t.Cleanup(func() {
		if failure != nil {
			_, _ = l.crontab(t, "", "-r")
		} else if out, err := l.crontab(t, original, "-"); err != nil {
			t.Errorf("put the crontab back: %v %s", err, out)
		}
	})
	if _, err := l.crontab(t, "", "-r"); err != nil && failure == nil {
		t.Fatal(err)
	}
	for _, mine := range []string{"", "MAILTO=\"\"\n# mine\n0 3 1 1 * echo 100\\%\n"} {
		if out, err := l.crontab(t, mine, "-"); mine != "" && err != nil {
			t.Fatalf("%v %s", err, out)
		}
		if text := l.command(t, "", "install", "--dry-run"); !strings.Contains(text, "so it is cron") || !strings.Contains(text, "*/5 * * * *") {
			t.Errorf("a dry run said\n%s", text)
		}
		l.command(t, "", "install")
		l.command(t, "", "install")
		got, err := l.crontab(t, "", "-l")
		if err != nil || !strings.HasPrefix(got, mine) || strings.Count(got, " once >") != 1 {
			t.Fatalf("the crontab is (%v)\n%s", err, got)
		}
		id := l.submit(t, l.approve(t, manifest("cron", marking("true"))))
		_, line, _ := strings.Cut(got, "*/5 * * * * ")
		line, _, _ = strings.Cut(line, "\n")
		eventually(t, 2*time.Minute, "cron's runs bring the job to its end", func() bool {
			cmd := exec.Command("/bin/sh", "-c", strings.ReplaceAll(line, `\%`, "%"))
			cmd.Env, cmd.Dir, cmd.SysProcAttr = []string{"HOME=/nonexistent", "PATH=/usr/bin:/bin", "SHELL=/bin/sh"}, "/", credential(t, l.as)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Fatalf("%s: %v, it printed %q\n%s", line, err, out, read(t, filepath.Join(l.home, "once.log")))
			}
			return d.job(id).State.Final()
		})
		if n := l.runs(t, id); n != 1 {
			t.Errorf("the job ran %d times, want once", n)
		}
		l.command(t, "", "uninstall")
		l.command(t, "", "uninstall")
		if got, err := l.crontab(t, "", "-l"); mine != "" && got != mine || mine == "" && err == nil {
			t.Errorf("after uninstall the crontab is (%v)\n%s\nwant what it was:\n%s", err, got, mine)
		}
	}
	if text := l.command(t, "", "install", "--dry-run", "--systemd"); !strings.Contains(text, "ExecStart=") {
		t.Errorf("a dry run for systemd said\n%s", text)
	}
}
