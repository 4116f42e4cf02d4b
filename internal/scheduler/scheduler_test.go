package scheduler_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// lines is a batch system whose commands are the scripts of a folder and whose
// listings are lines of ID TAG PHASE [incomplete] [RESTARTS].
type lines struct{ noHistory bool }

func (lines) System() string                     { return "lines" }
func (lines) Environment() scheduler.Environment { return scheduler.Environment{} }
func (lines) Probe() []scheduler.Call[hpcsera.Facts] {
	return []scheduler.Call[hpcsera.Facts]{
		{Argv: []string{"version"}, Parse: func(o scheduler.Output) (hpcsera.Facts, error) {
			return hpcsera.Facts{Version: strings.TrimSpace(string(o.Stdout)), Cluster: "c"}, nil
		}},
		{Argv: []string{"queues"}, Parse: func(o scheduler.Output) (hpcsera.Facts, error) {
			return hpcsera.Facts{Queues: []hpcsera.Queue{{Name: strings.TrimSpace(string(o.Stdout))}}}, nil
		}},
	}
}

func (lines) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	return scheduler.Call[[]scheduler.Ref]{Argv: []string{"submit", s.Script}, Parse: func(o scheduler.Output) ([]scheduler.Ref, error) {
		if o.Exit != 0 {
			return nil, &scheduler.Refused{Message: scheduler.FirstLine(o.Stderr)}
		}
		return []scheduler.Ref{{ID: strings.TrimSpace(string(o.Stdout))}}, nil
	}}
}

func (lines) Queue() scheduler.Call[[]scheduler.Status] {
	return scheduler.Call[[]scheduler.Status]{Argv: []string{"queue"}, Env: []string{"EXTRA=1"}, Parse: parseLines}
}

func (l lines) History(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	argv := []string{"history"}
	for _, r := range refs {
		argv = append(argv, r.ID+"/"+r.Tag)
	}
	return scheduler.Call[[]scheduler.Status]{Argv: argv, Parse: parseLines}, !l.noHistory
}

func (lines) Act(a scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	argv := []string{"act", string(a)}
	for _, r := range refs {
		argv = append(argv, r.ID)
	}
	return scheduler.Call[struct{}]{Argv: argv, Parse: func(o scheduler.Output) (struct{}, error) {
		if o.Exit != 0 {
			return struct{}{}, errors.New("failed")
		}
		return struct{}{}, nil
	}}
}

func parseLines(o scheduler.Output) ([]scheduler.Status, error) {
	switch {
	case o.Exit == 7:
		return nil, scheduler.ErrNoHistory
	case o.Exit != 0:
		return nil, fmt.Errorf("status %d", o.Exit)
	}
	var list []scheduler.Status
	for i, line := range strings.Split(strings.TrimSpace(string(o.Stdout)), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		st := scheduler.Status{Ref: scheduler.Ref{ID: f[0], Tag: f[1]}, Phase: scheduler.Phase(f[2]), Native: line, Submitted: time.Unix(int64(1000+i), 0)}
		for _, word := range f[3:] {
			n, err := strconv.Atoi(word)
			if err != nil {
				st.Incomplete, st.Reason = word == "incomplete", hpcsera.Reason(word)
			}
			st.Restarts = n
		}
		list = append(list, st)
	}
	return list, nil
}

