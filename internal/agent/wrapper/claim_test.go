package wrapper

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

func TestOfTwoWrappersOfOneStartExactlyOneRuns(t *testing.T) {
	for round := range 8 {
		s := newSite(t)
		s.task(count)
		var wg sync.WaitGroup
		statuses := make([]int, 2)
		for i := range 2 {
			_, script := s.submission(1)
			wg.Go(func() { statuses[i] = s.run(script, strconv.Itoa(100+i)) })
		}
		wg.Wait()
		slices.Sort(statuses)
		if got := s.marks(); got != 1 {
			t.Fatalf("round %d: the program ran %d times, want once", round, got)
		}
		if !slices.Equal(statuses, []int{0, NotRun}) {
			t.Errorf("round %d: exit statuses: got %v, want 0 and %d", round, statuses, NotRun)
		}
	}
}

func TestAStartThatTheAgentOwnsRunsNothing(t *testing.T) {
	for _, requeue := range []bool{false, true} {
		s := newSite(t)
		s.task(count, func(task *spool.Task) { task.Requeue = requeue })
		tag, script := s.submission(1)
		if _, won, err := s.Take(s.job, 0, 1, spool.Claim{Owner: spool.OwnerAgent, Tag: tag}); err != nil || !won {
			t.Fatal(won, err)
		}
		p := s.start(script, "4711")
		if got := p.status(); got != NotRun {
			t.Errorf("requeue %v: exit status: got %d, want %d", requeue, got, NotRun)
		}
		if s.marks() != 0 {
			t.Errorf("requeue %v: the program ran", requeue)
		}
		if got := p.stderr.String(); !strings.Contains(got, "nothing was run") {
			t.Errorf("requeue %v: printed %q, want it to say that nothing was run", requeue, got)
		}
		if s.latest() != nil {
			t.Errorf("requeue %v: a wrapper owns a start, want none", requeue)
		}
	}
}

func TestARequeuedJobRunsAgainOnlyWithPermission(t *testing.T) {
	for _, c := range []struct {
		requeue bool
		runs    int
		status  int
	}{{false, 1, NotRun}, {true, 2, 3}} {
		s := newSite(t)
		s.task(count+"echo $HPCSERA_ATTEMPT >> attempts; exit 3", func(task *spool.Task) { task.Requeue = c.requeue })
		_, script := s.submission(1)
		if got := s.run(script, "4711"); got != 3 {
			t.Fatalf("first run: got status %d, want 3", got)
		}
		if got := s.run(script, "4711"); got != c.status {
			t.Errorf("requeue %v: second run: got status %d, want %d", c.requeue, got, c.status)
		}
		if got := s.marks(); got != c.runs {
			t.Errorf("requeue %v: the program ran %d times, want %d", c.requeue, got, c.runs)
		}
		if got := s.latest().N; got != c.runs {
			t.Errorf("requeue %v: newest start: got %d, want %d", c.requeue, got, c.runs)
		}
		if b, _ := os.ReadFile(s.path("attempts")); string(b) != strings.Join([]string{"1\n", "2\n"}[:c.runs], "") {
			t.Errorf("requeue %v: attempts: got %q, want 1 to %d", c.requeue, b, c.runs)
		}
	}
}

// Only the same native job can have been requeued; another one with the same
// script is a leftover of an unclear submission.
func TestAnotherNativeJobIsNoRequeue(t *testing.T) {
	s := newSite(t)
	s.task(count+"exit 3", func(task *spool.Task) { task.Requeue = true })
	_, script := s.submission(1)
	s.run(script, "4711")
	for _, env := range []string{"SLURM_JOB_ID=4712", "SLURM_CLUSTER_NAME=other"} {
		if got := s.run(script, "4711", env); got != NotRun {
			t.Errorf("%s: got status %d, want %d", env, got, NotRun)
		}
	}
	_, other := s.submission(1)
	if got := s.run(other, "4711"); got != NotRun {
		t.Errorf("same id, other submission: got status %d, want %d", got, NotRun)
	}
	if got := s.marks(); got != 1 {
		t.Errorf("the program ran %d times, want once", got)
	}
}

func TestARequeueAfterTheAgentStoppedTheJobRunsNothing(t *testing.T) {
	s := newSite(t)
	s.task(count+"exit 3", func(task *spool.Task) { task.Requeue = true })
	tag, script := s.submission(1)
	s.run(script, "4711")
	if _, won, err := s.Take(s.job, 0, 2, spool.Claim{Owner: spool.OwnerAgent, Tag: tag}); err != nil || !won {
		t.Fatal(won, err)
	}
	if got := s.run(script, "4711"); got != NotRun || s.marks() != 1 {
		t.Errorf("got status %d and %d runs, want %d and 1", got, s.marks(), NotRun)
	}
}

