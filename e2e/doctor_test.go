package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/agent/trial"
)

// examined runs the doctor with the suite and returns its report.
func (l *login) examined(t *testing.T, options ...string) (trial.Report, error) {
	t.Helper()
	out, failure := l.try(t, append([]string{"doctor", "--jobs", "--yes", "-o", "json"}, options...)...)
	var r trial.Report
	line, _, _ := strings.Cut(out[max(0, strings.Index(out, "{")):], "\n")
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("no report (%v, %v) in\n%s", failure, err, out)
	}
	return r, failure
}

// failed lists the cases that did not go well.
func failed(r trial.Report) (names []string) {
	for _, o := range r.Cases {
		if !o.OK {
			names = append(names, o.Case+": "+strings.Join(o.Seen, "; "))
		}
	}
	return names
}

// TestDoctorHoldsRealSlurmToTheSuite and leaves neither job nor file behind.
func TestDoctorHoldsRealSlurmToTheSuite(t *testing.T) {
	t.Parallel()
	l := newLogin(t, newDeployment(t, "", ""), "slurm")
	recording := filepath.Join(l.home, "recording")
	r, err := l.examined(t, "--queue", "debug", "--record", recording)
	if err != nil || !r.OK || len(failed(r)) > 0 || len(r.Cases) < 20 {
		t.Errorf("got %v, %d cases, failed: %q", err, len(r.Cases), failed(r))
	}
	if r.System != "slurm" || r.Version == "" || r.OS == "" || r.Agent == "" || len(r.Commands) < 20 || len(r.Findings) < 5 {
		t.Errorf("got the report %+v, want versions, findings and commands", r)
	}
	inQueue := false
	for _, c := range r.Commands {
		line := strings.Join(c.Argv, " ")
		inQueue = inQueue || strings.HasPrefix(line, "sbatch ") && strings.Contains(line, "--partition=debug")
		if strings.Contains(line, l.d.url) {
			t.Errorf("the report names the server: %s", line)
		}
	}
	if !inQueue {
		t.Error("no job asked for the queue that was named")
	}
	if left, _ := filepath.Glob(filepath.Join(l.home, "work", "doctor", "case-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, end := range []string{"cmd", "out", "err"} {
		if found, _ := filepath.Glob(filepath.Join(recording, "*-squeue."+end)); len(found) == 0 {
			t.Errorf("no recording of squeue's .%s", end)
		}
	}
}

// TestDoctorHoldsOtherBatchSystemsToTheSuite as well.
func TestDoctorHoldsOtherBatchSystemsToTheSuite(t *testing.T) {
	t.Parallel()
	for name := range batchSystems {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := newLoginOn(t, newDeployment(t, "", ""), name).examined(t)
			least := map[bool]int{false: 20, true: 14}[name == byFile] // a file tells less of its system
			if err != nil || r.System != name || len(failed(r)) > 0 || len(r.Cases) < least {
				t.Errorf("got %v, %s, %d cases, failed: %q", err, r.System, len(r.Cases), failed(r))
			}
		})
	}
}

// TestDoctorTellsACommandThatLies: this squeue calls every job completed.
func TestDoctorTellsACommandThatLies(t *testing.T) {
	t.Parallel()
	l := newLogin(t, newDeployment(t, "", ""), "slurm")
	lie := filepath.Join(filepath.Dir(l.home), "squeue")
	write(t, lie, "#!/bin/sh\n/usr/bin/squeue \"$@\" | sed 's/PENDING/COMPLETED/'\n", 0o755)
	l.configure(t, "commands: {squeue: "+lie+"}")
	r, err := l.examined(t, "--submit=false", "--case", "held")
	if err == nil || r.OK || len(failed(r)) == 0 {
		t.Errorf("got %v, %+v, want cases that failed", err, r.Cases)
	}
}

// TestDoctorTellsASpoolThatNodesDoNotSee: on this login node another file system
// lies over it, as an unshared home does.
func TestDoctorTellsASpoolThatNodesDoNotSee(t *testing.T) {
	t.Parallel()
	l := newLogin(t, newDeployment(t, "", ""), "slurm")
	l.moveSpool(t, filepath.Join(filepath.Dir(l.home), "spool"))
	script := `mount -t tmpfs -o mode=1777 tmpfs "$0" && mkdir "$0/mine" && chown "$1" "$0/mine" && chmod 700 "$0/mine" && shift && exec "$@"`
	become := []string{"-m"}
	owner := "0"
	command := []string{filepath.Join(bin, "hpcsera-agent"), "doctor"}
	if os.Getuid() != 0 {
		become = []string{"-r", "-m"} // root of a namespace of its own
	} else {
		owner = l.as.Uid
		command = append([]string{"setpriv", "--reuid", l.as.Uid, "--regid", l.as.Gid, "--clear-groups"}, command...)
	}
	args := append(append(become, "sh", "-c", script, l.spool, owner), command...)
	p := startCommand(t, nil, append(l.env, "HPCSERA_AGENT_SPOOL_DIR="+filepath.Join(l.spool, "mine")), "unshare", args...)
	<-p.done
	if text := p.log.String(); p.err == nil || !strings.Contains(text, "FAIL  spool shared") || !strings.Contains(text, "left no record") {
		t.Errorf("doctor ended with %v and\n%s\nwant the spool that is not shared told", p.err, text)
	}
}
