package main

import (
	"strings"
	"testing"
)

// The events are what go 1.26 prints (shortened) for small packages made to
// pass, fail, skip, die and not compile.
const (
	passing = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:5: quiet when it passes\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.5}
{"Action":"pass","Package":"p","Elapsed":0.6}
`
	skipping = `{"Action":"start","Package":"q"}
{"Action":"run","Package":"q","Test":"TestB"}
{"Action":"output","Package":"q","Test":"TestB","Output":"    b_test.go:5: no database here\n"}
{"Action":"skip","Package":"q","Test":"TestB","Elapsed":0}
{"Action":"pass","Package":"q","Elapsed":0.1}
`
	failing = `{"Action":"start","Package":"r"}
{"Action":"run","Package":"r","Test":"TestC"}
{"Action":"output","Package":"r","Test":"TestC","Output":"    c_test.go:5: got 1, want 2\n"}
{"Action":"fail","Package":"r","Test":"TestC","Elapsed":0}
{"Action":"output","Package":"r","Output":"FAIL\tr\t0.1s\n"}
{"Action":"fail","Package":"r","Elapsed":0.1}
`
	dying = `{"Action":"start","Package":"s"}
{"Action":"run","Package":"s","Test":"TestD"}
{"Action":"output","Package":"s","Test":"TestD","Output":"panic: boom\n"}
{"Action":"fail","Package":"s","Elapsed":0.1}
`
	uncompiled = `{"ImportPath":"u [u.test]","Action":"build-output","Output":"./u.go:3:1: undefined: x\n"}
{"ImportPath":"u [u.test]","Action":"build-fail"}
{"Action":"start","Package":"u"}
{"Action":"output","Package":"u","Output":"FAIL\tu [build failed]\n"}
{"Action":"fail","Package":"u","Elapsed":0,"FailedBuild":"u [u.test]"}
`
	empty = `{"Action":"start","Package":"e"}
{"Action":"output","Package":"e","Output":"?   \te\t[no test files]\n"}
{"Action":"skip","Package":"e","Elapsed":0}
`
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name, events string
		wantErr      string // "" is success
		wantOut      []string
		wantNot      string
	}{
		{"all pass", passing + empty, "", []string{"ok\tp\t0.6s\t1 tests", "\n1 passed, 0 failed, 0 skipped\n"}, "quiet"},
		{"a skip is a failure", passing + skipping, "1 tests were skipped", []string{"no database here", "SKIPPED\tq TestB", "1 passed, 0 failed, 1 skipped"}, "quiet"},
		{"a failure shows its output", passing + failing, "1 tests failed in 1 packages", []string{"got 1, want 2", "FAIL\tr"}, "quiet"},
		{"a package that dies shows what ran", dying, "0 tests failed in 1 packages", []string{"panic: boom"}, ""},
		{"a package that does not compile", passing + uncompiled, "in 1 packages", []string{"undefined: x", "[build failed]"}, ""},
		{"a table is shown", strings.Replace(passing, "    a_test.go:5: quiet", "| point | runs |", 1), "", []string{"| point | runs |"}, ""},
		{"a table after the last test is shown", strings.Replace(passing, `{"Action":"pass","Package":"p","Elapsed"`,
			`{"Action":"output","Package":"p","Output":"| point | runs |\n"}`+"\n"+`{"Action":"pass","Package":"p","Elapsed"`, 1), "", []string{"| point | runs |"}, ""},
		{"nothing ran", empty, "no test ran", nil, ""},
		{"no events at all", "", "no test ran", nil, ""},
		{"the stream breaks off", passing + `{"Action":"start","Package":"z"}` + "\n", "z still run", nil, ""},
		{"a line that is no event is shown", "go: downloading x v1\n" + passing, "", []string{"go: downloading x v1"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			err := run(strings.NewReader(c.events), &out)
			switch {
			case c.wantErr == "" && err != nil:
				t.Errorf("got error %q, want none", err)
			case c.wantErr != "" && (err == nil || !strings.Contains(err.Error(), c.wantErr)):
				t.Errorf("got error %v, want one with %q", err, c.wantErr)
			}
			for _, want := range c.wantOut {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
			if c.wantNot != "" && strings.Contains(out.String(), c.wantNot) {
				t.Errorf("output has %q:\n%s", c.wantNot, out.String())
			}
		})
	}
}
