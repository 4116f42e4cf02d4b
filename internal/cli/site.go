package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) siteCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "site", Short: "Show the sites and your agents there", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.siteListCommand(), a.siteShowCommand())
	return cmd
}

func (a *app) siteListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the sites", Args: cobra.NoArgs}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		sites, err := s.Sites(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(*form, hpcsera.SiteList{Sites: sites}, func(w io.Writer) {
			rows := [][]string{{"SITE", "SYSTEM", "YOUR AGENT", ""}}
			for _, site := range sites {
				system, agent := siteSummary(site, time.Now())
				note := ""
				if site.Disabled {
					note = "drained by the operator: nothing new starts there"
				}
				rows = append(rows, []string{clean(site.Name), system, agent, note})
			}
			columns(w, rows)
		})
	}
	return cmd
}

// siteSummary says in a few words what a site runs and how its agent is.
func siteSummary(site hpcsera.Site, now time.Time) (system, agent string) {
	agent = "none"
	for _, g := range site.Agents {
		if g.Facts != nil {
			system = clean(g.Facts.System)
		}
		agent = "never seen"
		if g.LastSeen != nil {
			agent = "seen " + ago(*g.LastSeen, now)
		}
	}
	return system, agent
}

func (a *app) siteShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show SITE", Short: "Show a site, its queues and your agents there", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeSites}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		site, err := s.Site(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		return a.show(*form, site, func(w io.Writer) { writeSite(w, site, time.Now()) })
	}
	return cmd
}

func writeSite(w io.Writer, site hpcsera.Site, now time.Time) {
	state := ""
	if site.Disabled {
		state = "drained by the operator: nothing new starts there"
	}
	facts(w, "site", clean(site.Name), "state", state)
	if len(site.Agents) == 0 {
		fmt.Fprintln(w, "You have no agent here: only your own agent can take your jobs.")
	}
	for _, g := range site.Agents {
		seen := "never"
		if g.LastSeen != nil {
			seen = ago(*g.LastSeen, now)
		}
		host, system := "", ""
		var rows [][]string
		if f := g.Facts; f != nil {
			host = clean(f.Host) + ", version " + clean(f.Version)
			if f.FromCron {
				host += ", from cron"
			}
			system = strings.TrimSpace(clean(f.System) + " " + clean(f.Cluster))
			for _, q := range f.Queues {
				rows = append(rows, queueRow(q))
			}
		}
		fmt.Fprintln(w)
		facts(w, "agent", clean(g.ID), "thumbprint", clean(g.Thumbprint), "host", host, "seen", seen, "ends", short(&g.Expires),
			"projects", clean(strings.Join(g.Projects, ", ")), "system", system)
		if len(rows) > 0 {
			fmt.Fprintln(w)
			columns(w, append([][]string{{"QUEUE", "STATE", "NODES", "LONGEST"}}, rows...))
		}
	}
}

func queueRow(q hpcsera.Queue) []string {
	name, nodes, longest := clean(q.Name), "", ""
	if q.Default {
		name += " (default)"
	}
	if q.Nodes > 0 {
		nodes = fmt.Sprint(q.Nodes)
	}
	if q.MaxDuration > 0 {
		longest = q.MaxDuration.String()
	}
	return []string{name, clean(q.State), nodes, longest}
}
