// Package wrapper is what really runs in a batch job: it takes the start
// claim, checks the bytes once more, runs the step's program as the user
// signed it, and records how it ended. The batch system starts it through the
// script that the agent submitted; nothing else calls it.
//
// It promises: without the claim nothing runs. With the claim the program is
// started at most once, and the end record is on disk before the wrapper
// ends. The program gets data only through arguments, files and variables
// that are set here; nothing of it passes a shell or the batch system's
// command line.
package wrapper

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/failpoint"
)

// NotRun is the exit status of a wrapper that ran nothing because somebody
// else owns the start.
const NotRun = 75

// Unrecorded is the exit status of a wrapper that could not write the end
// record, so that its status is not taken for the program's.
const Unrecorded = 74

// Run is the whole wrapper: spool directory and tag from its command line,
// the environment as the batch system gave it. It returns the exit status.
func Run(dir, tag string, environ []string, stderr io.Writer) int {
	w := &wrapper{env: environ, stderr: stderr, pause: 5 * time.Second}
	status, err := w.run(dir, tag)
	if err != nil {
		fmt.Fprintf(stderr, "hpcsera-agent step: %v\n", err)
		return max(status, 1)
	}
	return status
}

type wrapper struct {
	env    []string
	stderr io.Writer
	spool  *spool.Spool
	sub    spool.Submission
	place  int // in the submission
	member spool.Member
	task   spool.Task
	host   string
	pause  time.Duration // between tries to write the end record
}

func (w *wrapper) run(dir, tag string) (int, error) {
	// Signals that the batch system sends to end a job must reach the program,
	// not end this process before the end record is written.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU)
	defer signal.Stop(signals)

	var err error
	if w.spool, err = spool.Open(dir); err != nil {
		return 1, err
	}
	if w.sub, err = w.spool.Submission(tag); err != nil {
		return 1, err
	}
	sub := w.sub
	if text := w.lookup(sub.IndexVariable); text != "" {
		if w.place, err = strconv.Atoi(text); err != nil {
			return 1, fmt.Errorf("%s is %q", sub.IndexVariable, text)
		}
		w.place -= sub.FirstIndex
	} else if len(sub.Members) > 1 {
		return 1, fmt.Errorf("the batch system does not say which member of %s this is: %s is not set", tag, sub.IndexVariable)
	}
	if w.place < 0 || w.place >= len(sub.Members) {
		return 1, fmt.Errorf("submission %s has no member %d", tag, w.place)
	}
	w.member = sub.Members[w.place]
	if w.task, err = w.spool.Task(tag, w.member); err != nil {
		return 1, err
	}
	w.host, _ = os.Hostname()
	n, won, err := w.claim()
	if err != nil {
		return 1, err
	}
	if !won {
		fmt.Fprintln(w.stderr, "hpcsera-agent step: this start belongs to another submission; nothing was run")
		return NotRun, nil
	}
	failpoint.Hit("wrapper.after-claim")
	end := w.program(n, signals)
	failpoint.Hit("wrapper.before-end")
	if err := w.finish(n, end); err != nil {
		return Unrecorded, err
	}
	if end.Exit.Signal != 0 {
		return 128 + end.Exit.Signal, nil
	}
	return end.Exit.Code, nil
}

// finish writes the end record. The program may just have filled the disk or
// the quota, which somebody or the system may mend within a minute.
func (w *wrapper) finish(n int, end spool.End) (err error) {
	for try := range 12 {
		if try > 0 {
			<-time.NewTimer(w.pause).C
		}
		if err = w.spool.Finish(w.member.Job, w.member.Step, n, end); err == nil {
			return nil
		}
	}
	return err
}

// claim takes this submission's start. A start that is held by this very
// native job means that the batch system requeued it: with requeue allowed
// the next start is taken, unless the agent has taken it to stop the job. A
// run that ended with 0 of itself was the step's last, whatever the batch system does.
func (w *wrapper) claim() (n int, won bool, err error) {
	sub := w.sub
	mine := spool.Claim{
		Owner: spool.OwnerWrapper, Tag: sub.Tag, Cluster: w.lookup(sub.ClusterVariable),
		Member: w.place, Host: w.host, PID: os.Getpid(), At: time.Now().UTC(),
	}
	for _, name := range sub.IDVariables {
		if mine.NativeID = w.lookup(name); mine.NativeID != "" {
			break
		}
	}
	if sub.MemberID != "" {
		index := strconv.Itoa(w.place + sub.FirstIndex)
		mine.NativeID = strings.NewReplacer("{id}", mine.NativeID, "{index}", index).Replace(sub.MemberID)
	}
	for n = w.member.N; ; n++ {
		owner, won, err := w.spool.Take(w.member.Job, w.member.Step, n, mine)
		if err != nil {
			return n, false, err
		}
		if won {
			won, err = w.stands()
			return n, won, err
		}
		same := owner.Owner == spool.OwnerWrapper && owner.Tag == mine.Tag && owner.NativeID == mine.NativeID && owner.Cluster == mine.Cluster
		if !same || !w.task.Requeue {
			return n, false, nil
		}
		run, _, _, err := w.spool.Latest(w.member.Job, w.member.Step, n)
		if err != nil {
			return n, false, err
		}
		if run.End.Done() {
			return n, false, nil
		}
	}
}

