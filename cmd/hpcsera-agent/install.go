package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/agent/service"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func (p *program) installCommand() *cobra.Command {
	var systemd, cron, dry bool
	cmd := &cobra.Command{
		Use: "install", Short: "Have this host start the agent: systemd or cron", Args: cobra.NoArgs,
		Long: `install has the agent started by this host, and started again when it ends: as a
unit of your own systemd where that answers (~/.config/systemd/user), else by a line
in your crontab, which runs ` + "`once`" + ` every five minutes. It carries over what your shell
says of the batch system, such as SLURM_CONF. Nothing else of yours is changed, and
it can be repeated: after the program or agent.yaml has moved, for instance.

On several login nodes with one home, install it on each that may go on when another
is down: one agent works at a time.`,
		Example: "  hpcsera-agent install --dry-run\n  hpcsera-agent install\n  hpcsera-agent install --cron",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if systemd && cron {
				return usage.Error{Err: errors.New("--systemd and --cron exclude each other. See: hpcsera-agent install --help")}
			}
			c, err := p.checked()
			if err != nil {
				return err
			}
			if _, err := readCredential(c); err != nil && !dry {
				return err
			}
			binary, err := os.Executable()
			if err != nil {
				return err
			}
			file, err := filepath.Abs(p.file)
			if err != nil {
				return err
			}
			kind := service.Auto
			switch {
			case systemd:
				kind = service.Systemd
			case cron:
				kind = service.Cron
			}
			return p.host().Install(cmd.Context(), kind, service.Program{Binary: binary, Config: file, Environment: p.carried(), Log: filepath.Join(c.StateDir, "once.log")}, dry)
		},
	}
	cmd.Flags().BoolVar(&systemd, "systemd", false, "as a unit of your systemd, or not at all")
	cmd.Flags().BoolVar(&cron, "cron", false, "by a line in your crontab")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only print what would be done")
	return cmd
}

func (p *program) uninstallCommand() *cobra.Command {
	return &cobra.Command{
		Use: "uninstall", Short: "Take back what install did", Args: cobra.NoArgs,
		Long: `uninstall stops the agent that systemd runs and removes its unit, and removes the
agent's line from your crontab. Jobs in the batch system go on. Key, journal and
settings stay.`,
		Example: "  hpcsera-agent uninstall",
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.host().Uninstall(cmd.Context()) },
	}
}

func (p *program) host() service.Host {
	config := p.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		config = filepath.Join(p.getenv("HOME"), ".config")
	}
	return service.Host{
		Path: scheduler.DefaultPath, Environ: p.environ, Units: filepath.Join(config, "systemd", "user"), Account: account(),
		Say: func(format string, args ...any) { fmt.Fprintf(p.stdout, format+"\n", args...) },
	}
}

// carried are the variables that a login shell gives the agent and neither
// systemd nor cron would. A proxy's password is not among them: a command line
// can be read by others.
func (p *program) carried() []string {
	var pairs []string
	for _, pair := range p.environ {
		name, value, _ := strings.Cut(pair, "=")
		ours := strings.HasPrefix(name, "HPCSERA_AGENT_") && name != "HPCSERA_AGENT_CONFIG"
		proxy := slices.Contains([]string{"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"}, name)
		if proxy && strings.Contains(value, "@") {
			fmt.Fprintf(p.stderr, "%s has a password in it and is not carried over.\n", name)
			continue
		}
		if ours || proxy || slices.Contains(scheduler.Variables, name) {
			pairs = append(pairs, pair)
		}
	}
	slices.Sort(pairs)
	return slices.Compact(pairs)
}
