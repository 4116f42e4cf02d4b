// Package parsetest judges what drivers make of their batch systems' output
// without one: what they must not believe, and how long they take to read it.
package parsetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// Recordings are what a driver's commands print, for [RunBadInput].
type Recordings struct {
	Driver    scheduler.Driver
	Submitted string // what the submit command prints for one job
	Listings  []Listing
}

// Listing is one of a driver's ways to learn of jobs.
type Listing struct {
	Name     string
	Parse    func(scheduler.Output) ([]scheduler.Status, error)
	Recorded []byte // what its command printed, with jobs
	// Write writes jobs as the command would.
	Write func(...Row) []byte
	// Rows are two jobs that Write can write, and that are told apart. Their names
	// are not looked at.
	Rows [2]Row
	// Events says that a state is the last event of many, and that one which nobody
	// knows changes nothing.
	Events bool
	// Foreign is a job with the number of the first one, but of another cluster.
	// nil where a listing is of one cluster alone.
	Foreign *Row
}

// Row is a job for a Listing to write: its id and cluster as the system has them,
// any name, and the native state.
type Row struct{ ID, Cluster, Name, State string }

// RunBadInput hands a driver what it must not believe. Nothing of it may end,
// lose or double a job: it is an error, or a phase that is unknown, or read as if
// it were not there.
func RunBadInput(t *testing.T, r Recordings) {
	for _, l := range r.Listings {
		t.Run(l.Name, func(t *testing.T) {
			t.Run("a listing is read as a whole or not at all", l.parts)
			t.Run("what stands around a listing changes nothing", l.around)
			t.Run("what is no listing is an error", l.none)
			t.Run("unknown words for a state are unknown", l.states)
			t.Run("a name full of marks is one job's name", l.names)
			if l.Foreign != nil {
				t.Run("a job of another cluster is another job", l.foreign)
			}
		})
	}
	t.Run("a command that did not do its work tells nothing", r.commands)
	t.Run("a missing command has certainly queued nothing", r.missing)
	t.Run("a submission has one id or none", r.submissions)
	t.Run("a part of an id is none", r.brokenSubmissions)
}

// read is Parse of what a command that ended well printed.
func (l Listing) read(text []byte) ([]scheduler.Status, error) {
	return l.Parse(scheduler.Output{Stdout: text})
}

func (l Listing) whole(t *testing.T) []scheduler.Status {
	t.Helper()
	list, err := l.read(l.Recorded)
	if err != nil || len(list) == 0 {
		t.Fatalf("the recording: got %d jobs, %v", len(list), err)
	}
	return list
}

// same compares what was read with what there is, in any order.
func same(got, want []scheduler.Status) error {
	count := map[string]int{}
	for _, st := range want {
		count[fmt.Sprintf("%+v %s", st.Ref, st.Phase)]++
	}
	for _, st := range got {
		count[fmt.Sprintf("%+v %s", st.Ref, st.Phase)]--
	}
	for job, n := range count {
		if n != 0 {
			return fmt.Errorf("%s: missing %d times", job, n)
		}
	}
	return nil
}

func (l Listing) parts(t *testing.T) {
	whole := l.whole(t)
	const parts = 256
	for i := range parts {
		n := len(l.Recorded) * i / parts
		// Between two rows of plain text nobody sees that the rest is missing; the
		// command that was stopped there did not end with 0.
		for n > 0 && (l.Recorded[n-1] == '\n' || l.Recorded[n] == '\n') {
			n--
		}
		if list, err := l.read(l.Recorded[:n]); err == nil {
			t.Errorf("the first %d of %d bytes: got %d of %d jobs without an error", n, len(l.Recorded), len(list), len(whole))
		}
	}
}

