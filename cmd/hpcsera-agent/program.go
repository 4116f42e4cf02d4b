package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// program is one invocation.
type program struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
	file           string // --config
	output         string // --output

	renewal renewal // of the agent that was wired
}

func (p *program) execute(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(p.stderr, "hpcsera-agent:", err)
		if errors.As(err, new(usage.Error)) {
			return 2
		}
		return 1
	}
	return 0
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hpcsera-agent",
		Short: "Runs your HPCSerA jobs on this HPC system, with your own rights",
		Long: `hpcsera-agent pulls jobs over outgoing HTTPS, checks that you signed their code,
drives the batch system of this site, and reports back. It opens no port.

First steps:
  1. hpcsera-agent enroll            asks you, in the browser, to let it in. The server's
                                     page shows with which --server, --user, --site, --project
  2. hpcsera-agent trust add KEY.pub says whose signatures count
  3. hpcsera-agent doctor            looks whether all is well
  4. hpcsera-agent run               in tmux or screen; or for good:
     hpcsera-agent install           by systemd or cron`,
		SilenceUsage: true, SilenceErrors: true, Version: version,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage.Error{Err: fmt.Errorf("%w. See: %s --help", err, c.CommandPath())}
	})
	standard := p.getenv("HPCSERA_AGENT_CONFIG")
	if standard == "" {
		standard = filepath.Join(p.getenv("HOME"), ".hpcsera", "agent.yaml")
	}
	root.PersistentFlags().StringVar(&p.file, "config", standard, "configuration file")
	root.PersistentFlags().StringVarP(&p.output, "output", "o", "table", "of status and doctor: table or json")
	root.AddCommand(p.runCommand(), p.onceCommand(), p.statusCommand(), p.enrollCommand(), p.doctorCommand(), p.installCommand(), p.uninstallCommand(), p.trustCommand())
	strict(root)
	return root
}

// strict makes usage errors of a word that is no command, and of a wrong number
// of them, in c and all below it.
func strict(c *cobra.Command) {
	for _, sub := range c.Commands() {
		strict(sub)
	}
	if !c.HasSubCommands() {
		c.Args = usage.Line(c.Args)
		return
	}
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		return usage.Unknown(c, args[0])
	}
}

func (p *program) getenv(name string) string {
	for i := len(p.environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(p.environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

func (p *program) config() (agent.Config, error) {
	if err := agent.CheckEnvironment(p.environ); err != nil {
		return agent.Config{}, err
	}
	return agent.LoadConfig(policy.SystemFiles(), p.file, p.getenv)
}

// checked returns a configuration that an agent can run with. Where there is
// no file yet, that is what is wrong, and not each setting that it lacks.
func (p *program) checked() (agent.Config, error) {
	c, err := p.config()
	if err != nil {
		return c, err
	}
	return c, p.explained(c.Check())
}

// explained says of settings that are missing because there is no file how it
// comes to be.
func (p *program) explained(err error) error {
	if _, missing := os.Stat(p.file); err == nil || !errors.Is(missing, fs.ErrNotExist) {
		return err
	}
	return hpcsera.Errorf(hpcsera.InvalidField, "there is no configuration %s.", p.file).
		Hint("This writes it: hpcsera-agent enroll --server https://… --user YOU --site SITE --project PROJECT. The server's page shows the line.")
}

func (p *program) runCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "Serve until stopped (Ctrl-C, SIGTERM)", Args: cobra.NoArgs,
		Long: `run serves until it is stopped. Jobs in the batch system go on without it, and the
next start picks up where this one ended, on this host or another one that sees
the same files. It outlives the terminal it was started in. On two hosts at once
the later one waits until the first is gone.`,
		Example: "  hpcsera-agent run\n  tmux new -d hpcsera-agent run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			defer outlive()()
			for {
				err := p.serve(cmd.Context())
				if !errors.Is(err, agent.ErrRestored) {
					return err
				}
			}
		},
	}
}

// serve runs one instance of the agent until ctx ends.
func (p *program) serve(ctx context.Context) error {
	a, err := p.agent(false)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var beside sync.WaitGroup
	beside.Go(func() { p.renewal.run(ctx) })
	err = a.Run(ctx)
	stop()
	beside.Wait()
	return err
}

func (p *program) onceCommand() *cobra.Command {
	return &cobra.Command{
		Use: "once", Short: "Do what there is to do, then end (for cron)", Args: cobra.NoArgs,
		Long: `once fetches orders, acts on them, asks the batch system, reports, and ends. Runs may
overlap: the later one sees the earlier one and ends at once with status 0.
Between two runs nothing happens: orders, cancels included, wait for the next.
hpcsera-agent install --cron writes such a line into your crontab.`,
		Example: "  */2 * * * * $HOME/bin/hpcsera-agent once",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Minute)
			defer cancel()
			a, err := p.agent(true)
			if err != nil {
				return err
			}
			p.renewal.now(ctx)
			return a.Once(ctx)
		},
	}
}

// agent wires one instance.
func (p *program) agent(once bool) (*agent.Agent, error) {
	c, err := p.checked()
	if err != nil {
		return nil, err
	}
	log, err := p.logger(c)
	if err != nil {
		return nil, err
	}
	if once {
		c = c.Once()
	}
	shown, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if err := c.Behave(); err != nil {
		log.Warn("not as nice as it should be", "error", err)
	}
	log.Info("starting", "version", version, "config", string(shown))
	key, err := p.key(c)
	if err != nil {
		return nil, err
	}
	credential, err := readCredential(c)
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(c)
	if err != nil {
		return nil, err
	}
	api, err := client.NewAgent(c.Server, credential, key, transport)
	if err != nil {
		return nil, err
	}
	p.renewal = renewal{config: c, key: key, transport: transport, api: api, log: log}
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	batch, login, err := p.systems(c, binary, log)
	if err != nil {
		return nil, err
	}
	c.Launcher = launcher(c, batch)
	return agent.New(agent.Deps{Config: c, Version: version, API: api, Key: key, Batch: batch, Login: login, Log: log, Binary: binary, Account: account()})
}

// account returns the user's name on this system. id asks what a login asks,
// directory services included; a static program of Go's reads /etc/passwd only.
func account() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, id := range []string{"/usr/bin/id", "/bin/id"} {
		if name, err := exec.CommandContext(ctx, id, "-un").Output(); err == nil {
			return strings.TrimSpace(string(name))
		}
	}
	return strconv.Itoa(os.Getuid())
}

func (p *program) key(c agent.Config) (*client.Key, error) {
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return nil, err
	}
	return client.LoadKey(filepath.Join(c.StateDir, "key.pem"))
}

func credentialPath(c agent.Config) string { return filepath.Join(c.StateDir, "credential") }

func readCredential(c agent.Config) (string, error) {
	b, err := os.ReadFile(credentialPath(c))
	if err != nil {
		return "", fmt.Errorf("this agent is not enrolled (%w). Type `hpcsera-agent enroll`", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (p *program) logger(c agent.Config) (*slog.Logger, error) {
	var level slog.Level
	if c.LogLevel != "" {
		if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a level.", c.LogLevel).At("log_level").Hint("Use debug, info, warn or error.")
		}
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Log == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, options)), nil
	}
	return slog.New(slog.NewTextHandler(p.stderr, options)), nil
}
