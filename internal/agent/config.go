package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/container"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// Config is the agent's settings, from two files of one form: the site's,
// /etc/hpcsera/agent.yaml, and below it the user's. What the site sets holds; the
// user's file sets the rest, and who the user is. Every setting of the user's can
// also come from an environment variable: HPCSERA_AGENT_ and the key in
// capitals (HPCSERA_AGENT_SERVER); those of trust stand in the files alone.
// Nothing in it comes from the server.
type Config struct {
	Server        string            `json:"server"`         // public URL of the API server
	User          string            `json:"user"`           // the user's name at that server
	Site          string            `json:"site"`           // this HPC system's name there
	Projects      []string          `json:"projects"`       // whose jobs this agent runs
	StateDir      string            `json:"state_dir"`      // key, credential, trust file, journal; default ~/.hpcsera
	SpoolDir      string            `json:"spool_dir"`      // shared with the compute nodes; default STATE_DIR/spool
	WorkRoot      string            `json:"work_root"`      // jobs' directories, shared with the compute nodes; default STATE_DIR/work
	Scheduler     string            `json:"scheduler"`      // auto (default): the one that answers; the name of one, or the path of a file that describes one
	Cluster       string            `json:"cluster"`        // with slurm: the cluster to drive, where it is not this host's own
	Commands      map[string]string `json:"commands"`       // absolute paths of the batch system's commands, where not found
	Launcher      string            `json:"launcher"`       // MPI launch line, see launchLine; default srun with slurm
	ModulesInit   string            `json:"modules_init"`   // file that defines the shell function module on compute nodes; default /etc/profile
	SpackInit     string            `json:"spack_init"`     // file that defines the shell function spack there
	LoginOutput   hpcsera.Bytes     `json:"login_output"`   // that a login step may print; default 64MiB
	MaxJobs       int               `json:"max_jobs"`       // unfinished jobs at once; default 2000
	SubmitTimeout Seconds           `json:"submit_timeout"` // of the submit command; default 60s
	QueryTimeout  Seconds           `json:"query_timeout"`  // of other commands; default 30s
	// PerMinute is how many commands the batch system gets in a minute at most; default 600.
	PerMinute     int     `json:"commands_per_minute"`
	PollInterval  Seconds `json:"poll_interval"`  // between queries of the batch system when nothing is urgent; default 15s
	SpoolInterval Seconds `json:"spool_interval"` // between listings of the spool's inbox; default 1s
	// What the agent takes of the login node, see Use.
	Nice        *int          `json:"nice"`         // 0 to 19, also of commands and login steps; default 5
	CPUCores    int           `json:"cpu_cores"`    // that the agent itself computes on; default 2
	Memory      hpcsera.Bytes `json:"memory"`       // of the agent itself, above which it prefers computing to growing; default 512MiB
	MaxCommands int           `json:"max_commands"` // of the batch system at once; default 8
	LoginSteps  int           `json:"login_steps"`  // at once; default 8

	CAFile    string            `json:"ca_file"`   // certificates of the server's own authority, beside the system's
	Log       string            `json:"log"`       // text (default) or json
	LogLevel  string            `json:"log_level"` // debug, info (default), warn, error
	Container container.Runtime `json:"container"` // how containers run here; none by default
	Hooks     Hooks             `json:"hooks"`
	Trust     Trust             `json:"trust"`

	overruled []string // keys of the user's that the site sets otherwise

	once     bool
	pollWait int
}

// Hooks are programs of the site that the wrapper runs around a step's own, on
// its node. One before that fails ends the job.
type Hooks struct {
	Before  string           `json:"before"`
	After   string           `json:"after"`
	Timeout hpcsera.Duration `json:"timeout"` // of each; default 5m
}

// Trust says what is believed beside the trust file. The zero value is the
// strict one.
type Trust struct {
	Code string `json:"code"` // signed (default); server runs code at the server's word, where that is this host's own
	// PasskeySameOrigin accepts passkeys that signed on a page of the API server's own.
	PasskeySameOrigin bool `json:"passkey_same_origin"`
}

// The values of trust.code.
const (
	codeSigned = "signed"
	codeServer = "server"
)

// Seconds is a length of time in a configuration, such as 500ms or 1m.
type Seconds time.Duration

// Std returns s as the standard library's type.
func (s Seconds) Std() time.Duration { return time.Duration(s) }

// UnmarshalJSON reads a string with units.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "a length of time is written with its unit, such as 30s")
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a length of time. Write it with its unit, such as 30s", text)
	}
	*s = Seconds(d)
	return nil
}

// MarshalJSON writes the length with its unit.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).String()) }

// systems are the values of scheduler, beside the paths of files.
var systems = []string{"auto", "slurm", "pbs", "lsf", "sge", "oar", "local"}

