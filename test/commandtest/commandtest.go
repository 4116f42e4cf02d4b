// Package commandtest judges the command lines that documents and pages show:
// whoever types one must not be told that there is no such command or flag. It
// also judges the programs' flags, none of which takes a secret.
package commandtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// named are words of which a flag's name makes one think of a secret.
var named = []string{"token", "secret", "password", "passphrase", "credential", "database", "otp"}

// NoSecretInFlags looks at a program's commands, the hidden ones as well. A
// flag's value stands in the list of processes, which everybody reads, so a
// secret comes in a file, by standard input or from the environment. files are
// the flags that name a file, as "PROGRAM COMMAND --FLAG".
func NoSecretInFlags(t *testing.T, root *cobra.Command, files ...string) {
	t.Helper()
	left := slices.Clone(files)
	commands := 0
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		commands++
		judge := func(f *pflag.Flag) {
			name := c.CommandPath() + " --" + f.Name
			if i := slices.Index(left, name); i >= 0 {
				left = slices.Delete(left, i, i+1)
				if !strings.Contains(f.Usage, "file") {
					t.Errorf("%s says %q, and not that it names a file", name, f.Usage)
				}
				return
			}
			for _, word := range named {
				// --new-secret and the like ask for one and take none.
				if strings.Contains(f.Name, word) && f.Value.Type() != "bool" {
					t.Errorf("%s takes a secret, or seems to", name)
				}
			}
		}
		c.LocalFlags().VisitAll(judge)
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(root)
	if len(left) > 0 || commands < 5 {
		t.Errorf("looked at %d commands, and did not find %v", commands, left)
	}
}

// placeholder is a word of an example that stands for another.
var placeholder = regexp.MustCompile(`(^|\s)[A-Z]{2,}(\s|$)`)

// Examples looks at a program's commands, groups apart: each shows in its help
// how it is typed, with names as somebody would type them.
func Examples(t *testing.T, root *cobra.Command) {
	t.Helper()
	commands := 0
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			look(sub)
		}
		if c.HasSubCommands() || c.Hidden {
			return
		}
		commands++
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s has the example %q, want one that shows it", c.CommandPath(), c.Example)
		}
		if word := placeholder.FindString(c.Example); word != "" {
			t.Errorf("the example of %s says %q where somebody would type a name", c.CommandPath(), strings.TrimSpace(word))
		}
	}
	look(root)
	if commands < 5 {
		t.Errorf("looked at %d commands: they are not found", commands)
	}
}
