package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/local"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// one is the answer to the submission of a single job.
func one(refs []scheduler.Ref, err error) (scheduler.Ref, error) {
	if err != nil {
		return scheduler.Ref{}, err
	}
	return refs[0], nil
}

func submission(t schedulertest.T, dir, script string) scheduler.Submission {
	t.Helper()
	tag := hpcsera.NewID("s")
	sub := scheduler.Submission{Tag: tag, Script: filepath.Join(dir, tag), Directory: dir, Output: filepath.Join(dir, tag+".out")}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\n"+script+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return sub
}

func submit(t schedulertest.T, s *scheduler.Scheduler, dir, script string, change func(*scheduler.Submission)) scheduler.Ref {
	t.Helper()
	sub := submission(t, dir, script)
	if change != nil {
		change(&sub)
	}
	ref, err := one(s.Submit(t.Context(), sub))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Act(context.Background(), scheduler.Cancel, []scheduler.Ref{ref}) })
	return ref
}

func status(t *testing.T, s *scheduler.Scheduler, ref scheduler.Ref) scheduler.Status {
	t.Helper()
	answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref})
	if err != nil {
		t.Fatal(err)
	}
	return answer[ref]
}

func await(t *testing.T, s *scheduler.Scheduler, ref scheduler.Ref, native string) scheduler.Status {
	t.Helper()
	var st scheduler.Status
	until(t, native, func() bool { st = status(t, s, ref); return st.Native == native })
	return st
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		case <-again.C:
		}
	}
}

