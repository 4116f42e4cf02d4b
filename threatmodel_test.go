package hpcsera_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// attackers are those that the threat model must answer, by their headings.
var attackers = []string{
	"Stolen client token", "Stolen agent credential", "Stolen CLI session", "Malicious project member", "Network attacker", "Taken-over API server",
	"Taken-over Auth app", "Taken-over HPC account", "Malicious institution login", "Malicious package in a user's code",
}

var namedTest = regexp.MustCompile("`([a-z0-9_/-]+) (Test[A-Za-z0-9_]+)`")

// threats is the threat model, cut at its headings.
func threats(t *testing.T) (page string, sections map[string]string) {
	t.Helper()
	page, sections = documentText(t, "doc/threat-model.md"), map[string]string{}
	for _, section := range regexp.MustCompile(`(?m)^##+ `).Split(page, -1)[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	return page, sections
}

func TestTheThreatModelAnswersEveryAttacker(t *testing.T) {
	_, sections := threats(t)
	for _, title := range []string{"Assets", "Boundaries", "Assumptions", "Not proven by a test"} {
		if strings.TrimSpace(sections[title]) == "" {
			t.Errorf("doc/threat-model.md has no section %q", title)
		}
	}
	for _, title := range attackers {
		can, cannot, both := strings.Cut(sections[title], "**Cannot**")
		if !both || !strings.Contains(can, "**Can**") {
			t.Errorf("doc/threat-model.md does not say what a %s can and what it cannot do", title)
			continue
		}
		points := 0
		for line := range strings.Lines(cannot) {
			if strings.TrimSpace(line) == "" {
				continue
			}
			points++
			if !strings.HasPrefix(line, "- ") || !namedTest.MatchString(line) {
				t.Errorf("%s, cannot: no test proves this: %s", title, line)
			}
		}
		if points < 4 {
			t.Errorf("%s: %d things that it cannot do, want all", title, points)
		}
	}
}

func TestTheThreatModelNamesTestsThatExist(t *testing.T) {
	page, _ := threats(t)
	names := namedTest.FindAllStringSubmatch(page, -1)
	if len(names) < 100 {
		t.Errorf("the page names %d tests: it is not read right", len(names))
	}
	known := map[string]map[string]bool{}
	for _, n := range names {
		dir, name := n[1], n[2]
		if known[dir] == nil {
			known[dir] = testsIn(t, dir)
		}
		if !known[dir][name] {
			t.Errorf("doc/threat-model.md names %s %s, and there is no such test", dir, name)
		}
	}
}

// testsIn lists the tests of a package. The root package is called hpcsera.
func testsIn(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(strings.TrimPrefix(pkg, "hpcsera"), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || f.Type.Params.NumFields() != 1 {
				continue
			}
			star, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
			if !ok {
				continue
			}
			if of, ok := star.X.(*ast.SelectorExpr); ok && of.Sel.Name == "T" {
				tests[f.Name.Name] = true
			}
		}
	}
	return tests
}