// stands says whether the submission is still there. It goes before its jobs'
// claims do, so a start that was free because all of a job was removed while this
// process stood still is nobody's.
func (w *wrapper) stands() (bool, error) {
	_, err := w.spool.Submission(w.sub.Tag)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// program runs the step and returns its end, whatever happens. What stands
// around the user's program is the site's: its hooks, and the shell that loads
// its software.
func (w *wrapper) program(n int, signals <-chan os.Signal) spool.End {
	end := spool.End{Started: time.Now().UTC(), Host: w.host}
	if err := spool.Folder(w.task.Directory); err != nil {
		return failed(end, err)
	}
	if err := w.spool.PutFiles(w.task); err != nil {
		return failed(end, err)
	}
	for _, c := range w.task.Check {
		if err := verify(c); err != nil {
			return failed(end, err)
		}
	}
	for _, p := range w.task.Present {
		if _, err := os.Stat(p.Path); err != nil {
			return failed(end, fmt.Errorf("%s: this is not on %s: %w", p.Field, w.host, err))
		}
	}
	stdout, stderr, err := w.outputs(n)
	if err != nil {
		return failed(end, err)
	}
	defer stdout.Close()
	defer stderr.Close()
	s := &stage{dir: w.task.Directory, stdout: stdout, stderr: stderr, signals: signals}
	end = w.surrounded(s, n, end)
	w.after(s, n, end)
	end.Told = end.Told || s.told && !end.Success()
	_ = errors.Join(stdout.Sync(), stderr.Sync())
	return end
}

// surrounded runs what comes before the user's program, and then that.
func (w *wrapper) surrounded(s *stage, n int, end spool.End) spool.End {
	err := w.before(s, n)
	var env []string
	if err == nil {
		env, err = w.setUp(s, n)
	}
	if errors.Is(err, errTold) {
		end.Told, end.Exit.Signal, end.Ended = true, int(syscall.SIGTERM), time.Now().UTC()
		return end
	}
	if err != nil {
		return failed(end, err)
	}
	done, err := s.run(process{
		argv: w.task.Argv, env: env, stdout: s.stdout, stderr: s.stderr, timeout: time.Duration(w.task.Timeout), most: int64(w.task.Output),
	})
	if err != nil {
		return failed(end, err)
	}
	end.Exit, end.Timeout, end.Output, end.Told, end.Ended = done.exit, done.timeout, done.output, s.told, time.Now().UTC()
	return end
}

// verify checks that a file still has the bytes that were signed.
func verify(c spool.Check) error {
	f, err := os.Open(c.Path)
	if err != nil {
		return fmt.Errorf("a signed file cannot be read: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return fmt.Errorf("a signed file cannot be read: %w", err)
	}
	if hex.EncodeToString(hash.Sum(nil)) != c.SHA256 {
		return fmt.Errorf("%s is not what was signed; nothing was run", filepath.Base(c.Path))
	}
	return nil
}

// passed are the variables that the program gets as they are, besides the
// batch system's own; no other reaches it unless it was signed.
var passed = []string{"HOME", "USER", "LOGNAME", "SHELL", "TZ", "TMPDIR", "HOSTNAME", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"}

const defaultPath = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

// given is what a start has of the batch system and of the wrapper itself.
func (w *wrapper) given(n int) map[string]string {
	env := map[string]string{"PATH": defaultPath, "LANG": "C.UTF-8"}
	for _, pair := range w.env {
		name, value, _ := strings.Cut(pair, "=")
		own := slices.ContainsFunc(w.sub.Pass, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if slices.Contains(passed, name) || own && !slices.Contains(w.sub.Drop, name) {
			env[name] = value
		}
	}
	// Some batch systems give only one of them; ch-run(1) needs USER.
	for _, same := range [][2]string{{"USER", "LOGNAME"}, {"LOGNAME", "USER"}} {
		if env[same[0]] == "" && env[same[1]] != "" {
			env[same[0]] = env[same[1]]
		}
	}
	for _, name := range w.sub.DirectoryVariables {
		if env[name] != "" { // the agent did not submit from there
			env[name] = w.task.Directory
		}
	}
	env["HPCSERA_ATTEMPT"] = strconv.Itoa(w.member.Attempt + n - w.member.N)
	return env
}

// environment is what is given, and what was signed over it.
func (w *wrapper) environment(n int) map[string]string {
	env := w.given(n)
	maps.Copy(env, w.task.Environment)
	return env
}

func pairs(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

func (w *wrapper) lookup(name string) string {
	if name == "" {
		return ""
	}
	for i := len(w.env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(w.env[i], name+"="); ok {
			return value
		}
	}
	return ""
}
