package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// start opens the journal of a new instance and tells which cursors it read:
// every test writes cursors, since the order of their texts is easy to see.
func start(t *testing.T, dir string) (*Journal, string, []string) {
	t.Helper()
	var read []string
	instance := hpcsera.NewID("i")
	j, err := Open(dir, Entry{Instance: instance, At: time.Now().UTC()}, collect(&read))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { j.Close() })
	return j, instance, read
}

func collect(into *[]string) func(Entry) {
	return func(e Entry) {
		if e.Kind == KindCursor {
			*into = append(*into, e.Cursor)
		}
	}
}

func cursors(t *testing.T, dir string) []string {
	t.Helper()
	var read []string
	if _, err := Replay(dir, collect(&read)); err != nil {
		t.Fatalf("Replay: %v", err)
	}
	return read
}

func entries(names ...string) []Entry {
	var list []Entry
	for _, n := range names {
		list = append(list, Entry{Kind: KindCursor, Cursor: n})
	}
	return list
}

func add(t *testing.T, j *Journal, list ...Entry) {
	t.Helper()
	if err := j.Append(list...); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

// A crash leaves any part of the last append. Whatever its length, the lines
// before it are all there, and of the append itself only whole lines from its
// beginning on.
func TestTornAppendIsDroppedAtEveryLengthAndNothingElse(t *testing.T) {
	whole := t.TempDir()
	j, instance, _ := start(t, whole)
	add(t, j, entries("a", "b")...)
	before := j.good
	add(t, j, entries("c", "d", "e")...)
	text, err := os.ReadFile(filepath.Join(whole, instance+suffix))
	if err != nil {
		t.Fatal(err)
	}
	for size := before; size <= int64(len(text)); size++ {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, instance+suffix), text[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		want := append([]string{"a", "b"}, []string{"c", "d", "e"}[:bytes.Count(text[before:size], []byte("\n"))]...)
		same(t, fmt.Sprintf("%d of %d bytes", size, len(text)), cursors(t, dir), want)

		// The next instance goes on, and the torn line never comes back.
		next, _, read := start(t, dir)
		same(t, "read by the next instance", read, want)
		add(t, next, Entry{Kind: KindTerm, Term: 2})
		add(t, next, entries("next")...)
		same(t, "after the next instance wrote", cursors(t, dir), append(want, "next"))
	}
}

// A file system may lengthen a file before the bytes are there.
func TestZeroesAtTheEndAreATornLine(t *testing.T) {
	for _, tail := range []string{strings.Repeat("\x00", 4096), strings.Repeat("\x00", 100) + "\n"} {
		dir := t.TempDir()
		j, instance, _ := start(t, dir)
		add(t, j, entries("a")...)
		f, err := os.OpenFile(filepath.Join(dir, instance+suffix), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(tail); err != nil {
			t.Fatal(err)
		}
		f.Close()
		same(t, fmt.Sprintf("with %d zeroes", len(tail)), cursors(t, dir), []string{"a"})
	}
}

// Forgetting an entry could run a job twice, so damage anywhere but at the end
// stops the agent before it has done anything.
func TestDamageInTheMiddleIsAnErrorAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	j, instance, _ := start(t, dir)
	add(t, j, entries("a", "b", "c")...)
	path := filepath.Join(dir, instance+suffix)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(text[:len(text)-1], '\n')
	for i := range last {
		damaged := bytes.Clone(text)
		damaged[i] ^= 0x20
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Replay(dir, func(Entry) {}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Fatalf("byte %d of %d changed: got error %v, want one that says so", i, len(text), err)
		}
		own := hpcsera.NewID("i")
		if _, err := Open(dir, Entry{Instance: own}, func(Entry) {}); err == nil {
			t.Fatalf("byte %d of %d changed: Open: got no error, want one", i, len(text))
		}
		if _, err := os.Stat(filepath.Join(dir, own+suffix)); err == nil {
			t.Fatalf("byte %d of %d changed: Open started a file of its own, want nothing started", i, len(text))
		}
	}
}

func TestALostLineInTheMiddleOfAnOlderFileIsAnError(t *testing.T) {
	dir := t.TempDir()
	old, instance, _ := start(t, dir)
	add(t, old, entries("a", "b", "c")...)
	young, _, _ := start(t, dir)
	add(t, young, entries("d")...)
	path := filepath.Join(dir, instance+suffix)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	half := slices.Concat(lines[0], lines[1][:20], lines[2], lines[3])
	if err := os.WriteFile(path, half, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Replay(dir, func(Entry) {}); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("half a line in the middle: got error %v, want one that names %s", err, path)
	}
}

// limitFileSize makes writes beyond size fail as a full disk does: some bytes
// are written, then none.
func limitFileSize(t *testing.T, size int64) (lift func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	now := was
	now.Cur = uint64(size)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &now); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(lift)
	return lift
}

