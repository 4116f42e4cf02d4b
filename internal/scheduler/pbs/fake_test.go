package pbs_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/pbs/pbsfake"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// site is a fake PBS with one Scheduler.
type site struct {
	*testing.T
	dir string
	s   *scheduler.Scheduler
}

func newSite(t *testing.T, c pbsfake.Config) *site {
	t.Helper()
	dir := schedulertest.Folder(t)
	return &site{t, dir, fake(t, filepath.Join(dir, "pbs"), c)(t, nil)}
}

// run runs a command of PBS and returns what it printed and its exit status.
func (s *site) run(args ...string) (stdout, stderr string, exit int) {
	s.Helper()
	path := filepath.Join(s.dir, "pbs", "bin", args[0])
	var out, errs strings.Builder
	cmd := exec.CommandContext(s.Context(), path, args[1:]...)
	cmd.Dir = s.dir // where jobs leave their output
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(os.Environ(), "TZ=UTC0", "HOME="+s.dir)
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			s.Fatal(err)
		}
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (s *site) submission(script string) scheduler.Submission {
	s.Helper()
	tag := hpcsera.NewID("s")
	sub := scheduler.Submission{Tag: tag, Script: filepath.Join(s.dir, tag), Directory: s.dir, Output: filepath.Join(s.dir, tag+".out")}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		s.Fatal(err)
	}
	return sub
}

func (s *site) submit(sub scheduler.Submission) []scheduler.Ref {
	s.Helper()
	refs, err := s.s.Submit(s.Context(), sub)
	if err != nil {
		s.Fatal(err)
	}
	return refs
}

func (s *site) until(what string, done func() bool) {
	s.Helper()
	for range 300 {
		if done() {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	s.Fatalf("waited in vain until %s", what)
}

func TestASiteWithoutHistoryMakesEndedJobsAbsent(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbsfake.Config{})
	ref := s.submit(s.submission("exit 3"))[0]
	s.until("the job is absent", func() bool {
		answer, err := s.s.Statuses(t.Context(), []scheduler.Ref{ref})
		if err != nil {
			t.Fatal(err)
		}
		return len(answer) == 0
	})
	if found, err := s.s.Find(t.Context(), ref.Tag); err != nil || len(found) != 0 {
		t.Errorf("find: got %+v, %v", found, err)
	}
}

func TestALimitOfJobsIsTriedAgainLater(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbsfake.Config{MaxQueued: 1})
	held := s.submission("exit 0")
	held.Held = true
	s.submit(held)
	_, err := s.s.Submit(t.Context(), s.submission("exit 0"))
	if refused, ok := errors.AsType[*scheduler.Refused](err); !ok || !refused.Throttled || refused.Unreached {
		t.Errorf("got %v, want it throttled", err)
	}
}

func TestAServerThatIsDownEndsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbsfake.Config{History: true})
	sub := s.submission("exit 0")
	sub.Held = true
	ref := s.submit(sub)[0]
	if err := pbsfake.Configure(filepath.Join(s.dir, "pbs"), pbsfake.Config{History: true, Down: true}); err != nil {
		t.Fatal(err)
	}
	if answer, err := s.s.Statuses(t.Context(), []scheduler.Ref{ref}); err == nil || len(answer) != 0 {
		t.Errorf("statuses: got %+v, %v", answer, err)
	}
	if found, err := s.s.Find(t.Context(), ref.Tag); err == nil {
		t.Errorf("find: got %+v", found)
	}
	if err := s.s.Act(t.Context(), scheduler.Cancel, []scheduler.Ref{ref}); err == nil {
		t.Error("cancel: got no error")
	}
	_, err := s.s.Submit(t.Context(), s.submission("exit 0"))
	if refused, ok := errors.AsType[*scheduler.Refused](err); !ok || !refused.Unreached {
		t.Errorf("submit: got %v, want it unreached", err)
	}
}

func TestAnArrayCostsOneCommandWhateverItsSize(t *testing.T) {
	t.Parallel()
	for name, terse := range map[string]bool{"with rows of members that wait": false, "without": true} {
		t.Run(name, func(t *testing.T) { oneCommand(newSite(t, pbsfake.Config{History: true, Terse: terse})) })
	}
}

