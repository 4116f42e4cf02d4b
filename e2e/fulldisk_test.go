package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// smallDisk mounts a disk of its own that other users can pass through.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := openDir(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=755,size="+size, "tmpfs", dir).CombinedOutput(); err != nil {
		t.Fatalf("a small disk cannot be made (root is needed): %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// TestFullDiskIsSaidAndPasses: the server's disk fills up; nothing is half
// created, and it goes on when there is room.
func TestFullDiskIsSaidAndPasses(t *testing.T) {
	t.Parallel()
	small := smallDisk(t, "24m")
	d := newDeploymentIn(t, filepath.Join(small, "data"))
	ballast := filepath.Join(small, "ballast")
	fill(t, ballast)
	blob := bytes.Repeat([]byte("x"), 1<<20)
	p := d.refusal(t, "PUT", "/blobs/sha256:"+digestHex(blob), bytes.NewReader(blob), "Content-Type", "application/octet-stream")
	if p.Code != hpcsera.StorageFull || p.Status != http.StatusInsufficientStorage {
		t.Errorf("a full disk answers %d %s: %s, want 507 storage_full", p.Status, p.Code, p.Detail)
	}
	full := false
	for range 2000 {
		res, text, err := d.try("POST", "/jobs", []byte(`{"name":"fill","site":"lab","script":"`+strings.Repeat("x", 20000)+`"}`), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode/100 != 2 {
			full = strings.Contains(string(text), string(hpcsera.StorageFull))
			if !full {
				t.Errorf("a full disk answers %s: %s", res.Status, text)
			}
			break
		}
	}
	if !full {
		t.Error("the disk never was full for the database")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	var j hpcsera.Job
	d.call("POST", "/jobs", map[string]any{"name": "room", "site": "lab", "script": "true"}, &j)
	if d.job(j.ID).State != hpcsera.Pending {
		t.Errorf("after there was room the job is %s", j.State)
	}
}

// fill writes until the disk is full.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096} {
		for b := make([]byte, size); ; {
			if _, err := f.Write(b); err != nil {
				break
			}
		}
	}
}

// TestAgentOnAFullDiskTakesNothingAndGoesOn: the disk with the agent's files,
// or the one with its spool alone, fills up while two jobs run. The agent takes
// no more jobs and says why; a cancel is obeyed all the same, since a full disk
// is a reason to cancel; when there is room every job has run once.
func TestAgentOnAFullDiskTakesNothingAndGoesOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, trouble string
		login         func(t *testing.T, d *deployment, disk string) *login
	}{
		{"home", "journal", func(t *testing.T, d *deployment, disk string) *login {
			return newLoginIn(t, d, "slurm", disk)
		}},
		{"spool", "spool", func(t *testing.T, d *deployment, disk string) *login {
			l := newLogin(t, d, "slurm")
			l.moveSpool(t, filepath.Join(disk, "spool"))
			return l
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			disk, other := smallDisk(t, "96m"), openDir(t)
			d := newDeployment(t, "", "")
			l := c.login(t, d, disk)
			fillAgent(t, d, l, disk, other, c.trouble)
		})
	}
}