// system writes the commands and returns a Scheduler that runs them. Each call
// adds a line to DIR/calls.
func system(t *testing.T, d lines, commands map[string]string, change func(*scheduler.Config)) (*scheduler.Scheduler, string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range commands {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho "+name+" \"$@\" >> "+dir+"/calls\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := scheduler.Config{Path: []string{dir, "/usr/bin", "/bin"}}
	if change != nil {
		change(&c)
	}
	return scheduler.New(d, c), dir
}

func calls(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func tag(n int) string { return fmt.Sprintf("s_%020d", n) }

func ref(n int) scheduler.Ref { return scheduler.Ref{ID: strconv.Itoa(n), Tag: tag(n)} }

func listing(rows ...string) string { return "cat <<'E'\n" + strings.Join(rows, "\n") + "\nE" }

func row(n int, rest string) string { return strconv.Itoa(n) + " " + tag(n) + " " + rest }

func TestCommandsGetOnlyTheAllowListedEnvironment(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{"queue": "env > $(dirname $0)/env"}, func(c *scheduler.Config) {
		c.Environment = []string{"SLURM_CONF=/etc/s.conf", "SLURM_CONF=/second", "HOME=/h", "USER=u", "LOGNAME=u", "TZ=UTC", "LANG=de_DE.UTF-8", "LC_ALL=de_DE.UTF-8", "PATH=/evil",
			"LD_PRELOAD=x", "LD_LIBRARY_PATH=x", "BASH_ENV=x", "ENV=x", "IFS=x", "SBATCH_PARTITION=x", "SLURM_CLUSTERS=x", "SQUEUE_FORMAT=x", "BASH_FUNC_a%%=() { :; }", "broken"}
	})
	if _, err := s.Statuses(t.Context(), []scheduler.Ref{ref(1)}); err == nil {
		t.Fatal("there is no history command, so this must fail")
	}
	b, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(b)), "\n")
	slices.Sort(got)
	want := []string{"EXTRA=1", "HOME=/h", "LANG=C", "LC_ALL=C", "LOGNAME=u", "PATH=" + dir + ":/usr/bin:/bin", "PWD=/", "SLURM_CONF=/etc/s.conf", "TZ=UTC", "USER=u"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestAHangingCommandIsKilledWithAllItStarted(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{"queue": "echo $$ > $(dirname $0)/pid; sleep 600 & echo $! > $(dirname $0)/child; wait"},
		func(c *scheduler.Config) { c.QueryTimeout = 500 * time.Millisecond })
	_, err := s.Statuses(t.Context(), []scheduler.Ref{ref(1)})
	if hpcsera.CodeOf(err) != hpcsera.Unavailable || !strings.Contains(err.Error(), "did not answer within 500ms") {
		t.Errorf("got %v, want it to say that the command did not answer", err)
	}
	for _, name := range []string{"pid", "child"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		for !ended(pid) {
			select {
			case <-t.Context().Done():
				t.Fatalf("%s lives on", name)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	if got := s.Stats().Queue; got.Runs != 1 || got.Failures != 1 {
		t.Errorf("counted %+v, want one run, one failure", got)
	}
}

func ended(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err == nil && strings.Contains(string(b), ") Z ")
}

func TestNothingButAWholeAnswerInTimeIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		change     func(*scheduler.Config)
	}{
		"too much output":    {"head -c 100000 /dev/zero", "more than 50000 bytes", func(c *scheduler.Config) { c.MaxOutput = 50000 }},
		"too much on stderr": {"head -c 100000 /dev/zero >&2; " + listing(row(1, "running")), "more than 50000 bytes", func(c *scheduler.Config) { c.MaxOutput = 50000 }},
		"killed by a signal": {listing(row(1, "running")) + "\nkill -TERM $$", "signal: terminated", nil},
		"pipe left open":     {listing(row(1, "running")) + "\nsetsid sleep 4 &", "WaitDelay", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := system(t, lines{}, map[string]string{"queue": c.text}, c.change)
			answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref(1)})
			if err == nil || answer != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %+v, %v, want an error with %q", answer, err, c.want)
			}
		})
	}
}

func TestACancelledContextEndsTheCommand(t *testing.T) {
	s, _ := system(t, lines{}, map[string]string{"submit": "exec sleep 600"}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := s.Submit(ctx, scheduler.Submission{Tag: tag(1), Script: "/s", Output: "/o", Directory: "/d"})
	if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
		t.Errorf("got %v, want an ambiguous error", err)
	}
}

