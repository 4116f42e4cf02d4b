package hpcsera_test

import (
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/test/commandtest"
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

// program is one of ours with what a document gives it to do.
var program = regexp.MustCompile(`\bhpcsera(d|-agent|-auth)?( .*)?$`)

// commandLines lists the command lines of ours that a document shows, in blocks
// and between backticks, one word an element.
func commandLines(t *testing.T, name string) [][]string {
	t.Helper()
	page := strings.ReplaceAll(documentText(t, name), "\\\n", " ")
	var lines []string
	for line := range strings.Lines(page) {
		if block, ok := strings.CutPrefix(line, "    "); ok {
			code, _, _ := strings.Cut(block, " #")
			lines = append(lines, program.FindString(strings.TrimRight(code, " &\n")))
		}
	}
	for _, m := range regexp.MustCompile("`(hpcsera(d|-agent|-auth)? [^`]+)`").FindAllStringSubmatch(page, -1) {
		lines = append(lines, m[1])
	}
	var commands [][]string
	for _, line := range lines {
		words := strings.Fields(line)
		// A name alone, or one that stands for something, is no command line.
		if len(words) > 1 && !strings.Contains(line, "…") {
			commands = append(commands, words)
		}
	}
	return commands
}

// Pages are documents, too: what stands in their <code> is typed as it stands.
func TestEveryCommandInTheTemplatesExists(t *testing.T) {
	programs := commandtest.Build(t)
	code, action := regexp.MustCompile(`<code[^>]*>([^<]*)</code>`), regexp.MustCompile(`{{[^}]*}}`)
	seen := 0
	for _, pattern := range []string{"internal/*/pages/*.html", "internal/*/templates/*.html"} {
		pages, err := filepath.Glob(pattern)
		if err != nil || len(pages) == 0 {
			t.Fatalf("%s: %v, %v", pattern, pages, err)
		}
		for _, page := range pages {
			for _, m := range code.FindAllStringSubmatch(documentText(t, page), -1) {
				for _, words := range commandtest.Lines(html.UnescapeString(action.ReplaceAllString(m[1], "x"))) {
					seen++
					programs.Understands(t, page, words)
				}
			}
		}
	}
	if seen < 5 {
		t.Errorf("%d commands were found in the templates: they are not read right", seen)
	}
}

func TestEveryCommandInTheDocumentsExists(t *testing.T) {
	programs := commandtest.Build(t)
	seen := map[string]bool{}
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "doc/architecture.md", "doc/operating.md", "doc/tokens.md", "examples/hello/job.yaml", "examples/openfoam-cavity/job.yaml", "examples/mpi/job.yaml"} {
		for _, words := range commandLines(t, page) {
			seen[strings.Join(words[:2], " ")] = true
			programs.Understands(t, page, words)
		}
	}
	for _, want := range []string{"hpcserad init", "hpcserad serve", "hpcserad token", "hpcsera-agent enroll", "hpcsera-agent run", "hpcsera context", "hpcsera run", "hpcsera explain"} {
		if !seen[want] {
			t.Errorf("%q was not found in the documents: they are not read right, or the tour lacks it", want)
		}
	}
}

// A client's developer looks up in one table every error that can come.
func TestTheTokenPageExplainsEveryError(t *testing.T) {
	page := documentText(t, "doc/tokens.md")
	_, table, found := strings.Cut(page, "\n## Errors\n")
	if !found {
		t.Fatal("doc/tokens.md has no section on errors")
	}
	codes := regexp.MustCompile(`(?m)^\t\w+ += "([a-z_]+)"$`).FindAllStringSubmatch(documentText(t, "internal/oauth/fault.go"), -1)
	if len(codes) < 15 {
		t.Errorf("internal/oauth/fault.go has %d codes: they are not read right", len(codes))
	}
	for _, code := range codes {
		if !regexp.MustCompile("(?m)^\\|[^|]*`" + code[1] + "`").MatchString(table) {
			t.Errorf("doc/tokens.md does not explain the error %s", code[1])
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
