package oar_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/oar"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

const testbed = "../../../test/testbed/oar"

// TestMain runs eight cases beside each other, and harness lets them ask rarely:
// OAR's commands are Perl programs, of which a small machine does few a second.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// OAR exists once on a machine, so the tests here run one after the other, and
// those that do it harm while no other package uses it. It refuses root's jobs;
// root hands each test over to alice.

func TestOARKeepsTheDriversPromises(t *testing.T) {
	if lab(t, beside) {
		schedulertest.Run(t, harness(t))
	}
}

func TestOARMixesNothingUpAfterItsDatabasesCrash(t *testing.T) {
	if !lab(t, alone) {
		return
	}
	h := harness(t)
	h.Crash = func(t schedulertest.T) (*scheduler.Scheduler, schedulertest.Controller) {
		return h.New(t, func(c *scheduler.Config) { c.QueryTimeout, c.SubmitTimeout = 10*time.Second, 10*time.Second }),
			database{ask: os.NewFile(3, "ask"), hear: bufio.NewReader(os.NewFile(4, "hear"))}
	}
	schedulertest.RunCrash(t, h)
}

// A node that fails before a job's start makes OAR submit the job again.
func TestAJobThatGetsAnotherIDStaysTheSameJob(t *testing.T) {
	if !lab(t, alone) {
		return
	}
	s, dir := harness(t).New(t, nil), schedulertest.Folder(t)
	sub := scheduler.Submission{Tag: hpcsera.NewID("s"), Script: filepath.Join(dir, "script"), Directory: dir, Output: filepath.Join(dir, "out"), Held: true, Size: 2}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\necho $OAR_ARRAY_ID/$OAR_ARRAY_INDEX >>ran\nwhile [ ! -e go ]; do sleep 0.1; done\nexit $OAR_ARRAY_INDEX\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	refs, err := s.Submit(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	status := func(ref scheduler.Ref) scheduler.Status {
		t.Helper()
		answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref})
		if err != nil {
			t.Fatal(err)
		}
		return answer[ref]
	}
	await := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.After(2 * time.Minute); !done(); {
			select {
			case <-deadline:
				t.Fatalf("waited in vain until %s; the jobs: %+v, %+v", what, status(refs[0]), status(refs[1]))
			case <-time.After(300 * time.Millisecond):
			}
		}
	}
	act := func(a scheduler.Action, refs ...scheduler.Ref) {
		t.Helper()
		if err := s.Act(t.Context(), a, refs); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(os.Getenv("HPCSERA_TEST_OAR"), "faults", "suspect"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	act(scheduler.Release, refs[1])
	await("the second member runs after a restart", func() bool {
		st := status(refs[1])
		if st.Phase == scheduler.PhaseEnded || st.Phase == "" {
			t.Fatalf("got %+v, want it alive all the time", st)
		}
		return st.Restarts == 1 && st.Phase == scheduler.PhaseRunning
	})
	if st := status(refs[0]); st.Phase != scheduler.PhaseHeld || st.Restarts != 0 {
		t.Errorf("the other member: got %+v, want it held as before", st)
	}
	found, err := s.Find(t.Context(), sub.Tag)
	if err != nil || len(found) != 2 {
		t.Errorf("by its tag: got %+v, %v, want two members", found, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await("it has ended", func() bool { return status(refs[1]).Phase == scheduler.PhaseEnded })
	if st := status(refs[1]); st.Exit == nil || st.Exit.Code != 2 || st.Restarts != 1 || st.ID != refs[1].ID {
		t.Errorf("got %+v, want exit 2 after a restart", st)
	}
	ran, _ := os.ReadFile(filepath.Join(dir, "ran"))
	if want := strings.TrimSuffix(refs[1].ID, "_2") + "/2\n"; string(ran) != want {
		t.Errorf("the script says of itself %q, want %q once", ran, want)
	}
	act(scheduler.Cancel, refs...)
	await("the first is cancelled", func() bool { return status(refs[0]).Reason == hpcsera.CancelledByUser })
}

const beside, alone = false, true

// lab sees to it that the test runs beside a test bed, as an ordinary user. It
// returns false where another process has run it.
func lab(t *testing.T, exclusively bool) bool {
	t.Helper()
	const start = "Start a real OAR first:\n\teval \"$(sudo test/testbed/oar up)\""
	if os.Getenv("HPCSERA_TEST_OAR") == "" {
		t.Fatalf("HPCSERA_TEST_OAR is not set. %s", start)
	}
	if os.Getuid() != 0 {
		return true
	}
	schedulertest.Share(t, filepath.Join(os.Getenv("HPCSERA_TEST_OAR"), "users"), exclusively)
	if out, err := exec.Command("oarnodes", "-s").CombinedOutput(); err != nil || !strings.Contains(string(out), "Alive") {
		t.Fatalf("the OAR of this machine does not answer, or has no node: %v\n%s\n%s", err, out, start)
	}
	asAlice(t)
	return false
}

// asAlice runs the same test in another process, and the test bed's faults at
// its request, for which one must be root.
func asAlice(t *testing.T) {
	t.Helper()
	alice, err := user.Lookup("alice")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(alice.Uid, 10, 32)
	gid, _ := strconv.ParseUint(alice.Gid, 10, 32)
	dir, err := os.MkdirTemp("/tmp", "hpcsera-oar-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "oar.test")
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(copied, self, 0o755) //nolint:gosec // alice must be able to run it
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(copied, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=9m")
	cmd.Dir = "/"
	cmd.Env = []string{"HOME=" + alice.HomeDir, "USER=alice", "LOGNAME=alice", "PATH=/usr/bin:/bin", "HPCSERA_TEST_OAR=" + os.Getenv("HPCSERA_TEST_OAR")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	asked, ask, err1 := os.Pipe()
	hear, answer, err2 := os.Pipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	cmd.ExtraFiles = []*os.File{ask, hear}
	served := make(chan struct{})
	go func() { serve(asked, answer); close(served) }()
	out, err := cmd.CombinedOutput()
	ask.Close()
	<-served
	if err != nil {
		t.Errorf("as alice: %v\n%s", err, out)
	} else {
		t.Logf("as alice:\n%s", out)
	}
}

// serve runs the test bed with each line of arguments and answers with a line.
func serve(asked io.Reader, answer io.Writer) {
	lines := bufio.NewScanner(asked)
	for lines.Scan() {
		args := append(strings.Fields(lines.Text()), "--dir", os.Getenv("HPCSERA_TEST_OAR"))
		out, err := exec.Command(testbed, args...).CombinedOutput()
		text := ""
		if err != nil {
			text = fmt.Sprintf("%v: %q", err, out)
		}
		fmt.Fprintln(answer, text)
	}
}

// database is what OAR is controlled by here: without it, it knows nothing. The
// process that root has handed the test over from does what is asked.
type database struct {
	ask  io.Writer
	hear *bufio.Reader
}

func (d database) run(t schedulertest.T, args string) {
	t.Helper()
	if _, err := fmt.Fprintln(d.ask, args); err != nil {
		t.Fatalf("only root can do that to the test bed: %v", err)
	}
	if line, err := d.hear.ReadString('\n'); err != nil || line != "\n" {
		t.Fatalf("%s %s: %v %s", testbed, args, err, line)
	}
}

func (d database) Kill(t schedulertest.T)            { d.run(t, "kill-database") }
func (d database) KillAndRemember(t schedulertest.T) { d.run(t, "kill-database --snapshot") }
func (d database) Start(t schedulertest.T)           { d.run(t, "start-database") }
func (d database) StartFromCopy(t schedulertest.T)   { d.run(t, "start-database --rollback") }

func harness(t *testing.T) schedulertest.Harness {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return schedulertest.Harness{
		Traits: oar.Driver{}.Traits(), Dir: schedulertest.Folder(t), Ask: 2 * time.Second,
		New: func(_ schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler {
			c := scheduler.Config{Commands: map[string]string{}, Environment: os.Environ()}
			if change != nil {
				change(&c)
			}
			return scheduler.New(oar.Driver{User: me.Username}, c)
		},
	}
}
