package cli

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
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
