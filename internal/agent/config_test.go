package agent

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestAPlainHTTPServerMustBeOnThisHost(t *testing.T) {
	for server, ok := range map[string]bool{
		"https://hpc.example.org": true, "http://127.0.0.1:8470": true, "http://localhost:8470": true, "http://[::1]:8470": true,
		"http://hpc.example.org": false, "http://10.0.0.1": false, "http://localhost.example.org": false, "http://127.0.0.1.example.org": false,
		"http:///x": false, "ftp://localhost": false, "": false,
	} {
		err := Config{Server: server, User: "alice", Site: "gwdg", Scheduler: "local", MaxJobs: 1}.Check()
		if ok != (err == nil) {
			t.Errorf("%q: got %v, want it accepted: %v", server, err, ok)
		}
		if !ok && (!strings.HasPrefix(err.Error(), "server: ") || !strings.Contains(err.Error(), "https://")) {
			t.Errorf("%q: got %q, want the field and what to write", server, err)
		}
	}
}

func TestTheEnvironmentSetsWhatTheFileSets(t *testing.T) {
	environ := []string{
		"HOME=/home/alice", "HPCSERA_AGENT_CONFIG=/dev/null", "HPCSERA_AGENT_SERVER=https://hpc.example.org", "HPCSERA_AGENT_PROJECTS=cfd,melt",
		"HPCSERA_AGENT_MAX_JOBS=7", "HPCSERA_AGENT_POLL_INTERVAL=1m", "HPCSERA_AGENT_COMMANDS=squeue=/opt/slurm/squeue,srun=/opt/my=slurm/srun",
	}
	c, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml"), get(environ))
	if err == nil {
		err = CheckEnvironment(environ)
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.Server != "https://hpc.example.org" || strings.Join(c.Projects, " ") != "cfd melt" || c.MaxJobs != 7 || c.PollInterval.Std().Minutes() != 1 {
		t.Errorf("got %+v", c)
	}
	if want := map[string]string{"squeue": "/opt/slurm/squeue", "srun": "/opt/my=slurm/srun"}; !maps.Equal(c.Commands, want) {
		t.Errorf("commands: got %v, want %v", c.Commands, want)
	}
}

func TestAMisspeltVariableIsRefused(t *testing.T) {
	for _, variable := range []string{"HPCSERA_AGENT_SERVR=https://x", "HPCSERA_AGENT_=x", "HPCSERA_AGENT_server=https://x", "HPCSERA_AGENT_COMMAND=squeue=/x"} {
		err := CheckEnvironment([]string{"HOME=/x", variable, "HPCSERA_SERVER=https://client.example"})
		if name, _, _ := strings.Cut(variable, "="); hpcsera.CodeOf(err) != hpcsera.UnknownField || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want it refused by name", variable, err)
		}
	}
	_, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml"), get([]string{"HOME=/x", "HPCSERA_AGENT_COMMANDS=/opt/slurm/squeue"}))
	if err == nil || !strings.Contains(err.Error(), "HPCSERA_AGENT_COMMANDS") || !strings.Contains(err.Error(), "squeue=/") {
		t.Errorf("a command without a name: got %v, want it refused with an example", err)
	}
}

func get(environ []string) func(string) string {
	return func(name string) string {
		for _, pair := range environ {
			if key, value, _ := strings.Cut(pair, "="); key == name {
				return value
			}
		}
		return ""
	}
}