func (l Listing) around(t *testing.T) {
	whole := l.whole(t)
	for name, c := range map[string]struct {
		text []byte
		may  bool // be refused
	}{
		"a warning before it": {append([]byte("warning: the plugin is <old>, says {x}\n"), l.Recorded...), false},
		"a banner before it":  {append([]byte("*** JOBID and Job_Id: [all] of \"Jobs\" ***\nWelcome!\n\n"), l.Recorded...), false},
		"a document's mark":   {append([]byte("{ Welcome }\n<job_info>\n[0]\n"), l.Recorded...), true},
		"words behind it":     {append(bytes.Clone(l.Recorded), "Connection to the server was lost\n"...), true},
		"itself behind it":    {append(bytes.Clone(l.Recorded), l.Recorded...), true},
		"Windows' lines":      {bytes.ReplaceAll(l.Recorded, []byte("\n"), []byte("\r\n")), true},
	} {
		list, err := l.read(c.text)
		if err == nil && name == "itself behind it" && len(list) == 2*len(whole) {
			continue // rows of plain text, which the Scheduler takes for runs of one job
		}
		if err == nil {
			err = same(list, whole)
		} else if c.may {
			err = nil
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (l Listing) none(t *testing.T) {
	for name, out := range map[string]scheduler.Output{
		"nothing":                      {},
		"a newline":                    {Stdout: []byte("\n")},
		"failed":                       {Stderr: []byte("cannot connect to the server\n"), Exit: 1},
		"failed in silence":            {Exit: 1},
		"failed, with a whole listing": {Stdout: l.Recorded, Exit: 1},
		"failed, and ended with 0":     {Stderr: []byte("cannot connect to the server\n")},
		"an error in place of it":      {Stdout: []byte("error: the database does not answer\n")},
		"down for maintenance":         {Stdout: []byte("The system is down for maintenance.\nAsk again.\n")},
		"no jobs, in German":           {Stdout: []byte("Keine Aufträge gefunden\n")},
		"no jobs, in French":           {Stderr: []byte("Aucun travail trouvé\n"), Exit: 1},
		"an empty JSON object":         {Stdout: []byte("{}\n")},
		"null":                         {Stdout: []byte("null\n")},
		"an XML prolog":                {Stdout: []byte("<?xml version='1.0'?>\n")},
		"HTML":                         {Stdout: []byte("<html><body>502 Bad Gateway</body></html>\n")},
		"NULs":                         {Stdout: make([]byte, 4096)},
		"no text":                      {Stdout: bytes.Repeat([]byte{0xff, 0xfe, '\n', 0x1f, 0x80}, 1000)},
	} {
		if list, err := l.Parse(out); err == nil || len(list) > 0 || errors.Is(err, scheduler.ErrNoHistory) {
			t.Errorf("%s: got %+v, %v, want an error", name, list, err)
		}
	}
}

func (l Listing) states(t *testing.T) {
	row := l.Rows[0]
	row.Name = hpcsera.NewID("s")
	for _, state := range []string{"", "NEW_STATE", "läuft", "terminé", "Beendet", "完了", "\x00", "-", "99", row.State + "?"} {
		row.State = state
		list, err := l.read(l.Write(row))
		if err != nil {
			continue
		}
		good := func(p scheduler.Phase) bool {
			return p == scheduler.PhaseUnknown || l.Events && p != scheduler.PhaseEnded
		}
		if len(list) != 1 || !good(list[0].Phase) || list[0].Exit != nil {
			t.Errorf("%q: got %+v, want one job in a phase that is unknown", state, list)
		}
	}
}

func (l Listing) names(t *testing.T) {
	rows := l.Rows
	rows[0].Name = hpcsera.NewID("s")
	alone, err := l.read(l.Write(rows[0]))
	if err != nil || len(alone) != 1 || alone[0].Tag != rows[0].Name {
		t.Fatalf("one job: got %+v, %v", alone, err)
	}
	names := []string{"", "é ü", "\xff", "]}", "}]}", `","`, "</c>", "<![CDATA[", "&lt;", "Job <1>", rows[0].Name + "x", "x" + rows[0].Name}
	for c := range byte(0x80) {
		names = append(names, "a"+string(rune(c))+"b", string(rune(c)))
	}
	for _, name := range names {
		rows[1].Name = name
		for _, order := range [][]Row{{rows[0], rows[1]}, {rows[1], rows[0]}} {
			list, err := l.read(l.Write(order...))
			if err != nil {
				continue
			}
			found := 0
			for _, st := range list {
				if st.Ref == alone[0].Ref && st.Phase == alone[0].Phase {
					found++
				}
			}
			if found != 1 || len(list) != 2 {
				t.Errorf("beside a job named %q: got %+v, want %+v once and one other", name, list, alone[0])
			}
		}
	}
}

func (l Listing) foreign(t *testing.T) {
	own, other := l.Rows[0], *l.Foreign
	own.Name = hpcsera.NewID("s")
	other.Name = own.Name // as if tags were not random
	list, err := l.read(l.Write(own))
	if err != nil || len(list) != 1 {
		t.Fatalf("got %+v, %v, want one job", list, err)
	}
	foreign, err := l.read(l.Write(other))
	if err != nil {
		return
	}
	for _, st := range foreign {
		if list[0].Is(st.Ref) {
			t.Errorf("%+v was taken for %+v", st.Ref, list[0].Ref)
		}
	}
}

// scheduler returns one of which every command is the one at path, and a job of it.
func (r Recordings) scheduler(path string, change func(*scheduler.Config)) (*scheduler.Scheduler, scheduler.Ref, scheduler.Submission) {
	ref := scheduler.Ref{ID: r.Listings[0].Rows[0].ID, Tag: hpcsera.NewID("s")}
	sub := scheduler.Submission{Tag: ref.Tag, Script: "/bin/true", Directory: "/tmp", Output: "/tmp/out"}
	c := scheduler.Config{Commands: map[string]string{}}
	add := func(argv []string) {
		if len(argv) > 0 {
			c.Commands[argv[0]] = path
		}
	}
	add(r.Driver.Submit(sub).Argv)
	add(r.Driver.Queue().Argv)
	add(r.Driver.Act(scheduler.Cancel, []scheduler.Ref{ref}).Argv)
	for _, asked := range []scheduler.Ref{ref, {Tag: ref.Tag}} {
		if call, ok := r.Driver.History([]scheduler.Ref{asked}); ok {
			add(call.Argv)
		}
	}
	if n, ok := r.Driver.(scheduler.Narrower); ok {
		if call, ok := n.QueueOf([]scheduler.Ref{ref}); ok {
			add(call.Argv)
		}
	}
	if change != nil {
		change(&c)
	}
	return scheduler.New(r.Driver, c), ref, sub
}

// blind checks that nothing was learned or done.
func blind(t *testing.T, s *scheduler.Scheduler, ref scheduler.Ref) {
	t.Helper()
	if answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref}); err == nil || len(answer) != 0 {
		t.Errorf("statuses: got %+v, %v, want an error", answer, err)
	}
	if found, err := s.Find(t.Context(), ref.Tag); err == nil {
		t.Errorf("find: got %+v, want an error", found)
	}
	if err := s.Act(t.Context(), scheduler.Cancel, []scheduler.Ref{ref}); err == nil {
		t.Error("cancel: got no error")
	}
}

func (r Recordings) commands(t *testing.T) {
	for name, text := range map[string]string{
		"says nothing":              "exit 0",
		"says nothing and fails":    "exit 1",
		"errs, and ends with 0":     "echo 'error: cannot connect to the server' >&2; echo 'error: cannot connect to the server'",
		"refuses, and ends with 0":  "echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; echo 'qsub: Unknown queue' >&2; echo 'ERROR: no' >&2",
		"is killed":                 "kill -KILL $$",
		"prints garbage":            `i=0; while [ $i -lt 400 ]; do printf '\377{[<\037\0\n'; i=$((i+1)); done`,
		"prints 100 MB":             "head -c 100000000 /dev/zero",
		"prints 100 MB of errors":   "head -c 100000000 /dev/zero >&2",
		"hangs":                     "exec sleep 600",
		"leaves a process, hanging": "sleep 600 & wait",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ref, sub := r.scheduler(schedulertest.WriteScript(t, filepath.Join(t.TempDir(), "command"), text), func(c *scheduler.Config) {
				if strings.Contains(text, "sleep") {
					c.QueryTimeout, c.SubmitTimeout = time.Second, time.Second
				}
			})
			blind(t, s, ref)
			refs, err := s.Submit(t.Context(), sub)
			if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
				t.Errorf("submit: got %+v, %v, want an error that leaves open whether the job is queued", refs, err)
			}
		})
	}
}