// settings are the keys that an environment variable can set.
var settings = []string{
	"server", "user", "site", "projects", "state_dir", "spool_dir", "work_root", "scheduler", "commands", "commands_per_minute", "launcher", "modules_init", "spack_init", "login_output", "max_jobs", "submit_timeout",
	"query_timeout", "poll_interval", "spool_interval", "nice", "cpu_cores", "memory", "max_commands", "login_steps", "ca_file", "log", "log_level",
}

// LoadConfig reads the user's file, lays the environment over it, the site's
// settings over both, and fills in the defaults. A missing file is an empty one.
// getenv is os.Getenv.
func LoadConfig(site policy.SiteFiles, file string, getenv func(string) string) (Config, error) {
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	doc, err := strictyaml.Parse(file, text)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err := doc.Decode(&c); err != nil {
		return Config{}, err
	}
	if err := c.overlay(getenv); err != nil {
		return Config{}, err
	}
	if err := c.overrule(site); err != nil {
		return Config{}, err
	}
	return c, c.complete(getenv)
}

func (c *Config) overlay(getenv func(string) string) error {
	for _, key := range settings {
		name := variables + strings.ToUpper(key)
		text := getenv(name)
		if text == "" {
			continue
		}
		var value any = text
		var err error
		switch key {
		case "commands":
			value, err = commandPaths(text)
		case "projects":
			value = strings.Split(text, ",")
		case "max_jobs", "commands_per_minute", "nice", "cpu_cores", "max_commands", "login_steps":
			value = json.RawMessage(text)
		}
		var b []byte
		if err == nil {
			b, err = json.Marshal(map[string]any{key: value})
		}
		if err == nil {
			err = json.Unmarshal(b, c)
		}
		if err != nil {
			return hpcsera.Errorf(hpcsera.InvalidField, "%v", err).At(name)
		}
	}
	return nil
}

// overrule lays the site's settings over the user's.
func (c *Config) overrule(site policy.SiteFiles) error {
	text, err := site.Read(policy.Settings)
	if err != nil {
		return fmt.Errorf("the site's settings: %w", err)
	}
	if text == nil {
		return nil
	}
	doc, err := strictyaml.Parse(filepath.Join(site.Dir, policy.Settings), text)
	if err != nil {
		return err
	}
	var theirs Config
	if err := doc.Decode(&theirs); err != nil {
		return err
	}
	if theirs.User != "" {
		return doc.Locate(hpcsera.Errorf(hpcsera.InvalidField, "a site cannot say who its users are elsewhere.").At("user"))
	}
	own := *c
	own.Commands = maps.Clone(c.Commands) // decoding adds to a map in place
	if err := doc.Decode(c); err != nil {
		return err
	}
	before, now := own.values(), c.values()
	unset := Config{}.values()
	for key, value := range before {
		if !bytes.Equal(value, now[key]) && !bytes.Equal(value, unset[key]) {
			c.overruled = append(c.overruled, key)
		}
	}
	slices.Sort(c.overruled)
	return nil
}

// values returns the settings as they are written.
func (c Config) values() (v map[string]json.RawMessage) {
	text, _ := json.Marshal(c) // strings and numbers cannot fail
	_ = json.Unmarshal(text, &v)
	return v
}

// folders fills in where things are kept.
func (c *Config) folders(getenv func(string) string) error {
	home := getenv("HOME")
	if c.StateDir == "" {
		if home == "" {
			return hpcsera.Errorf(hpcsera.InvalidField, "there is no HOME to put it in").At("state_dir")
		}
		c.StateDir = filepath.Join(home, ".hpcsera")
	}
	for _, dir := range []struct {
		path     *string
		standard string
	}{{&c.StateDir, ""}, {&c.SpoolDir, filepath.Join(c.StateDir, "spool")}, {&c.WorkRoot, filepath.Join(c.StateDir, "work")}} {
		if *dir.path == "" {
			*dir.path = dir.standard
		}
		if rest, ok := strings.CutPrefix(*dir.path, "~/"); ok {
			*dir.path = filepath.Join(home, rest)
		}
		// For site settings, such as work_root: /scratch/{account}/hpcsera.
		if strings.Contains(*dir.path, "{account}") {
			if getenv("USER") == "" {
				return hpcsera.Errorf(hpcsera.InvalidField, "there is no USER to put into %s", *dir.path)
			}
			*dir.path = strings.ReplaceAll(*dir.path, "{account}", getenv("USER"))
		}
		abs, err := filepath.Abs(*dir.path)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		*dir.path = abs
	}
	return nil
}