func TestSubmitRefusesWhatItWouldNotFindAgain(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{"submit": "echo 1"}, nil)
	good := scheduler.Submission{Tag: tag(1), Script: "/s", Output: "/o", Directory: "/d"}
	for name, change := range map[string]func(*scheduler.Submission){
		"no tag": func(s *scheduler.Submission) { s.Tag = "" }, "a tag that is an option": func(s *scheduler.Submission) { s.Tag = "--wrap=id" },
		"relative script": func(s *scheduler.Submission) { s.Script = "--wrap=id" }, "relative output": func(s *scheduler.Submission) { s.Output = "o" },
		"no folder": func(s *scheduler.Submission) { s.Directory = "" },
	} {
		bad := good
		change(&bad)
		if _, err := s.Submit(t.Context(), bad); errors.As(err, new(*scheduler.Refused)) == false {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	if got := calls(t, dir); len(got) != 0 {
		t.Errorf("got the calls %q, want none", got)
	}
	if got, err := s.Submit(t.Context(), good); err != nil || !slices.Equal(got, []scheduler.Ref{ref(1)}) {
		t.Errorf("got %+v, %v, want %+v", got, err, ref(1))
	}
}

func TestCommandsAreFoundOnlyWhereTheyMayBe(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "queue"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(other, "queue"), nil, 0o600), os.Mkdir(filepath.Join(other, "submit"), 0o700)); err != nil {
		t.Fatal(err)
	}
	s := scheduler.New(lines{}, scheduler.Config{Path: []string{other}, Commands: map[string]string{"act": "act"}})
	if _, err := s.Statuses(t.Context(), []scheduler.Ref{ref(1)}); err == nil || !strings.Contains(err.Error(), "no command queue") {
		t.Errorf("got %v, want that the command is missing", err)
	}
	if _, err := s.Submit(t.Context(), scheduler.Submission{Tag: tag(1), Script: "/s", Output: "/o", Directory: "/d"}); !errors.As(err, new(*scheduler.Refused)) {
		t.Errorf("got %v, want a refusal: a folder is no command", err)
	}
}

func TestTheHistoryIsAskedOnlyForWhatTheQueueDoesNotTell(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{
		"queue":   listing(row(1, "running"), row(2, "ended"), row(3, "ended incomplete 2"), row(9, "queued"), "77 other running", row(6, "ended incomplete")),
		"history": listing(row(3, "ended cancelled_by_site"), row(4, "ended"), row(5, "running"), row(8, "ended"), row(8, "running"), row(11, "ended"), row(11, "ended last")),
	}, nil)
	gone, reused := ref(12), scheduler.Ref{ID: "4", Tag: tag(13)}
	known := []scheduler.Ref{ref(1), ref(2), ref(3), ref(4), ref(5), ref(6), ref(8), ref(11), gone, reused}
	answer, err := s.Statuses(t.Context(), known)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r, st := range answer {
		got[r.ID] = strings.TrimPrefix(st.Native, r.ID+" "+r.Tag+" ")
	}
	want := map[string]string{
		"1": "running", "2": "ended", "3": "ended cancelled_by_site", "4": "ended", "6": "ended incomplete", "11": "ended last",
		// 5, 8: alive by the history alone; the queue does not know them.
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if got := answer[ref(3)].Restarts; got != 2 {
		t.Errorf("restarts that only the queue knew: got %d, want 2", got)
	}
	if got := answer[ref(11)].Restarts; got != 1 {
		t.Errorf("two runs in the history: got %d restarts, want 1", got)
	}
	asked := "history"
	for _, r := range []scheduler.Ref{ref(3), ref(4), ref(5), ref(6), ref(8), ref(11), gone, reused} {
		asked += " " + r.ID + "/" + r.Tag
	}
	if diff := cmp.Diff([]string{"queue", asked}, calls(t, dir)); diff != "" {
		t.Errorf("calls: want -, got +:\n%s", diff)
	}
}

func TestNothingIsAskedForNothing(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{"queue": "exit 1"}, nil)
	if answer, err := s.Statuses(t.Context(), nil); err != nil || len(answer) != 0 {
		t.Errorf("statuses: got %+v, %v", answer, err)
	}
	if found, err := s.Find(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("find: got %+v, %v", found, err)
	}
	if err := s.Act(t.Context(), scheduler.Cancel, nil); err != nil {
		t.Errorf("act: %v", err)
	}
	if got := calls(t, dir); got != nil {
		t.Errorf("got the calls %q, want none", got)
	}
}

func TestJobsWithoutIDAreLookedUpByTagInACallOfTheirOwn(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{"queue": listing(row(1, "running")), "history": listing(row(2, "ended"))}, nil)
	byTag := scheduler.Ref{Tag: tag(2)}
	answer, err := s.Statuses(t.Context(), []scheduler.Ref{{Tag: tag(1)}, byTag, ref(3)})
	if err != nil || answer[byTag].ID != "2" || answer[scheduler.Ref{Tag: tag(1)}].ID != "1" {
		t.Errorf("got %+v, %v, want jobs 1 and 2", answer, err)
	}
	if diff := cmp.Diff([]string{"queue", "history 3/" + tag(3), "history /" + tag(2)}, calls(t, dir)); diff != "" {
		t.Errorf("calls: want -, got +:\n%s", diff)
	}
}