func (r Recordings) missing(t *testing.T) {
	for name, path := range map[string]string{"absent": filepath.Join(t.TempDir(), "absent"), "a folder": t.TempDir(), "relative": "command"} {
		t.Run(name, func(t *testing.T) {
			s, ref, sub := r.scheduler(path, nil)
			blind(t, s, ref)
			_, err := s.Submit(t.Context(), sub)
			if refused, ok := errors.AsType[*scheduler.Refused](err); !ok || !refused.Unreached || !refused.Throttled {
				t.Errorf("submit: got %#v, want it refused as unreached, to be tried later", err)
			}
		})
	}
}

func (r Recordings) submissions(t *testing.T) {
	_, _, sub := r.scheduler("/bin/true", nil)
	call := r.Driver.Submit(sub)
	refs, err := call.Parse(scheduler.Output{Stdout: []byte(r.Submitted)})
	if err != nil || len(refs) != 1 || refs[0].ID == "" {
		t.Fatalf("the recording: got %+v, %v, want one id", refs, err)
	}
	for name, out := range map[string]scheduler.Output{
		"a warning before it": {Stdout: []byte("warning: your quota is almost used up\n" + r.Submitted)},
		"another's on stderr": {Stdout: []byte(r.Submitted), Stderr: []byte("warning: old option\n")},
	} {
		if got, err := call.Parse(out); err == nil && (len(got) != 1 || got[0] != refs[0]) {
			t.Errorf("%s: got %+v, want %+v", name, got, refs)
		}
	}
	for name, out := range map[string]scheduler.Output{
		"an id, and failed":    {Stdout: []byte(r.Submitted), Exit: 1},
		"two ids":              {Stdout: []byte(r.Submitted + strings.NewReplacer("1", "2", "2", "3", "3", "4").Replace(r.Submitted))},
		"a listing":            {Stdout: r.Listings[0].Recorded},
		"an error with digits": {Stdout: []byte("error 15010: no server\n")},
		"another locale":       {Stdout: []byte("Auftrag wurde übergeben\n")},
	} {
		got, err := call.Parse(out)
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%s: got %+v, %v, want an error that leaves open whether the job is queued", name, got, err)
		}
	}
}

// A part of an id would be another job's, and nobody would find the own one.
func (r Recordings) brokenSubmissions(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	s, _, sub := r.scheduler(schedulertest.WriteScript(t, filepath.Join(t.TempDir(), "command"), "cat "+text), nil)
	whole, err := r.Driver.Submit(sub).Parse(scheduler.Output{Stdout: []byte(r.Submitted)})
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(r.Submitted) + 1 {
		if err := os.WriteFile(text, []byte(r.Submitted[:n]), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.Submit(t.Context(), sub)
		if _, refused := errors.AsType[*scheduler.Refused](err); refused || err == nil && got[0].ID != whole[0].ID || err != nil && n == len(r.Submitted) {
			t.Errorf("%q: got %+v, %v, want the id or an error that leaves open whether the job is queued", r.Submitted[:n], got, err)
		}
	}
}
