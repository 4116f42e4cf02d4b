package agent

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

func TestAPlainHTTPServerMustBeOnThisHost(t *testing.T) {
	for server, ok := range map[string]bool{
		"https://hpc.example.org": true, "http://127.0.0.1:8470": true, "http://localhost:8470": true, "http://[::1]:8470": true,
		"http://hpc.example.org": false, "http://10.0.0.1": false, "http://localhost.example.org": false, "http://127.0.0.1.example.org": false,
		"http:///x": false, "ftp://localhost": false, "": false,
	} {
		c := Config{Server: server, User: "alice", Site: "gwdg", Scheduler: "local", MaxJobs: 1}
		c.Trust.Code = "signed"
		err := c.Check()
		if ok != (err == nil) {
			t.Errorf("%q: got %v, want it accepted: %v", server, err, ok)
		}
		if !ok && (!strings.HasPrefix(err.Error(), "server: ") || !strings.Contains(err.Error(), "https://")) {
			t.Errorf("%q: got %q, want the field and what to write", server, err)
		}
	}
}

func TestTheBatchSystemIsOneThatIsKnownOrAFilesPath(t *testing.T) {
	for scheduler, ok := range map[string]bool{
		"auto": true, "slurm": true, "/etc/hpcsera/htcondor.yaml": true,
		"slrum": false, "custom": false, "htcondor.yaml": false, "./htcondor.yaml": false, "~/htcondor.yaml": false,
	} {
		c := Config{Server: "https://hpc.example.org", User: "alice", Site: "gwdg", Scheduler: scheduler, MaxJobs: 1}
		c.Trust.Code = codeSigned
		if err := c.Check(); ok != (err == nil) || !ok && !strings.Contains(err.Error(), "path") {
			t.Errorf("%q: got %v, want it accepted: %v", scheduler, err, ok)
		}
	}
}

func TestOnlySlurmHasClustersAndOneIsNamed(t *testing.T) {
	for _, c := range []struct {
		scheduler, cluster string
		ok                 bool
	}{
		{"slurm", "annex", true}, {"slurm", "emmy-2.gpu", true}, {"auto", "annex", false}, {"pbs", "annex", false}, {"slurm", "all", false},
		{"slurm", "a,b", false}, {"slurm", "Annex", false}, {"slurm", "-x", false}, {"slurm", "a b", false},
	} {
		config := Config{Server: "https://hpc.example.org", User: "alice", Site: "gwdg", Scheduler: c.scheduler, Cluster: c.cluster, MaxJobs: 1}
		config.Trust.Code = codeSigned
		if err := config.Check(); c.ok != (err == nil) || !c.ok && !strings.HasPrefix(err.Error(), "cluster: ") {
			t.Errorf("%s, %q: got %v, want it accepted: %v", c.scheduler, c.cluster, err, c.ok)
		}
	}
}

func TestTheEnvironmentSetsWhatTheFileSets(t *testing.T) {
	environ := []string{
		"HOME=/home/alice", "HPCSERA_AGENT_CONFIG=/dev/null", "HPCSERA_AGENT_SERVER=https://hpc.example.org", "HPCSERA_AGENT_PROJECTS=cfd,melt",
		"HPCSERA_AGENT_MAX_JOBS=7", "HPCSERA_AGENT_POLL_INTERVAL=1m", "HPCSERA_AGENT_COMMANDS=squeue=/opt/slurm/squeue,srun=/opt/my=slurm/srun",
	}
	c, err := LoadConfig(policy.SiteFiles{Dir: t.TempDir()}, filepath.Join(t.TempDir(), "none.yaml"), get(environ))
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

func TestASitesFilesHaveAbsolutePaths(t *testing.T) {
	for key, text := range map[string]string{
		"modules_init": "modules_init: init.sh\n", "spack_init": "spack_init: ~/spack/setup-env.sh\n", "hooks.before": "hooks: {before: prolog}\n",
		"hooks.after": "hooks: {after: ./epilog}\n", "commands.srun": "commands: {srun: ''}\n",
	} {
		c, err := load(t, "", "user: alice\nsite: gwdg\nserver: https://x.example\n"+text, nil)
		if err == nil {
			err = c.Check()
		}
		if err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%s: got %v, want it refused by name", text, err)
		}
	}
}

func TestAMisspeltVariableIsRefused(t *testing.T) {
	for _, variable := range []string{"HPCSERA_AGENT_SERVR=https://x", "HPCSERA_AGENT_=x", "HPCSERA_AGENT_server=https://x", "HPCSERA_AGENT_COMMAND=squeue=/x"} {
		err := CheckEnvironment([]string{"HOME=/x", variable, "HPCSERA_SERVER=https://client.example"})
		if name, _, _ := strings.Cut(variable, "="); hpcsera.CodeOf(err) != hpcsera.UnknownField || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want it refused by name", variable, err)
		}
	}
	_, err := LoadConfig(policy.SiteFiles{Dir: t.TempDir()}, filepath.Join(t.TempDir(), "none.yaml"), get([]string{"HOME=/x", "HPCSERA_AGENT_COMMANDS=/opt/slurm/squeue"}))
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

