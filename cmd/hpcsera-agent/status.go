package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func (p *program) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Print the key's thumbprint and what the agent is doing", Args: cobra.NoArgs,
		Long: `status prints who this agent is, whether it runs, what is in trouble, and what it
takes of this login node and of the batch system. With -o json, last is what the
agent wrote of itself most lately, or null.`,
		Example: "  hpcsera-agent status\n  hpcsera-agent status -o json",
		RunE: func(*cobra.Command, []string) error {
			c, err := p.config()
			if err != nil {
				return err
			}
			key, err := p.key(c)
			if err != nil {
				return err
			}
			status, alive, known, err := agent.ReadStatus(c.StateDir)
			if err != nil {
				return err
			}
			if p.output == "json" {
				said := map[string]any{"thumbprint": key.Thumbprint(), "server": c.Server, "user": c.User, "site": c.Site, "alive": alive, "last": nil}
				if known {
					said["last"] = status
				}
				return json.NewEncoder(p.stdout).Encode(said)
			}
			fmt.Fprintf(p.stdout, "thumbprint  %s\n", key.Thumbprint())
			for _, setting := range [][2]string{{"server", c.Server}, {"user", c.User}, {"site", c.Site}} {
				fmt.Fprintf(p.stdout, "%-10s  %s\n", setting[0], cmp.Or(setting[1], "not set in "+p.file))
			}
			p.printStatus(status, alive, known)
			return nil
		},
	}
}

func (p *program) printStatus(s agent.Status, alive, known bool) {
	host, _ := os.Hostname()
	switch {
	case !known:
		fmt.Fprintln(p.stdout, "state       never ran")
		return
	case alive:
		fmt.Fprintf(p.stdout, "state       running as process %d\n", s.PID)
	case !s.Ended.IsZero():
		fmt.Fprintf(p.stdout, "state       stopped on %s, %s\n", s.Host, s.Ended.Local().Format(time.DateTime))
	case s.Host != host && time.Since(s.At) < time.Minute:
		fmt.Fprintf(p.stdout, "state       running on %s as process %d\n", s.Host, s.PID)
	default:
		fmt.Fprintf(p.stdout, "state       not running; last seen on %s, %s\n", s.Host, s.At.Local().Format(time.DateTime))
	}
	fmt.Fprintf(p.stdout, "jobs        %d unfinished, %d reports to be delivered\n", s.Jobs, s.Unsent)
	if c := s.Commands; c != nil {
		total := c.Total().Runs
		fmt.Fprintf(p.stdout, "commands    %d of the batch system since the start: %d submits, %d queries", total, c.Submit.Runs, c.Queue.Runs+c.History.Runs)
		if c.Jobs >= 100 { // of fewer it says nothing
			fmt.Fprintf(p.stdout, "; for %d jobs, which makes %d per 1000", c.Jobs, (1000*total+c.Jobs-1)/c.Jobs)
		}
		fmt.Fprintln(p.stdout)
	}
	p.printUse(s.Use, s.Commands)
	for _, t := range []struct{ with, what string }{{"server", s.Server}, {"scheduler", s.Batch}, {"journal", s.Journal}, {"spool", s.Spool}} {
		if t.what != "" {
			fmt.Fprintf(p.stdout, "TROUBLE     %s: %s\n", t.with, t.what)
		}
	}
}

// printUse tells what the agent takes of the login node.
func (p *program) printUse(u agent.Use, c *scheduler.Stats) {
	if u.Cores == 0 {
		return // an agent that never got so far
	}
	fmt.Fprintf(p.stdout, "takes       nice %d, CPU %v on %d cores", u.Nice, u.CPU.Round(time.Millisecond), u.Cores)
	if u.CPULimit > 0 {
		fmt.Fprintf(p.stdout, " (the host ends it after %v)", u.CPULimit)
	}
	fmt.Fprintf(p.stdout, ", memory %d of %d MiB, %d of %d files\n", u.Memory>>20, u.MemoryGoal>>20, u.Files, u.FilesLimit)
	fmt.Fprintf(p.stdout, "children    %d of %d login steps", u.LoginSteps, u.LoginLimit)
	if c != nil {
		fmt.Fprintf(p.stdout, ", %d of %d commands at once", c.Running, c.AtOnce)
	}
	fmt.Fprintf(p.stdout, "; CPU of commands %v\n", u.Commands.Round(time.Millisecond))
}
