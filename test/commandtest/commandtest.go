// Package commandtest judges the command lines that documents and pages show:
// whoever types one must not be told that there is no such command or flag.
package commandtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Programs are ours, built for a test.
type Programs struct{ dir string }

// Build builds the programs that people type.
func Build(t *testing.T) Programs {
	t.Helper()
	p := Programs{t.TempDir()}
	const of = "github.com/hpcsera/hpcsera/cmd/"
	build := exec.CommandContext(t.Context(), "go", "build", "-o", p.dir, of+"hpcserad", of+"hpcsera-auth", of+"hpcsera-agent", of+"hpcsera")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return p
}

// ours is a line that begins with one of the programs and gives it something to
// do.
var ours = regexp.MustCompile(`(?m)^\s*(hpcsera(?:d|-auth|-agent)? [^#\n]+)`)

// Lines lists the command lines of ours in a text, one word an element.
func Lines(text string) (lines [][]string) {
	for _, m := range ours.FindAllStringSubmatch(text, -1) {
		lines = append(lines, strings.Fields(m[1]))
	}
	return lines
}

// Understands has the program read a command line that stands on a page. The
// programs say themselves whether they know a command and its flags: with
// --help they read all of a line and do nothing.
func (p Programs) Understands(t *testing.T, page string, words []string) {
	t.Helper()
	line := strings.Join(words, " ")
	cmd := exec.CommandContext(t.Context(), filepath.Join(p.dir, words[0]), append(words[1:len(words):len(words)], "--help")...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s has %q, which is not understood: %v\n%s", page, line, err, out)
		return
	}
	// A word that is no command would get the help of the one above it.
	_, usage, _ := strings.Cut(string(out), "Usage:\n  ")
	usage, _, _ = strings.Cut(usage, "\n")
	known := 0
	for i, word := range strings.Fields(usage) {
		if i >= len(words) || word != words[i] {
			break
		}
		known++
	}
	if rest := words[known:]; strings.Contains(string(out), "[command]") && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		t.Errorf("%s has %q, but %s has no command %s", page, line, strings.Join(words[:known], " "), rest[0])
	}
}
