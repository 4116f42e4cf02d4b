package cli

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// codes reads the closed list of error codes from the source that declares it.
func codes(t *testing.T) []hpcsera.Code {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../error.go", nil, 0)
	if err != nil {
		t.Fatalf("reading the list of codes: %v", err)
	}
	var list []hpcsera.Code
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Code" {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatalf("%s: %v", lit.Value, err)
			}
			list = append(list, hpcsera.Code(text))
		}
		return true
	})
	if len(list) < 25 {
		t.Fatalf("found %d codes; the list is not read right", len(list))
	}
	return list
}

func TestEveryErrorCodeHasAnExitCode(t *testing.T) {
	all := codes(t)
	for _, code := range all {
		if _, ok := exitCodes[code]; !ok {
			t.Errorf("%s has no exit code", code)
		}
	}
	if len(exitCodes) != len(all) {
		t.Errorf("the table has %d rows for %d codes", len(exitCodes), len(all))
	}
}

func TestEveryFinalStateHasAnExitCode(t *testing.T) {
	for _, state := range hpcsera.States {
		_, ok := exitOfState[state]
		if ok != state.Final() {
			t.Errorf("%s: in the table %v, want %v", state, ok, state.Final())
		}
	}
}

func TestExitCodesAreThoseThatScriptsRelyOn(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("disk full"), 1},
		{hpcsera.Errorf(hpcsera.InvalidField, "the file cannot be read: %w", syscall.ENOENT), 1},
		{hpcsera.Errorf(hpcsera.InvalidField, "no such field"), 12},
		{hpcsera.Errorf(hpcsera.Unavailable, "no: %w", syscall.ECONNREFUSED), 20},
		{usageError{errors.New("unknown flag")}, 2},
		{ended(hpcsera.Job{State: hpcsera.Failed}), 10},
		{ended(hpcsera.Job{State: hpcsera.Cancelled}), 11},
		{ended(hpcsera.Job{State: hpcsera.Succeeded}), 0},
		{hpcsera.Errorf(hpcsera.ApprovalRefused, "no"), 12},
		{fmt.Errorf("submit: %w", hpcsera.Errorf(hpcsera.Forbidden, "no")), 12},
		{hpcsera.Errorf("a_code_of_tomorrow", "no"), 12},
		{context.DeadlineExceeded, 13},
		{&exitError{code: exitTimedOut}, 13},
		{interrupted{syscall.SIGTERM}, 143},
		{hpcsera.Errorf(hpcsera.Unavailable, "no"), 20},
		{hpcsera.Errorf(hpcsera.Internal, "no"), 20},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("exitCode(%v): got %d, want %d", tt.err, got, tt.want)
		}
	}
}

// constants reads the exit codes from the source that declares them.
func constants(t *testing.T) map[string]int {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "exit.go", nil, 0)
	if err != nil {
		t.Fatalf("reading the exit codes: %v", err)
	}
	found := map[string]int{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.INT {
			if found[spec.Names[0].Name], err = strconv.Atoi(lit.Value); err != nil {
				t.Fatalf("%s: %v", spec.Names[0].Name, err)
			}
		}
		return true
	})
	return found
}

func TestTheReadmeAndTheHelpTellEveryExitCode(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "## Exit codes")
	table, _, _ = strings.Cut(table, "\n## ")
	told := map[int]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \|$`).FindAllStringSubmatch(table, -1) {
		code, _ := strconv.Atoi(row[1])
		told[code] = row[2]
	}
	help := strings.Join(strings.Fields((&app{}).root().Long), " ")
	// What must be said of each.
	says := map[string]string{
		"exitOK": "done", "exitLocal": "something on this machine", "exitUsage": "usage", "exitFailed": "the job failed", "exitCancelled": "cancelled",
		"exitRefused": "refused", "exitTimedOut": "the wait", "exitUnreachable": "the server cannot be reached",
	}
	all := constants(t)
	for name, code := range all {
		if name == "exitSignal" {
			if !strings.Contains(table, fmt.Sprintf("%d plus the signal's number", code)) {
				t.Errorf("the README does not tell %d, %s", code, name)
			}
			continue
		}
		if says[name] == "" || !strings.Contains(told[code], says[name]) {
			t.Errorf("the README says %q of %d, want %q of %s", told[code], code, says[name], name)
		}
		if words := regexp.MustCompile(fmt.Sprintf(`[ :]%d [a-z ]*`, code)).FindString(help); !strings.Contains(words, strings.TrimPrefix(says[name], "the job ")) {
			t.Errorf("hpcsera --help says %q of %d, want %q", words, code, says[name])
		}
	}
	if len(told) != len(all)-1 || len(told) != len(says) {
		t.Errorf("the README tells %d codes, the source has %d: %v, %v", len(told), len(all)-1, told, all)
	}
}