// load writes the site's and the user's file and loads them.
func load(t *testing.T, site, user string, env map[string]string) (Config, error) {
	t.Helper()
	dir := t.TempDir()
	files := policy.SiteFiles{Dir: filepath.Join(dir, "etc"), Owner: os.Geteuid()}
	if err := os.Mkdir(files.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{filepath.Join(files.Dir, "agent.yaml"): site, filepath.Join(dir, "agent.yaml"): user} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return LoadConfig(files, filepath.Join(dir, "agent.yaml"), func(name string) string {
		if name == "HOME" {
			return "/home/alice"
		}
		return env[name]
	})
}

func TestTheSitesSettingsHold(t *testing.T) {
	site := "server: https://hpc.example.org\nsite: gwdg\nlauncher: srun\nwork_root: /scratch/{account}/hpcsera\ncommands: {sbatch: /opt/slurm/bin/sbatch}\ntrust: {code: signed}\n"
	c, err := load(t, site, "server: https://evil.example\nuser: alice\nlauncher: srun\nprojects: [cfd]\nmax_jobs: 5\n"+
		"commands: {sbatch: /home/alice/sbatch, squeue: /usr/bin/squeue}\ntrust: {code: server}\n",
		map[string]string{"HPCSERA_AGENT_SITE": "mine", "HPCSERA_AGENT_LOG": "json", "USER": "alice01"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server != "https://hpc.example.org" || c.Site != "gwdg" || c.WorkRoot != "/scratch/alice01/hpcsera" || c.Commands["sbatch"] != "/opt/slurm/bin/sbatch" || c.Trust.Code != "signed" {
		t.Errorf("got %+v, want what the site sets", c)
	}
	if c.User != "alice" || c.MaxJobs != 5 || c.Log != "json" || c.Commands["squeue"] != "/usr/bin/squeue" || c.SpoolDir != "/home/alice/.hpcsera/spool" {
		t.Errorf("got %+v, want what the user sets where the site is silent", c)
	}
	if want := []string{"commands", "server", "site", "trust"}; !slices.Equal(c.overruled, want) {
		t.Errorf("overruled: got %q, want %q", c.overruled, want)
	}
}

func TestSiteSettingsThatCannotBeBelievedStopTheAgent(t *testing.T) {
	for name, text := range map[string]string{"who the user is": "user: bob\n", "an unknown key": "trust_everybody: true\n", "not YAML": "server: [\n"} {
		if c, err := load(t, text, "user: alice\n", nil); err == nil {
			t.Errorf("%s: got %+v, want an error", name, c)
		}
	}
	dir := t.TempDir()
	files := policy.SiteFiles{Dir: dir, Owner: os.Geteuid()}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agent.yaml"), []byte("server: https://evil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "agent.yaml"), 0o666); err != nil {
		t.Fatal(err)
	}
	if c, err := LoadConfig(files, filepath.Join(dir, "none"), func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "written by others") {
		t.Errorf("writable by others: got %+v, %v", c, err)
	}
}

func TestTheServersWordCountsOnLoopbackOnly(t *testing.T) {
	for server, ok := range map[string]bool{
		"https://hpc.example.org": false, "http://10.0.0.1": false, "http://127.0.0.1.evil.example": false, "http://localhost.evil.example": false, "http://0.0.0.0": false,
		"http://localhost:8080": true, "http://127.0.0.1:8080": true, "http://[::1]:8080": true,
	} {
		c, err := load(t, "", "user: alice\nsite: gwdg\nserver: '"+server+"'\ntrust: {code: server}\n", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(); (err == nil) != ok {
			t.Errorf("%s: got %v, want accepted=%t", server, err, ok)
		}
	}
	c, err := load(t, "", "user: alice\nsite: gwdg\nserver: http://localhost\ntrust: {code: anybody}\n", nil)
	if err == nil {
		err = c.Check()
	}
	if err == nil {
		t.Error("another word: got no error")
	}
	if c, err := load(t, "", "", map[string]string{"HPCSERA_AGENT_TRUST": "{code: server}", "HPCSERA_AGENT_TRUST_CODE": "server"}); err != nil || c.Trust.Code != "signed" {
		t.Errorf("by the environment: got %+v, %v, want it signed", c.Trust, err)
	}
}

// keys returns the settings of a configuration struct as they are written.
func keys(of reflect.Type, before string) (list []string) {
	for i := range of.NumField() {
		field := of.Field(i)
		key := field.Tag.Get("json")
		switch {
		case key == "":
		case field.Type.Kind() == reflect.Struct:
			list = append(list, keys(field.Type, key+".")...)
		default:
			list = append(list, before+key)
		}
	}
	return list
}

func TestEverySettingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../doc/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| key | what it says | default |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var documented []string
	for line := range strings.Lines(table) {
		key, _, _ := strings.Cut(strings.TrimPrefix(line, "| `"), "`")
		documented = append(documented, key)
	}
	if want := keys(reflect.TypeFor[Config](), ""); !slices.Equal(documented, want) {
		t.Errorf("doc/operating.md has the settings %q, want %q", documented, want)
	}
}
