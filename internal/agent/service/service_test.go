package service

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestOthersLinesOfACrontabStayAsTheyAre(t *testing.T) {
	lines := Program{Binary: "/bin/agent", Config: "/c", Log: "/l"}.lines()
	for name, table := range map[string]string{
		"nothing":          "",
		"a comment":        "# mine\n",
		"variables":        "MAILTO=ada@example.org\nSHELL=/bin/bash\n\n0 3 * * * backup 50\\% | mail\n",
		"blanks and bytes": "\t \n\n0 3 * * * f\xfc\n\n",
		"CRLF":             "0 3 * * * x\r\n",
	} {
		installed, err := merge(table, lines)
		if err != nil || installed != table+lines {
			t.Errorf("%s: got %q, %v", name, installed, err)
		}
		if again, err := merge(installed, lines); err != nil || again != installed {
			t.Errorf("%s, again: got %q, %v, want it unchanged", name, again, err)
		}
		below := installed + "5 5 * * * later\n"
		other, err := merge(below, beginMark+"new\n"+endMark)
		if err != nil || other != table+beginMark+"new\n"+endMark+"5 5 * * * later\n" {
			t.Errorf("%s, with other lines: got %q, %v", name, other, err)
		}
		if removed, err := merge(below, ""); err != nil || removed != table+"5 5 * * * later\n" {
			t.Errorf("%s, removed: got %q, %v", name, removed, err)
		}
	}
	if got, err := merge("1 1 * * * x", lines); err != nil || got != "1 1 * * * x\n"+lines {
		t.Errorf("without a last newline: got %q, %v", got, err)
	}
	for name, table := range map[string]string{
		"no end": "a\n" + beginMark + "b\n", "no begin": endMark, "end first": endMark + beginMark,
		"twice": lines + lines, "two ends": lines + endMark,
	} {
		if got, err := merge(table, lines); hpcsera.CodeOf(err) != hpcsera.Conflict {
			t.Errorf("%s: got %q, %v, want it left alone", name, got, err)
		}
	}
}

// hostile are words that a shell, cron or systemd would read otherwise.
var hostile = []string{"plain", "with space", "100%", "$HOME", "`id`", `back\slash`, `"quoted"`, "it's", "a;b", "#c", "%i", "ümlaut", "*"}

func TestTheCrontabsCommandIsReadAsItIs(t *testing.T) {
	for _, word := range hostile {
		line, _, _ := strings.Cut(strings.TrimPrefix(Program{Binary: "/usr/bin/printf", Config: word, Log: "/dev/stdout", Environment: []string{"X=" + word}}.lines(), beginMark), "\n")
		command := strings.TrimPrefix(strings.ReplaceAll(line, `\%`, "%"), "*/5 * * * * ") // what cron does
		command = strings.Replace(command, " --config ", " '%s|%s' \"$0\" ", 1)
		out, err := exec.Command("sh", "-c", command, "zero").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), "zero|"+word) {
			t.Errorf("%q: %s gives %q, %v", word, command, out, err)
		}
	}
}

