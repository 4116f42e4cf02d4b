package agent

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// What Behave does holds for a whole process, so the test does it in another one.
const behaving = "HPCSERA_TEST_BEHAVE"

func TestTheAgentBoundsItselfAndItsChildren(t *testing.T) {
	if os.Getenv(behaving) != "" {
		behave(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "GOMEMLIMIT=") }), behaving+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func behave(t *testing.T) {
	own := niceness(0)
	nice := min(own+3, 19)
	c := Config{Nice: &nice, CPUCores: 1, Memory: 64 << 20}
	if err := c.Behave(); err != nil {
		t.Fatal(err)
	}
	u := measure()
	if u.Nice != nice || u.Cores != 1 || u.MemoryGoal != 64<<20 || runtime.GOMAXPROCS(0) != 1 || debug.SetMemoryLimit(-1) != 64<<20 {
		t.Errorf("got %+v, want nice %d, one core and 64 MiB", u, nice)
	}
	if u.CPU <= 0 || u.Memory <= 0 || u.Files < 3 || u.FilesLimit < uint64(u.Files) {
		t.Errorf("got %+v, want CPU, memory and files measured", u)
	}
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err != nil || niceness(id) < nice {
			t.Errorf("thread %s: got nice %d, want %d", thread.Name(), niceness(id), nice)
		}
	}
	if out, err := exec.Command("nice").Output(); err != nil || strings.TrimSpace(string(out)) != strconv.Itoa(nice) {
		t.Errorf("a child: got nice %s, %v, want %d", out, err, nice)
	}
	// Who is nicer already stays so: only root can go back.
	less := max(nice-2, 0)
	c.Nice = &less
	if err := c.Behave(); err != nil || measure().Nice != nice {
		t.Errorf("got nice %d, %v, want it %d still", measure().Nice, err, nice)
	}
	if u.CPULimit != 0 && u.CPULimit > math.MaxInt64/2 {
		t.Errorf("got %v for no limit", u.CPULimit)
	}
}

func TestManyThatAreNotNiceAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"nice":         func(c *Config) { n := 20; c.Nice = &n },
		"memory":       func(c *Config) { c.Memory = 1 << 20 },
		"cpu_cores":    func(c *Config) { c.CPUCores = -1 },
		"max_commands": func(c *Config) { c.MaxCommands = -1 },
		"login_steps":  func(c *Config) { c.LoginSteps = -1 },
	} {
		c := Config{Server: "http://localhost:1", User: theUser, Site: theSite, Projects: []string{theProject}}
		if err := c.complete(func(string) string { return "/home/alice" }); err != nil {
			t.Fatal(err)
		}
		if err := c.Check(); err != nil {
			t.Fatalf("the defaults: %v", err)
		}
		change(&c)
		err := c.Check()
		if refused, ok := errors.AsType[*hpcsera.Error](err); !ok || refused.Field != name {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
}