func fillAgent(t *testing.T, d *deployment, l *login, disk, other, trouble string) {
	gate, over, ballast := filepath.Join(other, "gate"), filepath.Join(other, "over"), filepath.Join(disk, "ballast")
	if err := os.Chmod(other, 0o777); err != nil {
		t.Fatal(err)
	}
	short := l.approve(t, manifest("short", marking("exit 0")))
	goesOn := l.submit(t, l.approve(t, manifest("goes-on", marking("until [ -e "+gate+" ]; do sleep 0.5; done; touch "+over))))
	doomed := l.submit(t, l.approve(t, manifest("doomed", marking("sleep 600"))))
	l.startAgent(t, "")
	for _, id := range []string{goesOn, doomed} {
		d.await(id, time.Minute, hpcsera.Running)
	}
	fill(t, ballast)
	// Half a page may be free for the first entries, so jobs come until it is not.
	var baits []string
	eventually(t, time.Minute, "the agent's status tells of the "+trouble, func() bool {
		if !d.undelivered(baits) {
			baits = append(baits, l.submit(t, short))
		}
		return strings.Contains(l.command(t, "", "status"), "TROUBLE     "+trouble+": ")
	})
	// A poll that began before that may have asked for jobs: this one ends it.
	baits = append(baits, l.submit(t, short))
	eventually(t, 45*time.Second, "a poll that asks for no jobs", func() bool { return d.undelivered(baits) })
	late := l.submit(t, short)
	queued := func() string {
		return strings.TrimSpace(slurm(t, "squeue", "--noheader", "--name="+strings.Join(l.submissions(t, doomed), ","), "--format=%i %T"))
	}
	if got := queued(); !strings.Contains(got, "RUNNING") {
		t.Errorf("before the cancel Slurm says %q of the job, want RUNNING", got)
	}
	d.call("DELETE", "/jobs/"+doomed, nil, nil)
	eventually(t, time.Minute, "the cancelled job gone from Slurm although the disk is full", func() bool { return queued() == "" })
	// The cancel came with a poll that could have brought this job, too.
	if j := d.job(late); j.State != hpcsera.Pending || j.Times.Delivered != nil {
		t.Errorf("with a full disk the new job is %s, delivered %v, want pending, never", j.State, j.Times.Delivered)
	}
	write(t, gate, "", 0o644)
	eventually(t, 30*time.Second, "the running program over", func() bool { return exists(over) })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if j := d.await(doomed, 2*time.Minute); j.State != hpcsera.Cancelled || l.runs(t, doomed) != 1 {
		t.Errorf("the cancelled job is %s (%s: %s), ran %d times, want cancelled, once\n%s", j.State, j.Reason, j.Message, l.runs(t, doomed), l.agent.log)
	}
	for _, id := range append(baits, goesOn, late) {
		if j := d.await(id, 2*time.Minute); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 {
			t.Errorf("job %s (%s) is %s (%s: %s), ran %d times, want succeeded, once\n%s", id, j.Name, j.State, j.Reason, j.Message, l.runs(t, id), l.agent.log)
		}
	}
	eventually(t, 20*time.Second, "a status without trouble", func() bool { return !strings.Contains(l.command(t, "", "status"), "TROUBLE") })
}

// undelivered reports whether one of the jobs still waits for the agent.
func (d *deployment) undelivered(ids []string) bool {
	d.t.Helper()
	for _, id := range ids {
		if d.job(id).Times.Delivered == nil {
			return true
		}
	}
	return false
}

// TestLogOutlivesAFullServer: the server's disk is full while a running job
// prints, and when it ends. No byte of its output is lost.
func TestLogOutlivesAFullServer(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "24m")
	d := newDeploymentIn(t, filepath.Join(disk, "data"))
	l := newLogin(t, d, "slurm")
	print, end, ended := filepath.Join(l.home, "print"), filepath.Join(l.home, "end"), filepath.Join(l.home, "ended")
	wait := func(gate string) string { return "until [ -e " + gate + " ]; do sleep 0.2; done\n" }
	id := l.submit(t, l.approve(t, manifest("talks", marking(
		"echo first\n"+wait(print)+"seq 300000\n"+wait(end)+"echo last; touch "+ended))))
	l.startAgent(t, "")
	d.await(id, time.Minute, hpcsera.Running)
	log := "/jobs/" + id + "/logs/stdout"
	eventually(t, 30*time.Second, "the first line", func() bool {
		res, text, err := d.try("GET", log, nil, nil)
		return err == nil && res.StatusCode == http.StatusOK && string(text) == "first\n"
	})
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	write(t, print, "", 0o644)
	eventually(t, 30*time.Second, "the server refuses more of the log", func() bool { return strings.Contains(l.agent.log.String(), "log not delivered") })
	write(t, end, "", 0o644)
	eventually(t, 30*time.Second, "the program over", func() bool { return exists(ended) })
	if j := d.job(id); j.State.Final() {
		t.Errorf("the job is %s although its log cannot be kept", j.State)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if j := d.await(id, 2*time.Minute); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 {
		t.Errorf("job is %s (%s: %s), ran %d times, want succeeded, once\n%s", j.State, j.Reason, j.Message, l.runs(t, id), l.agent.log)
	}
	want := &strings.Builder{}
	fmt.Fprintln(want, "first")
	for i := 1; i <= 300000; i++ {
		fmt.Fprintln(want, i)
	}
	fmt.Fprintln(want, "last")
	if got := d.get(log); got != want.String() {
		t.Errorf("stdout has %d bytes, want the %d that the job printed", len(got), want.Len())
	}
}