// Exit 0 of a program that was told to end is not final: it may have saved its
// work, to go on when the batch system runs it again.
func TestAProgramThatSavedItsWorkOnASignalRunsAgain(t *testing.T) {
	s := newSite(t)
	s.task(count+`[ "$HPCSERA_ATTEMPT" = 1 ] || exit 0; trap 'exit 0' TERM; touch ready; while :; do sleep 0.05; done`, func(task *spool.Task) { task.Requeue = true })
	_, script := s.submission(1)
	p := s.start(script, "4711")
	s.await("the program's start", func() bool { return s.exists("ready") })
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := p.status(); got != 0 {
		t.Fatalf("wrapper's status: got %d, want the program's 0", got)
	}
	if end := s.end(); !end.Told || !end.Success() {
		t.Errorf("end record: got %+v, want exit 0 of a program that was told to end", end)
	}
	if got := s.run(script, "4711"); got != 0 || s.marks() != 2 {
		t.Errorf("requeued: got status %d and %d runs, want 0 and 2", got, s.marks())
	}
	if got := s.run(script, "4711"); got != NotRun || s.marks() != 2 {
		t.Errorf("requeued after it ended of itself: got status %d and %d runs, want %d and 2", got, s.marks(), NotRun)
	}
}

// Exit 0 is final at once, so the job was told to have succeeded by now.
func TestARequeueAfterSuccessRunsNothing(t *testing.T) {
	s := newSite(t)
	s.task(count, func(task *spool.Task) { task.Requeue = true })
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 {
		t.Fatalf("first run: got status %d, want 0", got)
	}
	if got := s.run(script, "4711"); got != NotRun || s.marks() != 1 {
		t.Errorf("requeued: got status %d and %d runs, want %d and 1", got, s.marks(), NotRun)
	}
}

func TestIndexSelectsTheMember(t *testing.T) {
	s := newSite(t)
	other := hpcsera.NewID("j")
	others := spool.Task{Job: other, Directory: s.root, Argv: []string{"/bin/sh", "-c", "echo other >> marks"}}
	s.task(count)
	tag := hpcsera.NewID("s")
	script, _, err := s.PutSubmission(spool.Submission{Tag: tag, IDVariables: []string{"SLURM_JOB_ID"}, IndexVariable: "SLURM_ARRAY_TASK_ID",
		Members: []spool.Member{{Job: s.job, N: 1, Attempt: 1}, {Job: other, N: 1, Attempt: 1}}}, []spool.Task{s.step, others}, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := s.run(script, "7", "SLURM_ARRAY_TASK_ID=1"); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	if b, _ := os.ReadFile(s.path("marks")); string(b) != "other\n" {
		t.Errorf("ran: got %q, want the second member alone", b)
	}
}

func TestKilledBetweenClaimAndProgramRunsNothingEver(t *testing.T) {
	for _, c := range []struct {
		requeue bool
		runs    int
	}{{false, 0}, {true, 1}} {
		s := newSite(t)
		p, script, _ := s.pausedBeforeProgram(func(task *spool.Task) { task.Requeue = c.requeue })
		p.Process.Kill()
		if got := p.status(); got != 137 {
			t.Fatalf("got status %d, want 137", got)
		}
		if start := s.latest(); start == nil || start.End != nil || start.NativeID != "4711" {
			t.Errorf("got start %+v, want a claim of job 4711 without an end", start)
		}
		// The batch system queues it again; the pipe is a file by now.
		if err := os.Remove(s.path("pipe")); err != nil {
			t.Fatal(err)
		}
		s.check("pipe", "signed")
		s.run(script, "4711")
		if got := s.marks(); got != c.runs {
			t.Errorf("requeue %v: after a native requeue the program ran %d times, want %d", c.requeue, got, c.runs)
		}
	}
}

func TestKilledBetweenEndAndEndRecordDoesNotRunAgain(t *testing.T) {
	s := newSite(t)
	s.task(count + "exit 0")
	_, script := s.submission(1)
	// Opening a pipe for writing waits for a reader: there is none.
	record := filepath.Join(filepath.Dir(s.OutputPath(s.job, 0, 1, "stdout")), ".end")
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(record, 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.start(script, "4711")
	s.await("the program's end", func() bool { return s.marks() == 1 })
	p.Process.Kill()
	p.status()
	if start := s.latest(); start == nil || start.End != nil {
		t.Fatalf("got start %+v, want a claim without an end record", start)
	}
	if got := s.run(script, "4711"); got != NotRun {
		t.Errorf("queued again: got status %d, want %d", got, NotRun)
	}
	if got := s.marks(); got != 1 {
		t.Errorf("the program ran %d times, want once", got)
	}
}

// A wrapper that stood still while its job was cancelled, ended and removed from
// the site finds its start free, and runs nothing all the same.
func TestAStartOfAJobThatWasRemovedRunsNothing(t *testing.T) {
	s := newSite(t)
	s.task(count)
	tag, _ := s.submission(1)
	w := &wrapper{env: []string{"SLURM_JOB_ID=7"}, spool: s.Spool}
	var err error
	if w.sub, err = s.Submission(tag); err != nil {
		t.Fatal(err)
	}
	w.member = w.sub.Members[0]
	if w.task, err = s.Task(tag, w.member); err != nil {
		t.Fatal(err)
	}
	if _, won, err := s.Take(s.job, 0, 1, spool.Claim{Owner: spool.OwnerAgent}); !won || err != nil {
		t.Fatal(won, err)
	}
	if err := s.Remove(s.job, []string{tag}); err != nil {
		t.Fatal(err)
	}
	for _, requeue := range []bool{false, true} {
		w.task.Requeue = requeue
		if n, won, err := w.claim(); won || err != nil {
			t.Errorf("with requeue %v it won start %d (%v)", requeue, n, err)
		}
	}
}
