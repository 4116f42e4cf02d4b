package trial

import (
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent"
)

// Report is what the doctor found, fit for a bug report: it holds no secret, and
// the names that Mask knows are replaced.
type Report struct {
	Agent    string          `json:"agent"` // version and platform
	OS       string          `json:"os"`
	At       time.Time       `json:"at"`
	System   string          `json:"system"`
	Version  string          `json:"version"` // of the batch system
	Cluster  string          `json:"cluster,omitempty"`
	OK       bool            `json:"ok"`
	Findings []agent.Finding `json:"findings"` // of server, spool and the like
	Cases    []Outcome       `json:"cases"`
	Commands []Command       `json:"commands"`
}

// NewReport says where it was made.
func NewReport(version, system string, facts hpcsera.Facts) Report {
	return Report{
		Agent: fmt.Sprintf("hpcsera-agent %s, %s/%s", version, runtime.GOOS, runtime.GOARCH), OS: operatingSystem(), At: time.Now().UTC().Truncate(time.Second),
		System: system, Version: facts.Version, Cluster: facts.Cluster, Findings: []agent.Finding{}, Cases: []Outcome{}, Commands: []Command{},
	}
}

// operatingSystem names distribution and kernel (os-release(5), uname(2)).
func operatingSystem() string {
	name := "unknown"
	text, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			name = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(fmt.Sprintf("%s, Linux %s", name, release))
}

// Mask replaces names in an outcome.
func (o Outcome) Mask(m Mask) Outcome {
	seen := make([]string, len(o.Seen))
	for i, line := range o.Seen {
		seen[i] = m.Text(line)
	}
	o.Seen = seen
	return o
}

// Mask replaces names in a command.
func (c Command) Mask(m Mask) Command {
	argv := make([]string, len(c.Argv))
	for i, arg := range c.Argv {
		argv[i] = m.Text(arg)
	}
	c.Argv, c.Error = argv, m.Text(c.Error)
	return c
}

// Print writes the outcome as lines for people.
func (o Outcome) Print(w io.Writer) {
	mark := "FAIL"
	switch {
	case o.OK:
		mark = "ok  "
	case o.Skipped:
		mark = "--  "
	}
	fmt.Fprintf(w, "%s  %s (%.1fs)\n", mark, o.Case, o.Seconds)
	for _, text := range o.Seen {
		fmt.Fprintf(w, "      %s\n", strings.ReplaceAll(text, "\n", "\n      "))
	}
}

// Print writes what people read after the cases: where it was, and what was run.
func (r Report) Print(w io.Writer) {
	ok, failed, skipped := 0, 0, 0
	for _, o := range r.Cases {
		switch {
		case o.OK:
			ok++
		case o.Skipped:
			skipped++
		default:
			failed++
		}
	}
	fmt.Fprintf(w, "\ncases     %d well, %d failed, %d not run\nagent     %s\nsystem    %s", ok, failed, skipped, r.Agent, strings.TrimSpace(r.System+" "+r.Version))
	if r.Cluster != "" {
		fmt.Fprintf(w, ", cluster %s", r.Cluster)
	}
	fmt.Fprintf(w, "\nos        %s\nat        %s\ncommands  %d\n", r.OS, r.At.Format(time.RFC3339), r.runs())
	for commands := r.Commands; len(commands) > 0; {
		n := 1
		for n < len(commands) && commands[n].During == commands[0].During {
			n++
		}
		r.printCommands(w, commands[:n])
		commands = commands[n:]
	}
}

// printCommands writes the commands of one check or case: each of them where it
// did not go well, and otherwise how many there were.
func (r Report) printCommands(w io.Writer, commands []Command) {
	during := commands[0].During
	fmt.Fprintf(w, "  %s\n", during)
	if !slices.ContainsFunc(r.Cases, func(o Outcome) bool { return o.Case == during && o.OK }) {
		for _, c := range commands {
			c.print(w)
		}
		return
	}
	counts := map[string]int{}
	for _, c := range commands {
		counts[fmt.Sprintf("%s, exit %d%s", c.Argv[0], c.Exit, c.standsIn())] += c.Times
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "    %d %s\n", counts[name], name)
	}
}

func (c Command) standsIn() string {
	if c.StandIn {
		return " of a stand-in"
	}
	return ""
}

func (c Command) print(w io.Writer) {
	times := ""
	if c.Times > 1 {
		times = fmt.Sprintf(" (%d times)", c.Times)
	}
	words := make([]string, len(c.Argv))
	for i, word := range c.Argv {
		if words[i] = word; strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }) {
			words[i] = strconv.Quote(word)
		}
	}
	fmt.Fprintf(w, "    exit %d%s%s, %.3fs: %s\n", c.Exit, c.standsIn(), times, c.Seconds, strings.Join(words, " "))
	if c.Error != "" {
		fmt.Fprintf(w, "      %s\n", strings.ReplaceAll(c.Error, "\n", "\n      "))
	}
}

func (r Report) runs() (n int) {
	for _, c := range r.Commands {
		n += c.Times
	}
	return n
}