type identity struct {
	Host  string `json:"host"`
	Boot  string `json:"boot"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

func record(t *testing.T, dir, id, name string) (p identity) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "jobs", id, name))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rewrite(t *testing.T, dir, id, name string, p identity) {
	t.Helper()
	b, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "jobs", id, name), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestAJobWhoseProcessesAreGoneIsLostAndHasNoExit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state")}, nil)
	ref := submit(t, s, dir, "exec sleep 600", nil)
	await(t, s, ref, "RUNNING")
	until(t, "the script's process", func() bool { return exists(filepath.Join(dir, "state", "jobs", ref.ID, "child.json")) })
	kill(t, record(t, filepath.Join(dir, "state"), ref.ID, "claim.json").PID)
	kill(t, record(t, filepath.Join(dir, "state"), ref.ID, "child.json").PID)
	if st := await(t, s, ref, "LOST"); st.Phase != scheduler.PhaseEnded || st.Exit != nil || st.Reason != "" {
		t.Errorf("got %+v, want an end without exit and reason", st)
	}
}

func TestAJobWithoutItsSupervisorRunsOnAndCanBeCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state")}, nil)
	ref := submit(t, s, dir, "sleep 600; :", nil)
	until(t, "the script's process", func() bool { return exists(filepath.Join(dir, "state", "jobs", ref.ID, "child.json")) })
	supervisor, child := record(t, filepath.Join(dir, "state"), ref.ID, "claim.json"), record(t, filepath.Join(dir, "state"), ref.ID, "child.json")
	kill(t, supervisor.PID)
	until(t, "the supervisor's end", func() bool { return strings.Contains(status(t, s, ref).Message, "supervisor is gone") })
	if st := status(t, s, ref); st.Phase != scheduler.PhaseRunning {
		t.Errorf("got %+v, want it running", st)
	}
	if err := s.Act(t.Context(), scheduler.Cancel, []scheduler.Ref{ref}); err != nil {
		t.Fatal(err)
	}
	await(t, s, ref, "LOST")
	until(t, "the script's end", func() bool { return syscall.Kill(child.PID, 0) != nil || zombie(child.PID) })
}

func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(b), ") Z ")
}

// TestAReusedProcessIDIsNotTheJob: the records name a living process, but
// another start, another boot, or another host.
func TestAReusedProcessIDIsNotTheJob(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*identity)
		native string
		phase  scheduler.Phase
		reason hpcsera.Reason
	}{
		"another start": {func(p *identity) { p.Start++ }, "LOST", scheduler.PhaseEnded, ""},
		"another boot":  {func(p *identity) { p.Boot = "x" }, "LOST", scheduler.PhaseEnded, hpcsera.NodeFailure},
		"another host":  {func(p *identity) { p.Host = "elsewhere" }, "ELSEWHERE", scheduler.PhaseUnknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			state := filepath.Join(dir, "state")
			s := newScheduler(t, local.Driver{Dir: state}, nil)
			ref := submit(t, s, dir, "exec sleep 600", nil)
			until(t, "the script's process", func() bool { return exists(filepath.Join(state, "jobs", ref.ID, "child.json")) })
			for _, file := range []string{"claim.json", "child.json"} {
				p := record(t, state, ref.ID, file)
				t.Cleanup(func() { _ = syscall.Kill(p.PID, syscall.SIGKILL) })
				c.change(&p)
				rewrite(t, state, ref.ID, file, p)
			}
			if st := status(t, s, ref); st.Native != c.native || st.Phase != c.phase || st.Reason != c.reason {
				t.Errorf("got %+v, want %s, %s, %q", st, c.native, c.phase, c.reason)
			}
		})
	}
}

func TestSlotsLimitWhatRunsAtOnceAndKeepTheOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state"), Slots: 2}, nil)
	script := func(n int) string {
		return "echo " + strconv.Itoa(n) + " >> started; while [ ! -e go" + strconv.Itoa(n) + " ]; do sleep 0.05; done"
	}
	var refs []scheduler.Ref
	for i, cores := range []int{1, 1, 2, 1} {
		refs = append(refs, submit(t, s, dir, script(i), func(sub *scheduler.Submission) { sub.Resources.CPUCoresPerProcess = cores }))
	}
	phases := func() string {
		var b strings.Builder
		for _, ref := range refs {
			b.WriteString(strings.ToLower(status(t, s, ref).Native[:1]))
		}
		return b.String()
	}
	until(t, "two running, two queued", func() bool { return phases() == "rrqq" })
	finish := func(n int) {
		if err := os.WriteFile(filepath.Join(dir, "go"+strconv.Itoa(n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	finish(0)
	until(t, "the end of the first", func() bool { return phases() == "crqq" }) // the small one does not overtake
	finish(1)
	until(t, "the large one runs alone", func() bool { return phases() == "ccrq" })
	finish(2)
	until(t, "the last runs", func() bool { return phases() == "cccr" })
	finish(3)
	until(t, "all have ended", func() bool { return phases() == "cccc" })
	if b, _ := os.ReadFile(filepath.Join(dir, "started")); string(b) != "0\n1\n2\n3\n" && string(b) != "1\n0\n2\n3\n" {
		t.Errorf("order of the starts: got %q", b)
	}
}

func TestAJobThatAsksForMoreThanAllSlotsGetsAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state"), Slots: 1}, nil)
	ref := submit(t, s, dir, "exit 0", func(sub *scheduler.Submission) { sub.Resources.ProcessCount = 64 })
	await(t, s, ref, "COMPLETED")
}

func TestConcurrentSubmissionsGetDifferentIDsAndRunOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state"), Slots: -1}, nil)
	const n = 16
	refs := make([]scheduler.Ref, n)
	var wg sync.WaitGroup
	for i := range refs {
		sub := submission(t, dir, "echo x >> runs")
		wg.Go(func() {
			var err error
			if refs[i], err = one(s.Submit(t.Context(), sub)); err != nil {
				t.Errorf("submit: %v", err)
			}
		})
		wg.Go(func() { // lists start jobs as well
			if _, err := s.Find(t.Context(), sub.Tag); err != nil {
				t.Errorf("find: %v", err)
			}
		})
	}
	wg.Wait()
	ids := map[string]bool{}
	for _, ref := range refs {
		ids[ref.ID] = true
		await(t, s, ref, "COMPLETED")
	}
	b, err := os.ReadFile(filepath.Join(dir, "runs"))
	if err != nil || len(ids) != n || strings.Count(string(b), "x") != n {
		t.Errorf("got %d ids and %q, %v, want %d of each", len(ids), b, err, n)
	}
}

// TestTheScriptIsTakenAsItIsAtSubmission: like a batch system's spool.
func TestTheScriptIsTakenAsItIsAtSubmission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state")}, nil)
	sub := submission(t, dir, "exit 7")
	sub.Held = true
	ref, err := one(s.Submit(t.Context(), sub))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\nexit 8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Act(t.Context(), scheduler.Release, []scheduler.Ref{ref}); err != nil {
		t.Fatal(err)
	}
	if st := await(t, s, ref, "FAILED"); st.Exit == nil || st.Exit.Code != 7 {
		t.Errorf("got %+v, want exit 7", st)
	}
}

// TestTheTimeLimitEndsProcessesThatWillNotEnd: SIGTERM is ignored, and there
// is a second process group.
func TestTheTimeLimitEndsProcessesThatWillNotEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state"), Grace: 500 * time.Millisecond}, nil)
	ref := submit(t, s, dir, `trap "" TERM; set -m; sleep 600 & echo $! > child; while :; do sleep 0.2; done`, func(sub *scheduler.Submission) {
		sub.Attributes.Duration = hpcsera.Duration(time.Second)
	})
	if st := await(t, s, ref, "TIMEOUT"); st.Reason != hpcsera.Timeout || st.Exit != nil {
		t.Errorf("got %+v, want a timeout", st)
	}
	b, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the child's end", func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) })
}

func TestASignalToTheSupervisorIsACancelBySite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state")}, nil)
	ref := submit(t, s, dir, "exec sleep 600", nil)
	until(t, "the script's process", func() bool { return exists(filepath.Join(dir, "state", "jobs", ref.ID, "child.json")) })
	if err := syscall.Kill(record(t, filepath.Join(dir, "state"), ref.ID, "claim.json").PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if st := await(t, s, ref, "CANCELLED"); st.Reason != hpcsera.CancelledBySite {
		t.Errorf("got %+v, want it cancelled by the site", st)
	}
}

func TestAScriptThatCannotRunEndsWith126AndSaysWhy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state")}, nil)
	sub := submission(t, dir, "")
	if err := os.WriteFile(sub.Script, []byte("#!/nonexistent/interpreter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := one(s.Submit(t.Context(), sub))
	if err != nil {
		t.Fatal(err)
	}
	st := await(t, s, ref, "FAILED")
	out, err := os.ReadFile(sub.Output)
	if st.Exit == nil || st.Exit.Code != 126 || err != nil || !strings.Contains(string(out), "cannot be run") {
		t.Errorf("got %+v, output %q, %v, want exit 126 and the reason in the output", st, out, err)
	}
}

func TestWhatOneHostCannotDoIsRefusedByField(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newScheduler(t, local.Driver{Dir: filepath.Join(dir, "state")}, nil)
	for field, change := range map[string]func(*scheduler.Submission){
		"resources.node_count":            func(s *scheduler.Submission) { s.Resources.NodeCount = 2 },
		"resources.gpu_cores_per_process": func(s *scheduler.Submission) { s.Resources.GPUCoresPerProcess = 1 },
		"attributes.queue_name":           func(s *scheduler.Submission) { s.Attributes.QueueName = "medium" },
		"attributes.account":              func(s *scheduler.Submission) { s.Attributes.Account = "a" },
		"attributes.reservation_id":       func(s *scheduler.Submission) { s.Attributes.ReservationID = "r" },
		"custom_attributes local.qos":     func(s *scheduler.Submission) { s.Custom = map[string]string{"qos": "x"} },
		"script":                          func(s *scheduler.Submission) { s.Script = "/nonexistent/script" },
		"folder":                          func(s *scheduler.Submission) { s.Directory = "/nonexistent" },
		"name":                            func(s *scheduler.Submission) { s.Tag = "x" },
	} {
		sub := submission(t, dir, "exit 0")
		change(&sub)
		ref, err := one(s.Submit(t.Context(), sub))
		refused, ok := errors.AsType[*scheduler.Refused](err)
		if !ok || refused.Throttled {
			t.Errorf("%s: got %+v, %v, want a refusal", field, ref, err)
		} else if field != "name" && !strings.Contains(refused.Message, field) {
			t.Errorf("got %q, want it to name %s", refused.Message, field)
		}
	}
}

func TestASubmitKilledAtAnyMomentLeavesAWholeJobOrNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	s := newScheduler(t, local.Driver{Dir: state}, nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		sub := submission(t, dir, "echo "+strconv.Itoa(i)+" >> runs")
		argv := local.Driver{Dir: state}.Submit(sub).Argv
		cmd := exec.Command(self, argv[1:]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(i)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
		found, err := s.Find(t.Context(), sub.Tag)
		if err != nil || len(found) > 1 {
			t.Fatalf("killed after %d ms: got %+v, %v", i, found, err)
		}
		for _, st := range found {
			await(t, s, st.Ref, "COMPLETED")
		}
	}
	b, _ := os.ReadFile(filepath.Join(dir, "runs"))
	seen := map[string]bool{}
	for _, line := range strings.Fields(string(b)) {
		if seen[line] {
			t.Errorf("submission %s ran twice", line)
		}
		seen[line] = true
	}
}

func TestEndedJobsAreForgottenAfterADayAndTheirIDsAreNotReused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	s := newScheduler(t, local.Driver{Dir: state}, nil)
	old, recent := submit(t, s, dir, "exit 0", nil), submit(t, s, dir, "exit 0", nil)
	await(t, s, old, "COMPLETED")
	await(t, s, recent, "COMPLETED")
	age := func(id, by string) {
		d, err := time.ParseDuration(by)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(state, "jobs", id, "end.json")
		var end map[string]any
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &end)
		}
		end["ended"] = time.Now().Add(-d)
		b, _ = json.Marshal(end)
		if err := errors.Join(err, os.WriteFile(file, b, 0o600), os.Remove(filepath.Join(state, "pruned"))); err != nil {
			t.Fatal(err)
		}
	}
	age(old.ID, "25h")
	if st := status(t, s, old); st.Native != "" {
		t.Errorf("after a day: got %+v, want it absent", st)
	}
	if st := status(t, s, recent); st.Native != "COMPLETED" {
		t.Errorf("a recent job: got %+v, want it listed", st)
	}
	age(recent.ID, "25h")
	if st := status(t, s, recent); st.Native != "" {
		t.Errorf("got %+v, want it absent", st)
	}
	if next := submit(t, s, dir, "exit 0", nil); next.ID != "3" {
		t.Errorf("the next id: got %s, want 3", next.ID)
	}
}

func TestADispatchThatDiedIsMadeUpByTheNextList(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	s := newScheduler(t, local.Driver{Dir: state}, nil)
	ref := submit(t, s, dir, "exit 0", func(sub *scheduler.Submission) { sub.Held = true })
	// What a release leaves that was killed between its two halves.
	if err := os.Remove(filepath.Join(state, "jobs", ref.ID, "hold")); err != nil {
		t.Fatal(err)
	}
	await(t, s, ref, "COMPLETED")
}

func TestWhatIsNoAnswerIsAnError(t *testing.T) {
	d := local.Driver{Dir: "/d"}
	list, submit := d.Queue().Parse, d.Submit(scheduler.Submission{}).Parse
	for _, out := range []scheduler.Output{
		{Stdout: []byte("[]")}, {Stdout: []byte(`{"jobs":[{"id":"1"}]`)}, {Stdout: []byte(`{"jobs":[{"id":"1"}],"done":false}`)}, {Stdout: []byte(`{"id":"1"}`)},
	} {
		if got, err := list(out); err == nil {
			t.Errorf("list %q: got %+v without an error", out.Stdout, got)
		}
		if got, err := submit(out); err == nil {
			t.Errorf("submit %q: got %+v without an error", out.Stdout, got)
		}
	}
	for _, id := range []string{"", "0", "-1", "01", "x", "1 2"} {
		if got, err := submit(scheduler.Output{Stdout: []byte(`{"id":"` + id + `","done":true}`)}); err == nil {
			t.Errorf("submit with id %q: got %+v without an error", id, got)
		}
	}
}

func FuzzList(f *testing.F) {
	f.Add([]byte(`{"jobs":[{"id":"1","tag":"s","state":"CANCELLED","exit":{"code":1}}],"done":true}`))
	f.Fuzz(func(t *testing.T, out []byte) {
		list, err := local.Driver{}.Queue().Parse(scheduler.Output{Stdout: out})
		if err != nil && list != nil {
			t.Errorf("a listing beside the error %v", err)
		}
		for _, st := range list {
			if st.Phase == scheduler.PhaseEnded && !strings.Contains("COMPLETED FAILED TIMEOUT CANCELLED LOST", st.Native) {
				t.Errorf("%q was read as ended", st.Native)
			}
		}
	})
}
