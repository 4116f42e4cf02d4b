package hpcsera_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Documents name code and each other. What they name must be there, so that a
// reader who follows them never stands before nothing.

func TestWhatTheArchitecturePageNamesExists(t *testing.T) {
	page := documentText(t, "doc/architecture.md")
	names := regexp.MustCompile("`([a-z0-9_/.-]+\\.go)` `([A-Za-z]+)`").FindAllStringSubmatch(page, -1)
	if len(names) < 20 {
		t.Errorf("the page names %d functions, want the whole way of a request", len(names))
	}
	for _, n := range names {
		file, name := n[1], n[2]
		code, err := os.ReadFile(file)
		if err != nil {
			t.Errorf("doc/architecture.md names %s: %v", file, err)
			continue
		}
		if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + name + `\b`).Match(code) {
			t.Errorf("doc/architecture.md names %s %s, and there is no such function", file, name)
		}
	}
}

func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	pages := []string{"README.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"doc/*.md", "doc/decisions/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`)
	for _, page := range pages {
		for _, m := range link.FindAllStringSubmatch(documentText(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}

func documentText(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
