package schedulertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// patience is how long a case waits for what must come. Nothing is measured
// by it.
const patience = 3 * time.Minute

// many is how many jobs are many.
func (h Harness) many() int {
	if h.Site != nil {
		return 5
	}
	return 20
}

// bench is what a case works with.
type bench struct {
	T
	h   Harness
	s   *scheduler.Scheduler
	dir string
}

func newBench(t T, h Harness, s *scheduler.Scheduler) *bench {
	t.Helper()
	dir, err := os.MkdirTemp(h.Dir, "case-")
	if err != nil {
		t.Fatal(err)
	}
	if h.Site == nil { // else it names what was submitted, until that is certainly gone
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	if s == nil {
		s = h.New(t, nil)
	}
	return &bench{T: t, h: h, s: s, dir: dir}
}

// job makes a submission with a script of its own. The script's first line is
// #!/bin/sh.
func (b *bench) job(script string) scheduler.Submission {
	b.Helper()
	tag := hpcsera.NewID("s")
	sub := scheduler.Submission{Tag: tag, Script: b.file(tag + ".sh"), Directory: b.dir, Output: b.file(tag + ".out"), Comment: "suite"}
	if b.h.Site != nil {
		b.h.Site.Job(&sub)
	}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		b.Fatal(err)
	}
	return sub
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// waiting makes a submission stay in the queue.
func (b *bench) waiting(sub *scheduler.Submission) {
	if b.h.Waiting != nil {
		b.h.Waiting(b.T, b.s, sub)
		return
	}
	custom := maps.Clone(b.h.Waits)
	maps.Copy(custom, sub.Custom)
	sub.Custom = custom
}

// submit submits and cancels at the end of the case what is left.
func (b *bench) submit(sub scheduler.Submission) scheduler.Ref {
	b.Helper()
	return b.submitAll(sub)[0]
}

// submitAll is submit for an array.
func (b *bench) submitAll(sub scheduler.Submission) []scheduler.Ref {
	b.Helper()
	refs, err := b.s.Submit(b.Context(), sub)
	if err != nil {
		if _, refused := errors.AsType[*scheduler.Refused](err); !refused {
			b.cancelLater(scheduler.Ref{Tag: sub.Tag})
		}
		b.Fatalf("submit: %v", err)
	}
	seen := map[string]bool{}
	for _, ref := range refs {
		if ref.Tag != sub.Tag || ref.ID == "" || seen[ref.ID] {
			b.Fatalf("submit: got %+v, want an id of its own for each member and the tag %s", refs, sub.Tag)
		}
		seen[ref.ID] = true
	}
	b.cancelLater(refs...)
	return refs
}

func (b *bench) cancelLater(refs ...scheduler.Ref) {
	b.Cleanup(func() {
		if err := b.s.Act(context.Background(), scheduler.Cancel, refs); err != nil {
			b.Logf("clean up %s: %v", refs[0].Tag, err)
		}
	})
}

func (b *bench) act(a scheduler.Action, refs ...scheduler.Ref) {
	b.Helper()
	if err := b.s.Act(b.Context(), a, refs); err != nil {
		b.Fatalf("%s %v: %v", a, refs, err)
	}
}

// status asks for one job; found is false when it is absent.
func (b *bench) status(ref scheduler.Ref) (st scheduler.Status, found bool) {
	b.Helper()
	answer, err := b.s.Statuses(b.Context(), []scheduler.Ref{ref})
	if err != nil {
		b.Fatalf("statuses: %v", err)
	}
	st, found = answer[ref]
	return st, found
}

// await asks until the job is in one of the phases.
func (b *bench) await(ref scheduler.Ref, phases ...scheduler.Phase) scheduler.Status {
	b.Helper()
	var last scheduler.Status
	b.until(fmt.Sprintf("%s is %v", ref.Tag, phases), func() bool {
		st, found := b.status(ref)
		if !found {
			b.Fatalf("%+v is absent; before, it was %+v", ref, last)
		}
		last = st
		for _, p := range phases {
			if st.Phase == p {
				return true
			}
		}
		if st.Phase == scheduler.PhaseEnded {
			b.Fatalf("got the end %+v, want %v", st, phases)
		}
		return false
	})
	return last
}

// ended waits for the end and compares what is told of it.
func (b *bench) ended(ref scheduler.Ref, reason hpcsera.Reason, exit *hpcsera.Exit) scheduler.Status {
	b.Helper()
	st := b.await(ref, scheduler.PhaseEnded)
	if st.Reason != reason {
		b.Errorf("reason of %s: got %q, want %q", st.Native, st.Reason, reason)
	}
	if (st.Exit == nil) != (exit == nil) || exit != nil && *st.Exit != *exit {
		b.Errorf("exit of %s: got %+v, want %+v", st.Native, st.Exit, exit)
	}
	return st
}

// cancelledWaiting waits for the end of a job that was cancelled before it ran.
func (b *bench) cancelledWaiting(h Harness, ref scheduler.Ref) {
	b.Helper()
	if !h.Forgets {
		b.ended(ref, hpcsera.CancelledByUser, nil)
		return
	}
	b.until("the cancelled job is absent", func() bool {
		st, found := b.status(ref)
		if found && st.Phase == scheduler.PhaseEnded {
			b.Fatalf("got the end %+v, want %+v absent", st, ref)
		}
		return !found
	})
}

// cancelledRunning waits for the end of a job that was cancelled while it ran.
func (b *bench) cancelledRunning(h Harness, ref scheduler.Ref) scheduler.Status {
	b.Helper()
	if h.CancelIsKill {
		return b.ended(ref, "", &hpcsera.Exit{Signal: int(syscall.SIGKILL)})
	}
	return b.ended(ref, hpcsera.CancelledByUser, nil)
}

// pace is the time between two queries.
func (b *bench) pace() time.Duration {
	if b.h.Site != nil {
		return b.h.Site.Ask
	}
	return cmp.Or(b.h.Ask, 300*time.Millisecond)
}

func (b *bench) until(what string, done func() bool) {
	b.Helper()
	patience := patience
	if b.h.Site != nil {
		patience = b.h.Site.Patience
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(b.pace())
	defer again.Stop()
	for !done() {
		select {
		case <-b.Context().Done():
			b.Fatalf("interrupted while waiting until %s", what)
		case <-deadline.C:
			b.Fatalf("waited %v in vain until %s", patience, what)
		case <-again.C:
		}
	}
}

func (b *bench) exists(name string) bool {
	_, err := os.Stat(b.file(name))
	return err == nil
}

// read returns what a job wrote, once it is to be seen from here.
func (b *bench) read(name string) string {
	b.Helper()
	b.until(name+" is seen", func() bool { return b.exists(name) })
	text, err := os.ReadFile(b.file(name))
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// history is script for the history's command.
func (b *bench) history(h Harness, text string) string {
	b.Helper()
	if h.HistoryOption != "" {
		text = `case " $* " in *" ` + h.HistoryOption + ` "*) ` + text + " ;; *) exec " + h.path(b.T, h.History) + ` "$@" ;; esac`
	}
	return b.script(text)
}

// script writes an executable that stands for a command of the batch system.
func (b *bench) script(text string) string {
	b.Helper()
	return WriteScript(b.T, b.file(hpcsera.NewID("s")), text)
}

// WriteScript has a process of its own write an executable: a file that this one
// had open for writing could be open in a child that another case starts, and
// what is open for writing cannot be run (ETXTBSY).
func WriteScript(t T, path, text string) string {
	t.Helper()
	write := exec.Command("/bin/sh", "-c", `printf '#!/bin/sh\n%s\n' "$1" >"$2" && chmod 700 "$2"`, "sh", text, path)
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