// systemd's own checker reads the unit, with a binary that has a name to trip over.
func TestSystemdUnderstandsTheUnit(t *testing.T) {
	for _, word := range hostile {
		dir := t.TempDir()
		binary := filepath.Join(dir, word)
		if strings.ContainsAny(word, `"'\`) { // refused, see installUnit
			binary = filepath.Join(dir, "agent")
		}
		if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, unitName)
		text := Program{Binary: binary, Config: filepath.Join(dir, word+".yaml"), Environment: []string{"SLURM_CONF=" + word}}.unit()
		if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("systemd-analyze", "--user", "--recursive-errors=no", "verify", unit)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%q: %v\n%s\n%s", word, err, out, text)
		}
	}
}

// lab is a host whose commands are scripts that write down how they were called.
type lab struct {
	Host
	dir  string
	said strings.Builder
}

func newLab(t *testing.T, scripts map[string]string) *lab {
	t.Helper()
	l := &lab{dir: t.TempDir()}
	for name, text := range scripts {
		script := fmt.Sprintf("#!/bin/sh\necho %s \"$@\" >>%s/calls\n%s\n", name, l.dir, text)
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	l.Host = Host{Path: []string{l.dir}, Environ: os.Environ(), Units: filepath.Join(l.dir, "units"), Account: "ada", Say: func(format string, args ...any) { fmt.Fprintf(&l.said, format+"\n", args...) }}
	return l
}

func (l *lab) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(l.dir, name))
	return string(b)
}

// table keeps a crontab in a file.
const table = `case $1 in -l) cat "${0%/*}/table" 2>/dev/null || { echo no crontab for ada >&2; exit 1; } ;; -r) rm "${0%/*}/table" ;; -) cat >"${0%/*}/table" ;; esac`

var program = Program{Binary: "/opt/hpcsera-agent", Config: "/home/ada/agent.yaml", Log: "/home/ada/once.log"}

func TestWhereSystemdAnswersItRunsTheAgent(t *testing.T) {
	for lingers, want := range map[string]string{"yes": "It goes on when you log out", "no": "loginctl enable-linger", "": "not known"} {
		l := newLab(t, map[string]string{"systemctl": "exit 0", "loginctl": "echo " + lingers, "crontab": table})
		if err := l.Install(t.Context(), Cron, program, false); err != nil { // before the site had systemd
			t.Fatal(err)
		}
		for range 2 {
			if err := l.Install(t.Context(), Auto, program, false); err != nil {
				t.Fatal(err)
			}
		}
		if got := l.read("units/" + unitName); got != program.unit() {
			t.Errorf("the unit: got %s", got)
		}
		if got := l.read("table"); got != "" {
			t.Errorf("the crontab has still %s", got)
		}
		for _, call := range []string{"systemctl --user daemon-reload\n", "systemctl --user enable " + unitName, "systemctl --user restart " + unitName, "loginctl show-user ada --property=Linger --value"} {
			if !strings.Contains(l.read("calls"), call) {
				t.Errorf("not called: %s in\n%s", call, l.read("calls"))
			}
		}
		if !strings.Contains(l.said.String(), want) {
			t.Errorf("linger %q: said %s, want %q", lingers, &l.said, want)
		}
		if err := errors.Join(l.Uninstall(t.Context()), l.Uninstall(t.Context())); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(l.unitPath()); err == nil || strings.Count(l.read("calls"), "disable --now "+unitName) != 1 {
			t.Errorf("after uninstall: %v\n%s", err, l.read("calls"))
		}
		if !strings.HasSuffix(l.said.String(), "Nothing that install wrote is here.\n") {
			t.Errorf("the second uninstall said %s", &l.said)
		}
	}
}

func TestWhereSystemdDoesNotAnswerItIsCron(t *testing.T) {
	const mine = "MAILTO=ada\n0 3 * * * true\n"
	for name, scripts := range map[string]map[string]string{
		"no bus":       {"systemctl": "echo 'Failed to connect to bus: No medium found' >&2; exit 1", "crontab": table},
		"no systemctl": {"crontab": table},
	} {
		l := newLab(t, scripts)
		if err := os.WriteFile(filepath.Join(l.dir, "table"), []byte(mine), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := l.Install(t.Context(), Systemd, program, false); hpcsera.CodeOf(err) != hpcsera.Unavailable || l.read("table") != mine {
			t.Errorf("%s: systemd or not at all: got %v", name, err)
		}
		if err := l.Install(t.Context(), Auto, program, true); err != nil || l.read("table") != mine || !strings.Contains(l.said.String(), program.lines()) {
			t.Errorf("%s: a dry run: got %v, %s, said %s", name, err, l.read("table"), &l.said)
		}
		for range 2 {
			if err := l.Install(t.Context(), Auto, program, false); err != nil || l.read("table") != mine+program.lines() {
				t.Errorf("%s: got %v, %s", name, err, l.read("table"))
			}
		}
		if err := l.Uninstall(t.Context()); err != nil || l.read("table") != mine {
			t.Errorf("%s: after uninstall: got %v, %s", name, err, l.read("table"))
		}
	}
}

// A crontab that cannot be read must not be written: its lines would be lost.
func TestACrontabThatCannotBeReadIsLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"not allowed": "echo 'You (ada) are not allowed to use this program (crontab)' >&2; exit 1",
		"broken":      "[ $1 = -l ] && { echo 'disk on fire' >&2; exit 1; }",
		"killed":      "kill -KILL $$",
		"lies":        table + "; [ $1 != - ] || echo other >\"${0%/*}/table\"",
	} {
		l := newLab(t, map[string]string{"crontab": text})
		if err := l.Install(t.Context(), Auto, program, false); err == nil {
			t.Errorf("%s: got no error", name)
		}
		if name != "lies" && strings.Contains(l.read("calls"), "crontab -\n") {
			t.Errorf("%s: it was written", name)
		}
	}
}

func TestAUnitOfSomebodyElsesIsLeftAlone(t *testing.T) {
	l := newLab(t, map[string]string{"systemctl": "exit 0", "loginctl": "echo yes", "crontab": table})
	const theirs = "[Service]\nExecStart=/my/own\n"
	if err := errors.Join(os.MkdirAll(l.Units, 0o700), os.WriteFile(l.unitPath(), []byte(theirs), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := l.Install(t.Context(), Auto, program, false); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("got %v, want it refused", err)
	}
	if err := errors.Join(l.Install(t.Context(), Cron, program, false), l.Uninstall(t.Context())); err != nil {
		t.Error(err)
	}
	if got := l.read("units/" + unitName); got != theirs {
		t.Errorf("got %s", got)
	}
}

func TestWhatCannotStandInOneLineIsRefused(t *testing.T) {
	l := newLab(t, map[string]string{"crontab": table})
	p := program
	p.Binary = "/opt/it's"
	quoted := newLab(t, map[string]string{"systemctl": "exit 0"})
	if err := quoted.Install(t.Context(), Auto, p, false); hpcsera.CodeOf(err) != hpcsera.InvalidField {
		t.Errorf("a quote in a unit's program: got %v", err)
	}
	p = program
	p.Environment = []string{"SLURM_CONF=/a\n* * * * * evil"}
	if err := l.Install(t.Context(), Cron, p, false); hpcsera.CodeOf(err) != hpcsera.InvalidField || l.read("table") != "" {
		t.Errorf("got %v, %s", err, l.read("table"))
	}
}