func oneCommand(s *site) {
	t := s.T
	sub := s.submission("exit $((PBS_ARRAY_INDEX % 2))")
	sub.Size = 30
	sub.Custom = map[string]string{"begin": time.Now().Add(time.Hour).Format("200601021504")}
	refs := s.submit(sub)
	before := s.s.Stats().Total().Runs
	answer, err := s.s.Statuses(t.Context(), refs)
	if err != nil || len(answer) != 30 || s.s.Stats().Total().Runs != before+1 {
		t.Errorf("got %d jobs, %v, with %d commands", len(answer), err, s.s.Stats().Total().Runs-before)
	}
	if err := s.s.Act(t.Context(), scheduler.Cancel, refs); err != nil {
		t.Fatal(err)
	}
	answer, err = s.s.Statuses(t.Context(), refs)
	if err != nil || len(answer) != 30 {
		t.Fatalf("after cancel: got %d jobs, %v", len(answer), err)
	}
	for ref, st := range answer {
		if st.Phase != scheduler.PhaseEnded || st.Reason != hpcsera.CancelledByUser {
			t.Errorf("%s: got %+v", ref.ID, st)
		}
	}
}

// PBS holds whole arrays. That one member cannot be held is told of that member,
// and the jobs beside it are held.
func TestAMemberThatCannotBeHeldHindersNoOther(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbsfake.Config{History: true})
	later := map[string]string{"begin": time.Now().Add(time.Hour).Format("200601021504")}
	array, one, other := s.submission("exit 0"), s.submission("exit 0"), s.submission("exit 0")
	array.Size, array.Custom, one.Custom, other.Custom = 3, later, later, later
	members := s.submit(array)
	jobs := []scheduler.Ref{s.submit(one)[0], s.submit(other)[0]}
	wish := []scheduler.Ref{members[0], jobs[0], members[2], jobs[1]}
	err := s.s.Act(t.Context(), scheduler.Hold, wish)
	unable, ok := errors.AsType[*scheduler.Unable](err)
	if !ok || len(unable.Refs) != 2 || !unable.Refs[0].Is(members[0]) || !unable.Refs[1].Is(members[2]) || !strings.Contains(err.Error(), members[0].ID) {
		t.Errorf("got %v, want it told of the two members", err)
	}
	s.phases(jobs, scheduler.PhaseHeld)
	s.phases(members, scheduler.PhaseQueued)
	if err := s.s.Act(t.Context(), scheduler.Release, jobs); err != nil {
		t.Error(err)
	}
	s.phases(jobs, scheduler.PhaseQueued)
	if err := s.s.Act(t.Context(), scheduler.Cancel, append(members, jobs...)); err != nil {
		t.Error(err)
	}
}

func (s *site) phases(refs []scheduler.Ref, want scheduler.Phase) {
	s.Helper()
	answer, err := s.s.Statuses(s.Context(), refs)
	if err != nil {
		s.Fatal(err)
	}
	for _, ref := range refs {
		if got := answer[ref]; got.Phase != want {
			s.Errorf("%s: got %+v, want it %s", ref.ID, got, want)
		}
	}
}

var keyLine = regexp.MustCompile(`^\t\t\t"(\w+)":\t`)

// order returns the attributes of each job of a listing in their order.
func order(text string) [][]string {
	var jobs [][]string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "\t\t\"") {
			jobs = append(jobs, nil)
		} else if m := keyLine.FindStringSubmatch(line); m != nil && len(jobs) > 0 {
			jobs[len(jobs)-1] = append(jobs[len(jobs)-1], m[1])
		}
	}
	return jobs
}

// The fake's JSON has the form of the recordings: their white space, their
// attributes and no others, in their order.
func TestTheFakePrintsAsItWasRecorded(t *testing.T) {
	t.Parallel()
	var real [][]string
	for _, name := range []string{"history.json", "live.json"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		real = append(real, order(string(b))...)
	}
	follows := map[[2]string]bool{}
	for _, job := range real {
		for i, a := range job {
			for _, b := range job[i+1:] {
				follows[[2]string{a, b}] = true
			}
		}
	}
	s := newSite(t, pbsfake.Config{History: true})
	s.run("qsub", "-N", "ok", "-A", "acct", "--", "/bin/echo", "hello")
	s.run("qsub", "-h", "-N", "held", "--", "/bin/true")
	s.run("qsub", "-J", "1-3", "-N", "arr", "--", "/bin/true")
	s.run("qsub", "-a", "209901010000", "--", "/bin/true")
	s.run("qsub", "-l", "select=1:ncpus=500", "--", "/bin/true")
	var text string
	s.until("four jobs have ended", func() bool {
		text, _, _ = s.run("qstat", "-x", "-t", "-f", "-F", "json")
		return strings.Count(text, `"job_state":	"F"`) == 5
	})
	if !json.Valid([]byte(text)) || !strings.HasPrefix(text, "{\n\t\"timestamp\":\t") || !strings.HasSuffix(text, "\n\t\t}\n\t}\n}\n") {
		t.Errorf("got another form than recorded:\n%s", text)
	}
	jobs := order(text)
	if len(jobs) != 8 {
		t.Errorf("jobs: got %d, want 8", len(jobs))
	}
	for _, job := range jobs {
		for i, a := range job {
			for _, b := range job[i+1:] {
				if !follows[[2]string{a, b}] && follows[[2]string{b, a}] {
					t.Errorf("%s stands before %s", a, b)
				}
			}
			if !slices.ContainsFunc(real, func(r []string) bool { return slices.Contains(r, a) }) {
				t.Errorf("%s was never recorded", a)
			}
		}
	}
}

