package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler/lsf/lsffake"
	"github.com/hpcsera/hpcsera/internal/scheduler/pbs/pbsfake"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// standIn makes this test's program a command of a batch system that can only
// be had as a fake, when it was started as one.
func standIn() {
	switch {
	case pbsfake.Is(os.Args[0]):
		os.Exit(pbsfake.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	case lsffake.Serves(os.Args[0]):
		os.Exit(lsffake.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
}

// byFile is the system of the file that describes Slurm as any batch system is
// described to the agent.
const byFile = "slurm-by-file"

// batchSystems are what the main job runs on beside Slurm: each returns lines of
// agent.yaml and variables of the agent.
var batchSystems = map[string]func(t *testing.T) (settings, env []string){
	"sge": func(t *testing.T) ([]string, []string) {
		path := os.Getenv("HPCSERA_TEST_SGE")
		if path == "" {
			t.Fatal("HPCSERA_TEST_SGE is not set. Start a real Grid Engine first: eval \"$(sudo test/testbed/gridengine up)\"")
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return nil, strings.Fields(string(text))
	},
	// A machine has one OAR, of which another package's tests kill the database.
	"oar": func(t *testing.T) ([]string, []string) {
		dir := os.Getenv("HPCSERA_TEST_OAR")
		if dir == "" {
			t.Fatal("HPCSERA_TEST_OAR is not set. Start a real OAR first: eval \"$(sudo test/testbed/oar up)\"")
		}
		schedulertest.Share(t, filepath.Join(dir, "users"), false)
		return nil, nil
	},
	byFile: func(t *testing.T) ([]string, []string) { return nil, []string{"SLURM_CONF=" + slurmConf(t)} },
	"pbs": func(t *testing.T) ([]string, []string) {
		commands, err := pbsfake.Install(filepath.Join(openDir(t), "pbs"), self(t), pbsfake.Config{History: true})
		if err != nil {
			t.Fatal(err)
		}
		return []string{commandLine(t, commands)}, nil
	},
	"lsf": func(t *testing.T) ([]string, []string) {
		bin, err := lsffake.Install(filepath.Join(openDir(t), "lsf"), self(t), lsffake.Settings{})
		if err != nil {
			t.Fatal(err)
		}
		commands := map[string]string{}
		for _, name := range []string{"bsub", "bjobs", "bhist", "bkill", "bstop", "bresume", "bhosts", "bqueues", "bparams", "lshosts", "lsid"} {
			commands[name] = filepath.Join(bin, name)
		}
		return []string{commandLine(t, commands)}, nil
	},
}

// newLoginOn is newLogin at one of them.
func newLoginOn(t *testing.T, d *deployment, name string) *login {
	t.Helper()
	settings, env := batchSystems[name](t)
	if name == byFile {
		var err error
		if name, err = filepath.Abs("../examples/custom-schedulers/slurm.yaml"); err != nil {
			t.Fatal(err)
		}
	}
	l := newLogin(t, d, name, settings...)
	l.env = append(l.env, env...)
	return l
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func commandLine(t *testing.T, commands map[string]string) string {
	t.Helper()
	text, err := json.Marshal(commands) // which is YAML, too
	if err != nil {
		t.Fatal(err)
	}
	return "commands: " + string(text)
}

// awhile is with one job, on a busy machine: OAR starts few in a minute there.
const awhile = 5 * time.Minute

// TestTheMainJobRunsOnEveryBatchSystem: what is true on Slurm is true there.
func TestTheMainJobRunsOnEveryBatchSystem(t *testing.T) {
	t.Parallel()
	for name := range maps.Keys(batchSystems) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLoginOn(t, d, name)
			good, bad := l.approveWide(t, "good", marking("echo out; pwd")), l.approveWide(t, "bad", marking("echo err >&2; exit 3"))
			// While the server does not know the queues, the batch system alone can say.
			refused := l.submit(t, good, withRun(func(r *hpcsera.RunPart) { r.Attributes.QueueName = "nope" }))
			l.startAgent(t, "")

			// Some that come together, and end in different ways.
			var goods, bads []string
			for range 6 {
				goods, bads = append(goods, l.submit(t, good)), append(bads, l.submit(t, bad))
			}
			sleeping := l.submit(t, l.approveWide(t, "sleep", marking("exec sleep 600")))
			held := l.submit(t, good, withRun(func(r *hpcsera.RunPart) { r.Hold = true }))
			for _, id := range goods {
				j := d.await(id, awhile)
				if runs := l.runs(t, id); j.State != hpcsera.Succeeded || runs != 1 {
					t.Errorf("a job is %s (%s: %s) and ran %d times, want succeeded, once", j.State, j.Reason, j.Message, runs)
				}
				if j.Native == nil || j.Native.System != name {
					t.Errorf("a job ran as %+v, want the id of %s", j.Native, name)
				}
			}
			if got, want := d.get("/jobs/"+goods[0]+"/logs/stdout"), fmt.Sprintf("out\n%s\n", l.jobDir(goods[0])); got != want {
				t.Errorf("stdout is %q, want %q", got, want)
			}
			for _, id := range bads {
				j := d.await(id, awhile)
				if runs := l.runs(t, id); j.Reason != hpcsera.ExitNonzero || j.Exit == nil || j.Exit.Code != 3 || runs != 1 {
					t.Errorf("a job is %s (%s: %s), exit %+v, and ran %d times, want exit 3, once", j.State, j.Reason, j.Message, j.Exit, runs)
				}
			}
			d.await(sleeping, awhile, hpcsera.Running)
			d.call("DELETE", "/jobs/"+sleeping, nil, nil)
			if j := d.await(sleeping, awhile); j.State != hpcsera.Cancelled || j.Reason != hpcsera.CancelledByUser || l.runs(t, sleeping) != 1 {
				t.Errorf("the cancelled job is %s (%s: %s)", j.State, j.Reason, j.Message)
			}
			if runs := l.runs(t, held); runs != 0 {
				t.Errorf("the held job ran %d times", runs)
			}
			d.call("PATCH", "/jobs/"+held, map[string]any{"hold": false}, nil)
			if j := d.await(held, awhile); j.State != hpcsera.Succeeded || l.runs(t, held) != 1 {
				t.Errorf("the released job is %s (%s: %s)", j.State, j.Reason, j.Message)
			}
			if j := d.await(refused, awhile); j.Reason != hpcsera.RejectedByScheduler || j.Message == "" {
				t.Errorf("the job for an unknown queue is %s (%s: %s), want it refused in the system's words", j.State, j.Reason, j.Message)
			}
		})
	}
}