func TestThousandsOfJobsAreAskedForInParts(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{"queue": "exit 0", "history": "exit 0"}, nil)
	var known []scheduler.Ref
	for n := range 2500 {
		known = append(known, ref(n+1))
	}
	if answer, err := s.Statuses(t.Context(), known); err != nil || len(answer) != 0 {
		t.Errorf("got %d jobs, %v", len(answer), err)
	}
	var parts []int
	for _, c := range calls(t, dir)[1:] {
		parts = append(parts, len(strings.Fields(c))-1)
	}
	if want := []int{1000, 1000, 500}; !slices.Equal(parts, want) {
		t.Errorf("got parts of %v, want %v", parts, want)
	}
}

func TestAFailedHistoryMakesNothingAbsent(t *testing.T) {
	s, _ := system(t, lines{}, map[string]string{"queue": listing(row(1, "running"), row(2, "ended incomplete")), "history": "exit 1"}, nil)
	answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref(1), ref(2), ref(3)})
	if err == nil || answer[ref(1)].Phase != scheduler.PhaseRunning || answer[ref(2)].Phase != scheduler.PhaseEnded {
		t.Errorf("got %+v, %v, want what the queue told and an error", answer, err)
	}
	answer, err = s.Statuses(t.Context(), []scheduler.Ref{ref(1), ref(2)})
	if err != nil || len(answer) != 2 {
		t.Errorf("nothing is missing: got %+v, %v, want no error", answer, err)
	}
	if _, err := s.Find(t.Context(), tag(3)); err == nil {
		t.Error("find: got no error")
	}
}

func TestASiteWithoutHistoryIsNotAskedAgainAndAgain(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{"queue": "exit 0", "history": "exit 7"}, nil)
	for range 3 {
		if answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref(1)}); err != nil || len(answer) != 0 {
			t.Errorf("got %+v, %v, want it absent", answer, err)
		}
	}
	if got := calls(t, dir); len(got) != 4 {
		t.Errorf("got the calls %q, want three of queue and one of history", got)
	}
	if got := s.Stats(); got.History.Failures != 0 || got.Queue.Runs != 3 || got.Total().Runs != 4 {
		t.Errorf("counted %+v", got)
	}
	s, dir = system(t, lines{noHistory: true}, map[string]string{"queue": "exit 0"}, nil)
	if answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref(1)}); err != nil || len(answer) != 0 || len(calls(t, dir)) != 1 {
		t.Errorf("a system without history: got %+v, %v after %q", answer, err, calls(t, dir))
	}
}

func TestActionsReachOnlyJobsTheyMeanSomethingFor(t *testing.T) {
	s, dir := system(t, lines{}, map[string]string{
		"queue": listing(row(1, "queued"), row(2, "held"), row(3, "running"), row(4, "ended"), row(5, "unknown"), row(6, "queued held_by_site")),
		"act":   "exit 0",
	}, nil)
	all := []scheduler.Ref{ref(1), ref(2), ref(3), ref(4), ref(5), ref(6), ref(7), {ID: "1", Tag: tag(8)}, {ID: "9", Tag: tag(1)}}
	for action, want := range map[scheduler.Action]string{
		scheduler.Cancel: "act cancel 1 2 3 5 6", scheduler.Hold: "act hold 1 6", scheduler.Release: "act release 2 6",
	} {
		if err := os.RemoveAll(filepath.Join(dir, "calls")); err != nil {
			t.Fatal(err)
		}
		if err := s.Act(t.Context(), action, all); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"queue", want}, calls(t, dir)); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", action, diff)
		}
	}
	if err := s.Act(t.Context(), scheduler.Cancel, []scheduler.Ref{{Tag: tag(3)}}); err != nil {
		t.Fatal(err)
	}
	if got := calls(t, dir); got[len(got)-1] != "act cancel 3" {
		t.Errorf("by tag alone: got %q", got)
	}
}

func TestProbeJoinsWhatItsCommandsTell(t *testing.T) {
	s, _ := system(t, lines{}, map[string]string{"version": "echo 1.2", "queues": "echo q"}, nil)
	got, err := s.Probe(t.Context())
	want := hpcsera.Facts{System: "lines", Version: "1.2", Cluster: "c", Queues: []hpcsera.Queue{{Name: "q"}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
	s, _ = system(t, lines{}, map[string]string{"version": "echo 1.2"}, nil)
	if got, err := s.Probe(t.Context()); err == nil {
		t.Errorf("a command is missing: got %+v without an error", got)
	}
}