func TestTheFakeAnswersAsItWasRecorded(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbsfake.Config{History: true})
	first, _, _ := s.run("qsub", "-h", "--", "/bin/true")
	second, _, _ := s.run("qsub", "-N", "x", "--", "/bin/sleep", "300")
	done, _, _ := s.run("qsub", "--", "/bin/true")
	first, second, done = strings.TrimSpace(first), strings.TrimSpace(second), strings.TrimSpace(done)
	s.until("the last has ended", func() bool {
		_, _, exit := s.run("qstat", "-f", "-F", "json", done)
		return exit == 35
	})
	for _, c := range []struct {
		args           []string
		stdout, stderr string
		exit           int
	}{
		{[]string{"qsub", "-q", "nope", "--", "/bin/true"}, "", "qsub: Unknown queue\n", 170},
		{[]string{"qsub", "-l", "nope=1", "--", "/bin/true"}, "", "qsub: Unknown resource Resource_List.nope\n", 187},
		{[]string{"qsub", "-r", "n", "-J", "1-3", "--", "/bin/true"}, "", "qsub: cannot submit non-rerunable Array Job\n", 2},
		{[]string{"qdel", "999999"}, "", "qdel: Unknown Job Id 999999.vm\n", 153},
		{[]string{"qdel", done}, "", "qdel: Job has finished " + done + "\n", 35},
		{[]string{"qrerun", second}, "", "qrerun: Unauthorized Request  " + second + "\n", 159},
		{[]string{"qselect", "-N", "x"}, second + "\n", "", 0},
		{[]string{"qselect", "-s", "R"}, second + "\n", "", 0},
		{[]string{"qhold", second}, "", "", 0},
		{[]string{"qdel", second}, "", "", 0},
	} {
		stdout, stderr, exit := s.run(c.args...)
		if stdout != c.stdout || stderr != c.stderr || exit != c.exit {
			t.Errorf("%q: got %q, %q, %d, want %q, %q, %d", c.args, stdout, stderr, exit, c.stdout, c.stderr, c.exit)
		}
	}
	_, stderr, _ := s.run("qstat", "-f", "-F", "json", done)
	if want := "qstat: " + done + " Job has finished, use -x or -H to obtain historical job information\n"; stderr != want {
		t.Errorf("got %q, want %q", stderr, want)
	}
	text, stderr, exit := s.run("qstat", "-x", "-f", "-F", "json", done, first, "999999")
	if exit != 153 || stderr != "qstat: Unknown Job Id 999999.vm\n" || len(order(text)) != 1 {
		t.Errorf("several ids: got %d jobs, %q, %d, want the first only", len(order(text)), stderr, exit)
	}
	text, _, _ = s.run("qstat", "-x", "-f", "-F", "dsv", done, first)
	if got := strings.Count(text, "\nJob Id: "); got != 1 || !strings.HasPrefix(text, "Job Id: ") {
		t.Errorf("several ids as rows: got %q", text)
	}
	s.run("qdel", first)
	s.until("all have ended", func() bool { text, _, _ := s.run("qselect"); return text == "" })
	if text, _, _ := s.run("qstat", "-f", "-F", "json"); strings.Contains(text, "Jobs") {
		t.Errorf("without jobs: got %s", text)
	}
}

func TestTheFakeRunsScriptsByTheirDirectives(t *testing.T) {
	t.Parallel()
	s := newSite(t, pbsfake.Config{History: true})
	script := filepath.Join(s.dir, "job")
	out := filepath.Join(s.dir, "job.out")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n#PBS -N named -j oe\n#PBS -o "+out+"\necho $PBS_JOBNAME in $PWD\nexit 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id, _, _ := s.run("qsub", script)
	s.until("it has ended", func() bool {
		text, _, _ := s.run("qstat", "-x", "-f", "-F", "dsv", strings.TrimSpace(id))
		return strings.Contains(text, "|Exit_status=7|") && strings.Contains(text, "|substate=93|")
	})
	if got, err := os.ReadFile(out); err != nil || string(got) != "named in "+s.dir+"\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
