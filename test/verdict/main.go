// Command verdict reads what `go test -json` prints and says how it went:
//
//	go test -json ./... | go run ./test/verdict
//
// scripts/test calls it. It prints a line per package, all output of what
// failed, lines that start with "| " of anything (tables that a test shows to
// its reader), and the count. It ends 0 only when something ran and nothing
// failed or was skipped: a test that skips where its real component is
// missing would let a release through that nobody tested.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "verdict:", err)
		os.Exit(1)
	}
}

// event is a line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// tally is what is known so far.
type tally struct {
	out                     io.Writer
	output                  map[string][]string // of tests and packages that have not ended yet, by package and test
	open                    map[string]bool     // packages that have started and not ended
	passed, failed          int
	skipped, brokenPackages []string
	count                   map[string]int // tests passed per package
	slow                    []event
}

func run(in io.Reader, out io.Writer) error {
	t := &tally{out: out, output: map[string][]string{}, open: map[string]bool{}, count: map[string]int{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			t.line(line)
		}
		if err == io.EOF {
			return t.verdict()
		}
		if err != nil {
			return fmt.Errorf("reading the events: %w", err)
		}
	}
}

// line takes one line; what is no event (a note of the go command) is shown.
func (t *tally) line(line []byte) {
	var e event
	if line[0] != '{' || json.Unmarshal(line, &e) != nil {
		fmt.Fprintf(t.out, "%s", line)
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "start":
		t.open[e.Package] = true
	case "build-output":
		fmt.Fprint(t.out, e.Output)
	case "output":
		if strings.HasPrefix(e.Output, "| ") {
			fmt.Fprint(t.out, e.Output)
		}
		t.output[key] = append(t.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			t.endPackage(e)
		} else {
			t.endTest(e)
		}
		delete(t.output, key)
	}
}

func (t *tally) endTest(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "pass":
		t.passed++
		t.count[e.Package]++
		if !strings.Contains(e.Test, "/") {
			t.slow = append(t.slow, e)
		}
	case "skip":
		t.skipped = append(t.skipped, e.Package+" "+e.Test)
		t.show(key)
	case "fail":
		t.failed++
		t.show(key)
	}
}

func (t *tally) endPackage(e event) {
	delete(t.open, e.Package)
	switch e.Action {
	case "skip": // no test files
		return
	case "fail":
		t.show(e.Package + " ")
		// Tests that were running when the process died have no end of their own.
		for _, key := range slices.Sorted(maps.Keys(t.output)) {
			if strings.HasPrefix(key, e.Package+" ") && !strings.HasSuffix(key, " ") {
				t.show(key)
			}
		}
		t.brokenPackages = append(t.brokenPackages, e.Package)
	case "pass":
		fmt.Fprintf(t.out, "ok\t%s\t%.1fs\t%d tests\n", e.Package, e.Elapsed, t.count[e.Package])
	}
}

func (t *tally) show(key string) {
	for _, s := range t.output[key] {
		fmt.Fprint(t.out, s)
	}
	delete(t.output, key)
}

func (t *tally) verdict() error {
	slices.SortFunc(t.slow, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	for _, e := range t.slow[:min(5, len(t.slow))] {
		fmt.Fprintf(t.out, "took\t%v\t%s %s\n", time.Duration(e.Elapsed*float64(time.Second)).Round(time.Millisecond), e.Package, e.Test)
	}
	for _, s := range t.skipped {
		fmt.Fprintln(t.out, "SKIPPED\t"+s)
	}
	// Alone on its line and last, so that people and machines find it.
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, len(t.skipped))
	switch {
	case len(t.open) > 0:
		return fmt.Errorf("the events end while %s still run", strings.Join(slices.Sorted(maps.Keys(t.open)), ", "))
	case t.failed > 0 || len(t.brokenPackages) > 0:
		return fmt.Errorf("%d tests failed in %d packages", t.failed, len(t.brokenPackages))
	case len(t.skipped) > 0:
		return fmt.Errorf("%d tests were skipped; a test fails where something is missing", len(t.skipped))
	case t.passed == 0:
		return fmt.Errorf("no test ran")
	}
	return nil
}
