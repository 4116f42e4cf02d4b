package spool

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// taker is the environment variable that makes the test binary a process of
// its own that takes claims: spool, job and number of starts.
const taker = "HPCSERA_SPOOL_TAKER"

func TestMain(m *testing.M) {
	if spec := os.Getenv(taker); spec != "" {
		os.Exit(takeAll(strings.Fields(spec)))
	}
	os.Exit(m.Run())
}

// takeAll waits for a line, so that both processes begin together, takes the
// starts 1 to 200 and prints those it won.
func takeAll(args []string) int {
	s, err := Open(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	for n := 1; n <= 200; n++ {
		_, won, err := s.Take(args[1], 0, n, Claim{Owner: OwnerWrapper, Tag: args[2]})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if won {
			fmt.Println(n)
		}
	}
	return 0
}

func open(t *testing.T) *Spool {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func take(t *testing.T, s *Spool, job string, n int, c Claim) (Claim, bool) {
	t.Helper()
	owner, won, err := s.Take(job, 0, n, c)
	if err != nil {
		t.Fatalf("Take start %d: %v", n, err)
	}
	return owner, won
}

func TestALooserSpoolIsRefused(t *testing.T) {
	for _, mode := range []fs.FileMode{0o750, 0o705, 0o710, 0o701, 0o777} {
		dir := filepath.Join(t.TempDir(), "spool")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("mode %04o: got error %v, want one that says chmod 700", mode, err)
		}
	}
}

func TestWhatTheSpoolMakesIsForItsOwnerAlone(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	take(t, s, job, 1, Claim{Owner: OwnerWrapper})
	if err := s.Finish(job, 0, 1, End{}); err != nil {
		t.Fatal(err)
	}
	if err := s.PutFiles(Task{Job: job, Files: []File{{Name: "script", Program: true}, {Name: "values.json"}}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutSubmission(Submission{Tag: hpcsera.NewID("s"), Members: []Member{{Job: job}}}, []Task{{Job: job}}, "/bin/true"); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(s.Dir(), func(path string, e fs.DirEntry, err error) error {
		if info, infoErr := os.Lstat(path); err != nil || infoErr != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: got mode %v (%v, %v), want nothing for others", path, info.Mode(), err, infoErr)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestOfManyTakersInOneProcessExactlyOneWins(t *testing.T) {
	s := open(t)
	for round := range 20 {
		job := hpcsera.NewID("j")
		const takers = 32
		var wg sync.WaitGroup
		owners, wins := make([]Claim, takers), make([]bool, takers)
		begin := make(chan struct{})
		for i := range takers {
			wg.Go(func() {
				<-begin
				owner := OwnerWrapper
				if i%2 == 0 {
					owner = OwnerAgent
				}
				var err error
				if owners[i], wins[i], err = s.Take(job, 0, 1, Claim{Owner: owner, Tag: fmt.Sprint(i)}); err != nil {
					t.Errorf("round %d: taker %d: %v", round, i, err)
				}
			})
		}
		close(begin)
		wg.Wait()
		won := 0
		for i := range takers {
			if wins[i] {
				won++
			}
			if owners[i] != owners[0] {
				t.Fatalf("round %d: taker %d saw the owner %+v, taker 0 %+v", round, i, owners[i], owners[0])
			}
		}
		if won != 1 {
			t.Fatalf("round %d: got %d winners, want 1", round, won)
		}
		if left, _ := filepath.Glob(filepath.Join(s.start(job, 0, 1), ".claim-*")); len(left) > 0 {
			t.Errorf("round %d: left behind: %q", round, left)
		}
	}
}

func TestOfTwoProcessesExactlyOneWinsEachStart(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	type process struct {
		cmd *exec.Cmd
		in  io.WriteCloser
		out *bufio.Scanner
	}
	var both []process
	for i := range 2 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", taker, s.Dir(), job, i))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p := process{cmd: cmd, in: in, out: bufio.NewScanner(out)}
		if !p.out.Scan() {
			t.Fatalf("process %d did not begin", i)
		}
		both = append(both, p)
	}
	for _, p := range both {
		fmt.Fprintln(p.in)
	}
	won := map[string]int{}
	for i, p := range both {
		for p.out.Scan() {
			won[p.out.Text()]++
		}
		if err := p.cmd.Wait(); err != nil {
			t.Fatalf("process %d: %v", i, err)
		}
	}
	for n := 1; n <= 200; n++ {
		if got := won[fmt.Sprint(n)]; got != 1 {
			t.Errorf("start %d: got %d winners, want 1", n, got)
		}
	}
}

// knownNonce makes the next claim's nonce predictable, so that a test can
// place the file that a link(2) with a lost answer leaves.
type knownNonce struct{}

func (knownNonce) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 7
	}
	return len(b), nil
}

func TestALinkThatWasMadeAndWhoseAnswerWasLostIsWon(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	random := rand.Reader
	rand.Reader = knownNonce{}
	defer func() { rand.Reader = random }()
	nonce := hex.EncodeToString(slices.Repeat([]byte{7}, 16))
	mine := Claim{Owner: OwnerWrapper, Tag: "mine", NativeID: "4711"}
	linked := mine
	linked.Nonce = nonce
	if err := os.MkdirAll(s.start(job, 0, 1), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeDurably(filepath.Join(s.start(job, 0, 1), "claim"), linked); err != nil {
		t.Fatal(err)
	}
	// Take's own link(2) says EEXIST now, as a repeated request to a file server does.
	if owner, won := take(t, s, job, 1, mine); !won || owner != linked {
		t.Errorf("got won %v by %+v, want it won by %+v", won, owner, linked)
	}
}

func TestAClaimOfTheAgentStopsTheWrapper(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	if _, won := take(t, s, job, 1, Claim{Owner: OwnerAgent, Tag: "first"}); !won {
		t.Fatal("the agent alone: not won")
	}
	for _, tag := range []string{"first", "second"} {
		if owner, won := take(t, s, job, 1, Claim{Owner: OwnerWrapper, Tag: tag}); won || owner.Owner != OwnerAgent {
			t.Errorf("wrapper of %s: got won %v by %s, want it lost to the agent", tag, won, owner.Owner)
		}
	}
	if start, count, blocked, err := s.Latest(job, 0, 1); err != nil || start != nil || count != 0 || !blocked {
		t.Errorf("Latest: got %v, %d, blocked %v (%v), want nothing but blocked", start, count, blocked, err)
	}
}

func TestASpoolThatCannotBeWrittenWinsNothing(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	// A file where the folder should be: what a removed or read-only spool is to root, too.
	if err := os.WriteFile(filepath.Join(s.Dir(), job), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, won, err := s.Take(job, 0, 1, Claim{Owner: OwnerWrapper}); won || err == nil {
		t.Errorf("got won %v and error %v, want an error and nothing won", won, err)
	}
}

func TestLatestFollowsRequeuedStarts(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	if start, count, blocked, err := s.Latest(job, 0, 1); err != nil || start != nil || count != 0 || blocked {
		t.Fatalf("of an unclaimed start: got %v, %d, %v (%v), want nothing", start, count, blocked, err)
	}
	for n := 1; n <= 3; n++ {
		take(t, s, job, n, Claim{Owner: OwnerWrapper, Tag: "tag", NativeID: "4711"})
		if n < 3 {
			if err := s.Finish(job, 0, n, End{Exit: hpcsera.Exit{Signal: n}}); err != nil {
				t.Fatal(err)
			}
		}
		start, count, blocked, err := s.Latest(job, 0, 1)
		if err != nil || start == nil || start.N != n || count != n || blocked {
			t.Fatalf("after start %d: got %+v, %d, %v (%v), want start %d", n, start, count, blocked, err, n)
		}
		if ended := start.End != nil; ended != (n < 3) {
			t.Errorf("end of start %d: got %v, want %v", n, ended, n < 3)
		}
		if n < 3 && start.End.Exit.Signal != n {
			t.Errorf("end of start %d: got signal %d, want its own", n, start.End.Exit.Signal)
		}
	}
	take(t, s, job, 4, Claim{Owner: OwnerAgent})
	if start, count, blocked, err := s.Latest(job, 0, 1); err != nil || start == nil || start.N != 3 || count != 3 || !blocked {
		t.Errorf("with the next one blocked: got %+v, %d, %v (%v), want start 3, blocked", start, count, blocked, err)
	}
	if start, count, _, err := s.Latest(job, 0, 3); err != nil || start == nil || start.N != 3 || count != 1 {
		t.Errorf("counted from 3: got %+v, %d (%v), want start 3 alone", start, count, err)
	}
	if start, _, _, err := s.Latest(job, 1, 1); err != nil || start != nil {
		t.Errorf("of another step: got %+v (%v), want nothing", start, err)
	}
}

func TestADamagedClaimIsAnErrorAndNobodysStart(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	take(t, s, job, 1, Claim{Owner: OwnerWrapper})
	if err := os.WriteFile(filepath.Join(s.start(job, 0, 1), "claim"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if start, _, _, err := s.Latest(job, 0, 1); err == nil || start != nil {
		t.Errorf("Latest: got %+v and error %v, want an error", start, err)
	}
	if _, won, err := s.Take(job, 0, 1, Claim{Owner: OwnerAgent}); err == nil || won {
		t.Errorf("Take: got won %v and error %v, want an error", won, err)
	}
}

func TestRingsTellOfStartsAndEndsUntilTheyAreAnswered(t *testing.T) {
	s, a, b := open(t), hpcsera.NewID("j"), hpcsera.NewID("j")
	rings := func() map[string][]string {
		t.Helper()
		got, err := s.Rings("i_test")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	take(t, s, a, 1, Claim{Owner: OwnerWrapper})
	take(t, s, b, 1, Claim{Owner: OwnerAgent}) // the agent knows what it did itself
	if got := rings(); len(got) != 1 || len(got[a]) != 1 {
		t.Fatalf("after one start: got %v, want one ring of %s", got, a)
	}
	if err := s.Finish(a, 0, 1, End{}); err != nil {
		t.Fatal(err)
	}
	got := rings()
	if len(got[a]) != 2 {
		t.Fatalf("after its end: got %v, want two rings", got)
	}
	s.Answer(got[a][:1])
	if got := rings(); len(got[a]) != 1 {
		t.Errorf("after one answer: got %v, want one ring left", got)
	}
	s.Answer(got[a])
	s.Answer(got[a]) // a repeated answer is no harm
	if got := rings(); len(got) != 0 {
		t.Errorf("after both: got %v, want none", got)
	}
	if start, _, _, err := s.Latest(a, 0, 1); err != nil || start == nil || start.End == nil {
		t.Errorf("the records: got %+v (%v), want them untouched by answers", start, err)
	}
}

// Losing a doorbell loses nothing: the records are the truth.
func TestARecordWithoutADoorbellStands(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	if err := os.RemoveAll(filepath.Join(s.Dir(), "inbox")); err != nil {
		t.Fatal(err)
	}
	if _, won := take(t, s, job, 1, Claim{Owner: OwnerWrapper}); !won {
		t.Fatal("without an inbox: not won")
	}
	if err := s.Finish(job, 0, 1, End{Exit: hpcsera.Exit{Code: 3}}); err != nil {
		t.Fatal(err)
	}
	if start, _, _, err := s.Latest(job, 0, 1); err != nil || start == nil || start.End == nil || start.End.Exit.Code != 3 {
		t.Errorf("got %+v (%v), want the end with exit 3", start, err)
	}
}

func TestAnUnwrittenEndLeavesNoHalfRecord(t *testing.T) {
	s, job := open(t), hpcsera.NewID("j")
	take(t, s, job, 1, Claim{Owner: OwnerWrapper})
	// What a wrapper leaves that is killed while it writes.
	if err := os.WriteFile(filepath.Join(s.start(job, 0, 1), ".end"), []byte(`{"exit":{"co`), 0o600); err != nil {
		t.Fatal(err)
	}
	if start, _, _, err := s.Latest(job, 0, 1); err != nil || start == nil || start.End != nil {
		t.Errorf("got %+v (%v), want a start without an end", start, err)
	}
}

// The script must run the wrapper whatever characters its paths have, and
// nothing else.
func TestWrapperScriptQuotesEveryPath(t *testing.T) {
	for _, name := range []string{"plain", "with space", "it's", `a"b`, "$HOME", "`id`", "$(touch x)", "a;b", "a\nb", "*", "-n", `back\slash`, "ünï"} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(t.TempDir(), name)
			s, err := Open(filepath.Join(root, "spool"))
			if err != nil {
				t.Fatal(err)
			}
			// A wrapper that prints its arguments, one per line with its length.
			binary := filepath.Join(root, "agent")
			if err := os.WriteFile(binary, []byte("#!/bin/sh\nfor a; do printf '%s\\0' \"$a\"; done\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			tag := hpcsera.NewID("s")
			script, _, err := s.PutSubmission(Submission{Tag: tag}, nil, binary)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(script)
			cmd.Dir = t.TempDir()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("script: %v: %s", err, out)
			}
			want := strings.Join([]string{"step", s.Dir(), tag, ""}, "\x00")
			if string(out) != want {
				t.Errorf("arguments: got %q, want %q", out, want)
			}
		})
	}
}

func TestRemoveErasesAJobAndItsSubmissionsOnly(t *testing.T) {
	s, gone, stays := open(t), hpcsera.NewID("j"), hpcsera.NewID("j")
	goneTag, staysTag := hpcsera.NewID("s"), hpcsera.NewID("s")
	for job, tag := range map[string]string{gone: goneTag, stays: staysTag} {
		take(t, s, job, 1, Claim{Owner: OwnerWrapper})
		if _, _, err := s.PutSubmission(Submission{Tag: tag}, nil, "/bin/true"); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(filepath.Dir(s.Dir()), "outside")
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, job := range []string{"", ".", "..", "inbox", "bin", "../outside", "j_short"} {
		if err := s.Remove(job, nil); err == nil {
			t.Errorf("Remove %q: got no error, want a refusal", job)
		}
	}
	if err := s.Remove(gone, []string{goneTag, "../../outside", "..", "."}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("a folder outside: %v, want it untouched", err)
	}
	if jobs, err := filepath.Glob(filepath.Join(s.dir, "j_*")); err != nil || len(jobs) != 1 || filepath.Base(jobs[0]) != stays {
		t.Errorf("got the folders %v (%v), want that of %s alone", jobs, err, stays)
	}
	if _, err := s.Submission(goneTag); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its submission: got %v, want it gone", err)
	}
	if _, err := s.Submission(staysTag); err != nil {
		t.Errorf("the other's submission: %v", err)
	}
}

func TestRecordsComeBackAsTheyWereWritten(t *testing.T) {
	s, job, tag := open(t), hpcsera.NewID("j"), hpcsera.NewID("s")
	task := Task{
		Job: job, Step: 2, Directory: "/d", Argv: []string{"/bin/x", "a\nb", ""}, Environment: map[string]string{"A": "$(id)"},
		Check: []Check{{Path: "/f", SHA256: "00"}}, Requeue: true, Timeout: hpcsera.Duration(time.Minute),
	}
	sub := Submission{Tag: tag, Members: []Member{{Job: hpcsera.NewID("j")}, {Job: job, Step: 2, N: 3, Attempt: 4}}, IDVariables: []string{"X"}, IndexVariable: "I", ClusterVariable: "C", Pass: []string{"P_"}, Drop: []string{"P_D"}}
	first := Task{Job: sub.Members[0].Job, Argv: []string{"/bin/y"}, Files: []File{{Name: "script", Text: "é\n", Program: true}}}
	if _, _, err := s.PutSubmission(sub, []Task{first, task}, "/bin/true"); err != nil {
		t.Fatal(err)
	}
	read, err := s.Submission(tag)
	for i, want := range []Task{first, task} {
		got, taskErr := s.Task(tag, read.Members[i])
		if taskErr != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("task %d: got %+v (%v), want %+v", i, got, taskErr, want)
		}
		read.Members[i].Offset, read.Members[i].Length = 0, 0
	}
	if err != nil || fmt.Sprint(read) != fmt.Sprint(sub) {
		t.Errorf("submission: got %+v (%v), want %+v", read, err, sub)
	}
}

func TestBinaryIsCopiedWholeAndOnce(t *testing.T) {
	s := open(t)
	source := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(source, []byte("#!/bin/sh\necho one\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := s.Binary(source)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Binary(source); err != nil || again != first {
		t.Errorf("again: got %s (%v), want %s", again, err, first)
	}
	// A crash while it was copied leaves a short file under its final name on
	// file systems that rename before they write.
	if err := os.Truncate(first, 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Binary(source); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(first).Output(); err != nil || string(out) != "one\n" {
		t.Errorf("after a broken copy: got %q (%v), want it whole", out, err)
	}
	// An update of the agent leaves queued wrappers what they are.
	if err := os.WriteFile(source, []byte("#!/bin/sh\necho two\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	second, err := s.Binary(source)
	if err != nil || second == first {
		t.Fatalf("another binary: got %s (%v), want another path", second, err)
	}
	if out, err := exec.Command(first).Output(); err != nil || string(out) != "one\n" {
		t.Errorf("the old one after an update: got %q (%v), want it unchanged", out, err)
	}
}

func TestOutputTailIsTheEndOfWhatTheWrapperPrinted(t *testing.T) {
	s, tag := open(t), hpcsera.NewID("s")
	if got := s.OutputTail(tag, 10); got != "" {
		t.Errorf("without output: got %q, want nothing", got)
	}
	_, output, err := s.PutSubmission(Submission{Tag: tag}, nil, "/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(output, []byte(strings.Repeat("x", 100)+" the end\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := s.OutputTail(tag, 9); got != "the end" {
		t.Errorf("got %q, want %q", got, "the end")
	}
}
