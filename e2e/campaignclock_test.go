package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// withClock builds a program whose wall clock can be stepped: Go's own package
// time is compiled with one line more.
func withClock(t *testing.T, dir, program string) {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	text := read(t, filepath.Join(source, "time.go"))
	if !strings.Contains(text, now) {
		t.Fatalf("%s is written in another way by now: mend withClock", source)
	}
	changed := filepath.Join(dir, "time.go.txt")
	write(t, changed, strings.Replace(text, now, now+"\tsec += step.Load()\n", 1), 0o644)
	added, err := filepath.Abs("testdata/clock/step.go")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(source, "time.go"): changed, filepath.Join(source, "step.go"): added,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	write(t, file, string(overlay), 0o644)
	build := exec.Command("go", "build", "-overlay", file, "-tags", "failpoint", "-o", filepath.Join(dir, program), "../cmd/"+program)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s with another clock cannot be built: %v\n%s", program, err, out)
	}
}

// clockFaults step the wall clock by up to two hours, and back.
var clockFaults = []fault{
	{"clock of the agent's host stepped", 3, nil, func(c *campaign, b blow, _ *hit) func() { return c.stepClock("agent", b) }},
	{"timekeeping of the server stepped", 2, large, func(c *campaign, b blow, _ *hit) func() { return c.stepClock("server", b) }},
}

// clock names the file that says how wrong the clock of agent or server is.
func (c *campaign) clock(whose string) string { return filepath.Join(c.open, "clock-"+whose) }

func (c *campaign) stepClock(whose string, b blow) func() {
	set := func(seconds int64) {
		if err := os.WriteFile(c.clock(whose), []byte(fmt.Sprintf("%+d\n", seconds)), 0o644); err != nil {
			c.t.Error(err)
		}
	}
	set(int64(b.dice%14400) - 7200)
	return func() { set(0) }
}