func TestAppendOnAFullDiskCanBeTriedAgainAndLeavesNoHalfLine(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := start(t, dir)
	add(t, j, entries("a")...)
	batch := entries("b", "c", "d")
	for room := range int64(200) {
		func() {
			lift := limitFileSize(t, j.good+room)
			defer lift()
			size := j.good
			err := j.Append(batch...)
			if err == nil {
				t.Fatalf("room for %d bytes of more than 200: got no error", room)
			}
			if j.good != size {
				t.Fatalf("room for %d bytes: a failed append counts: got size %d, want %d", room, j.good, size)
			}
		}()
		if got := cursors(t, dir); len(got) == 0 || got[0] != "a" || len(got) > 3 {
			t.Fatalf("room for %d bytes: a crash now leaves %q, want a and at most b and c", room, got)
		}
	}
	add(t, j, batch...)
	add(t, j, entries("e")...)
	same(t, "after the disk had room again", cursors(t, dir), []string{"a", "b", "c", "d", "e"})
}

// What is tried again may be shorter than what failed.
func TestNothingOfAFailedAppendStandsBehindAShorterOne(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := start(t, dir)
	lift := limitFileSize(t, j.good+150)
	if err := j.Append(entries("a", strings.Repeat("long", 100))...); err == nil {
		t.Fatal("beyond the limit: got no error")
	}
	lift()
	add(t, j, entries("b")...)
	same(t, "after the shorter append", cursors(t, dir), []string{"b"})
}

func TestAppendToAClosedFileFailsEveryTimeAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	j, _, _ := start(t, dir)
	add(t, j, entries("a")...)
	j.Close()
	for range 3 {
		if err := j.Append(entries("b")...); err == nil {
			t.Fatal("Append to a closed file: got no error")
		}
	}
	same(t, "after failed appends", cursors(t, dir), []string{"a"})
}

// The term orders what instances wrote, not their clocks and not their names.
func TestFilesAreReadInTheOrderOfTheirTerms(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []struct {
		term int64
		at   time.Time
		name string
	}{
		{term: 3, at: time.Unix(100, 0), name: "third"},
		{term: 10, at: time.Unix(50, 0), name: "fourth"},
		{term: 1, at: time.Unix(300, 0), name: "first"},
		{term: 2, at: time.Unix(200, 0), name: "second"},
	} {
		j, err := Open(dir, Entry{Instance: hpcsera.NewID("i"), At: f.at}, func(Entry) {})
		if err != nil {
			t.Fatal(err)
		}
		add(t, j, Entry{Kind: KindTerm, Term: f.term}, Entry{Kind: KindCursor, Cursor: f.name})
		j.Close()
	}
	same(t, "order", cursors(t, dir), []string{"first", "second", "third", "fourth"})
}

func TestAnInstanceWithTwoTermsCountsByItsLast(t *testing.T) {
	dir := t.TempDir()
	a, _, _ := start(t, dir)
	add(t, a, Entry{Kind: KindTerm, Term: 1}, Entry{Kind: KindCursor, Cursor: "a1"})
	b, _, _ := start(t, dir)
	add(t, b, Entry{Kind: KindTerm, Term: 2}, Entry{Kind: KindCursor, Cursor: "b2"})
	add(t, a, Entry{Kind: KindTerm, Term: 3}, Entry{Kind: KindCursor, Cursor: "a3"})
	same(t, "order", cursors(t, dir), []string{"b2", "a1", "a3"})
}

// A server that knows more terms than the journal has instances for was spoken
// to by somebody whose memory is gone.
func TestReplayCountsTheInstancesThatNeverWroteATerm(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []int{0, 1, 2} {
		got, err := Replay(dir, func(Entry) {})
		if err != nil || got != want {
			t.Fatalf("after %d instances without a term: got %d (%v), want %d", i, got, err, want)
		}
		start(t, dir)
	}
	granted, _, _ := start(t, dir)
	add(t, granted, Entry{Kind: KindTerm, Term: 4})
	if got, err := Replay(dir, func(Entry) {}); err != nil || got != 3 {
		t.Fatalf("with one that has a term: got %d (%v), want 3", got, err)
	}
}

func TestReplayOfNothingIsEmpty(t *testing.T) {
	if got := cursors(t, filepath.Join(t.TempDir(), "missing")); got != nil {
		t.Fatalf("got %q, want nothing", got)
	}
}

