package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "See your agents and end them (after hpcsera login)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.agentListCommand(), a.agentRemoveCommand())
	return cmd
}

func (a *app) agentListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List your agents", Args: cobra.NoArgs}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.inPerson()
		if err != nil {
			return err
		}
		list, err := s.Agents(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(*form, hpcsera.AgentList{Agents: list}, func(w io.Writer) { writeAgents(w, list, time.Now()) })
	}
	return cmd
}

func writeAgents(w io.Writer, list []*hpcsera.Agent, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "You have no agents. On the login node of a site, hpcsera-agent enroll makes one.")
		return
	}
	rows := [][]string{{"AGENT", "SITE", "HOST", "PROJECTS", "SEEN", "ENDS", "KEY"}}
	for _, g := range list {
		seen, host := "never", ""
		if g.LastSeen != nil {
			seen = ago(*g.LastSeen, now)
		}
		if g.Facts != nil {
			host = clean(g.Facts.Host)
		}
		rows = append(rows, []string{clean(g.ID), clean(g.Site), host, clean(strings.Join(g.Projects, ",")), seen, short(&g.Expires), clean(g.Thumbprint)})
	}
	columns(w, rows)
}

func (a *app) agentRemoveCommand() *cobra.Command {
	var abandon bool
	cmd := &cobra.Command{
		Use: "remove AGENT", Aliases: []string{"rm"}, Short: "End an agent's enrolment, from the next request on", Args: cobra.ExactArgs(1),
		Long: `End an enrolment. An agent with unfinished jobs is not removed, unless they are
given up: they end as failed then, whatever they do on the site.`,
		Example: "  hpcsera agent remove ag_8f2k4m6p8r0t2v4x6z8a",
	}
	cmd.Flags().BoolVar(&abandon, "abandon", false, "give up its unfinished jobs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.inPerson()
		if err != nil {
			return err
		}
		gone, err := s.RemoveAgent(cmd.Context(), args[0], abandon)
		if err == nil {
			a.screen.say("The agent %s at %s is removed.", clean(gone.ID), clean(gone.Site))
		}
		return err
	}
	return cmd
}