// complete fills in the defaults.
func (c *Config) complete(getenv func(string) string) error {
	if err := c.folders(getenv); err != nil {
		return err
	}
	c.SubmitTimeout = cmp.Or(c.SubmitTimeout, Seconds(time.Minute))
	c.QueryTimeout = cmp.Or(c.QueryTimeout, Seconds(30*time.Second))
	c.PollInterval = cmp.Or(c.PollInterval, Seconds(15*time.Second))
	c.SpoolInterval = cmp.Or(c.SpoolInterval, Seconds(time.Second))
	c.MaxJobs, c.PerMinute = cmp.Or(c.MaxJobs, 2000), cmp.Or(c.PerMinute, 600)
	c.CPUCores, c.MaxCommands, c.LoginSteps = cmp.Or(c.CPUCores, 2), cmp.Or(c.MaxCommands, 8), cmp.Or(c.LoginSteps, 8)
	if c.Nice == nil {
		nice := 5
		c.Nice = &nice
	}
	c.Memory = cmp.Or(c.Memory, 512<<20)
	c.Scheduler = cmp.Or(c.Scheduler, "auto")
	c.ModulesInit = cmp.Or(c.ModulesInit, "/etc/profile")
	c.LoginOutput = cmp.Or(c.LoginOutput, 64<<20)
	c.Hooks.Timeout = cmp.Or(c.Hooks.Timeout, hpcsera.Duration(5*time.Minute))
	c.Trust.Code = cmp.Or(c.Trust.Code, codeSigned)
	c.pollWait = 30
	c.Server = strings.TrimRight(c.Server, "/")
	return nil
}

// clusterName matches one of Slurm's clusters: sbatch given several, or all of
// them, would choose.
var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// Check refuses what the agent cannot run with.
func (c Config) Check() error {
	u, err := url.Parse(c.Server)
	if c.Server == "" || err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a server's URL.", c.Server).At("server").
			Hint("Write it in agent.yaml, such as server: https://hpcsera.example.org")
	}
	if !safe(u) {
		return hpcsera.Errorf(hpcsera.InvalidField, "what is sent to %s can be read on its way; without TLS the server must be on this host.", c.Server).At("server").
			Hint("Write https://%s into agent.yaml.", u.Host)
	}
	for field, name := range map[string]string{"user": c.User, "site": c.Site} {
		if !hpcsera.ValidName(name) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a name.", name).At(field).
				Hint("Write into agent.yaml what the operator registered: %s: NAME", field)
		}
	}
	if !slices.Contains(systems, c.Scheduler) && !filepath.IsAbs(c.Scheduler) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a batch system this agent knows.", c.Scheduler).At("scheduler").
			Hint("Use one of %s, or the absolute path of a file that describes another.", strings.Join(systems, ", "))
	}
	switch {
	case c.Cluster != "" && c.Scheduler != "slurm":
		return hpcsera.Errorf(hpcsera.InvalidField, "only Slurm's commands can be told a cluster, and scheduler is %s.", c.Scheduler).At("cluster").
			Hint("Write scheduler: slurm, or remove cluster.")
	case c.Cluster != "" && (c.Cluster == "all" || !clusterName.MatchString(c.Cluster)):
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the name of one cluster.", c.Cluster).At("cluster").
			Hint("Use one of those that this prints: sacctmgr list clusters format=cluster")
	}
	switch c.Trust.Code {
	case codeSigned:
	case codeServer:
		if host := u.Hostname(); host != "localhost" && !net.ParseIP(host).IsLoopback() {
			return hpcsera.Errorf(hpcsera.InvalidField, "code runs at the server's word only where the server is on this host (loopback), and %s is not.", host).At("trust.code").
				Hint("Remove trust.code, and sign: hpcsera approve.")
		}
	default:
		return hpcsera.Errorf(hpcsera.InvalidField, "%q does not say whose word counts.", c.Trust.Code).At("trust.code").Hint("Use signed or server.")
	}
	if c.PerMinute != 0 && c.PerMinute < 6 {
		return hpcsera.Errorf(hpcsera.InvalidField, "with %d commands in a minute no job would get anywhere.", c.PerMinute).At("commands_per_minute").
			Hint("Write 6 or more.")
	}
	if c.MaxJobs < 1 {
		return hpcsera.Errorf(hpcsera.InvalidField, "%d jobs are none.", c.MaxJobs).At("max_jobs")
	}
	if err := c.checkManners(); err != nil {
		return err
	}
	paths := map[string]string{"modules_init": c.ModulesInit, "spack_init": c.SpackInit, "hooks.before": c.Hooks.Before, "hooks.after": c.Hooks.After}
	for name, path := range c.Commands {
		paths["commands."+name] = cmp.Or(path, "nothing")
	}
	for field, path := range paths {
		if path != "" && !filepath.IsAbs(path) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is not an absolute path.", path).At(field)
		}
	}
	return c.Container.Check()
}

// software is what these settings provide for programs.
func (c Config) software() *hpcsera.Software {
	return &hpcsera.Software{Containers: c.Container.Runtime != "", Spack: c.SpackInit != "", MPI: c.Launcher != ""}
}

// Once returns the configuration of a run from cron.
func (c Config) Once() Config {
	c.once, c.pollWait = true, 0
	return c
}