func TestTwoInstancesNeverShareAFile(t *testing.T) {
	dir := t.TempDir()
	j, instance, _ := start(t, dir)
	add(t, j, entries("a")...)
	if _, err := Open(dir, Entry{Instance: instance}, func(Entry) {}); err == nil {
		t.Fatal("the same instance twice: got no error")
	}
	same(t, "the first one's file", cursors(t, dir), []string{"a"})
}

// lived writes the file of an instance of a term that ended age ago.
func lived(t *testing.T, dir string, term int64, age time.Duration, list ...Entry) string {
	t.Helper()
	j, instance, _ := start(t, dir)
	if term > 0 {
		add(t, j, Entry{Kind: KindTerm, Term: term})
	}
	add(t, j, list...)
	j.Close()
	path := filepath.Join(dir, instance+suffix)
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	const day = 24 * time.Hour
	live, gone := hpcsera.NewID("j"), hpcsera.NewID("j")
	order := func(job string) Entry { return Entry{Kind: KindOrder, Order: &hpcsera.Order{JobID: job}} }
	fact := func(job string) Entry { return Entry{Kind: KindFact, Fact: &hpcsera.Report{JobID: job}} }
	outcome := func(job string) Entry { return Entry{Kind: KindOutcome, Job: job} }
	for _, c := range []struct {
		name string
		file []Entry // of term 1, 100 days old
		kept bool
	}{
		{"an order of a job that lives", []Entry{order(live)}, true},
		{"the outcome of a job that lives", []Entry{outcome(live)}, true},
		{"nothing but a fact about a job that lives", []Entry{order(gone), fact(live)}, true},
		{"jobs that are gone", []Entry{order(gone), fact(gone), outcome(gone)}, false},
		{"nothing", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := lived(t, dir, 1, 100*day, c.file...)
			_, own, _ := start(t, dir)
			if err := Prune(dir, own, time.Now().Add(-90*day), func(job string) bool { return job == live }); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); (err == nil) != c.kept {
				t.Errorf("kept: got %v, want %v", err == nil, c.kept)
			}
			if _, err := os.Stat(filepath.Join(dir, own+suffix)); err != nil {
				t.Errorf("the own file: %v", err)
			}
		})
	}
}

func TestPruneKeepsYoungFilesAndItsOwn(t *testing.T) {
	const day = 24 * time.Hour
	dir := t.TempDir()
	never := lived(t, dir, 0, 100*day)
	young := lived(t, dir, 0, day)
	old := lived(t, dir, 1, 100*day)
	own := lived(t, dir, 2, 100*day)
	if err := Prune(dir, strings.TrimSuffix(filepath.Base(own), suffix), time.Now().Add(-90*day), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{never: false, young: true, old: false, own: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s kept: got %v, want %v", filepath.Base(path), err == nil, want)
		}
	}
}

// An order without the end that stands in a later file is a job that runs
// again.
func TestPruneNeverForgetsALaterFileBeforeAnEarlierOne(t *testing.T) {
	const day = 24 * time.Hour
	dir := t.TempDir()
	slow, quick := hpcsera.NewID("j"), hpcsera.NewID("j")
	lived(t, dir, 1, 300*day, Entry{Kind: KindOrder, Order: &hpcsera.Order{JobID: slow}}, Entry{Kind: KindOrder, Order: &hpcsera.Order{JobID: quick}})
	lived(t, dir, 2, 200*day, Entry{Kind: KindOutcome, Job: quick}, Entry{Kind: KindForgotten, Job: quick})
	_, own, _ := start(t, dir)
	if err := Prune(dir, own, time.Now().Add(-90*day), func(job string) bool { return job == slow }); err != nil {
		t.Fatal(err)
	}
	ordered, forgotten := false, false
	if _, err := Replay(dir, func(e Entry) {
		ordered = ordered || e.Kind == KindOrder && e.Order.JobID == quick
		forgotten = forgotten || e.Kind == KindForgotten && e.Job == quick
	}); err != nil {
		t.Fatal(err)
	}
	if ordered && !forgotten {
		t.Error("the order of a job that has ended was kept, and its end was not")
	}
}

func TestANewEpochComesAfterHigherTermsOfTheOldOne(t *testing.T) {
	dir := t.TempDir()
	for _, past := range []struct {
		epoch, term int64
		cursor      string
	}{{7, 1, "d"}, {3, 9, "c"}, {3, 2, "b"}, {0, 0, "a"}} {
		j, _, _ := start(t, dir)
		if past.term > 0 {
			add(t, j, Entry{Kind: KindTerm, Epoch: past.epoch, Term: past.term})
		}
		add(t, j, entries(past.cursor)...)
	}
	if got := cursors(t, dir); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("got %q, want the past in its order", got)
	}
}
