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
			rows := [][]string{{"SITE", "SYSTEM", "NODES", "YOUR AGENT", ""}}
			for _, site := range sites {
				system, nodes, agent := siteSummary(site, time.Now())
				note := ""
				if site.Disabled {
					note = "drained by the operator: nothing new starts there"
				}
				rows = append(rows, []string{clean(site.Name), system, nodes, agent, note})
			}
			columns(w, rows)
		})
	}
	return cmd
}

// siteSummary says in a few words what a site runs and how its agent is.
func siteSummary(site hpcsera.Site, now time.Time) (system, nodes, agent string) {
	agent = "none"
	for _, g := range site.Agents {
		if g.Facts != nil {
			system = systemText(hpcsera.Facts{System: g.Facts.System, SystemVersion: g.Facts.SystemVersion})
			nodes = nodesText(g.Facts.Nodes)
		}
		agent = "never seen"
		if g.LastSeen != nil {
			agent = "seen " + ago(*g.LastSeen, now)
		}
	}
	return system, nodes, agent
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
		host := ""
		var about []string
		if f := g.Facts; f != nil {
			host = clean(f.Host) + ", version " + clean(f.Version)
			if f.FromCron {
				host += ", from cron"
			}
			about = offerText(*f)
		}
		fmt.Fprintln(w)
		facts(w, append([]string{"agent", clean(g.ID), "thumbprint", clean(g.Thumbprint), "host", host, "seen", seen, "ends", short(&g.Expires),
			"projects", clean(strings.Join(g.Projects, ", "))}, about...)...)
		if g.Facts != nil && len(g.Facts.Queues) > 0 {
			fmt.Fprintln(w)
			columns(w, queueTable(g.Facts.Queues))
		}
	}
}

// offerText is what a site offers as a whole, as labels and texts.
func offerText(f hpcsera.Facts) []string {
	load, array := "", ""
	if f.Jobs != nil {
		load = fmt.Sprintf("%d running, %d queued", f.Jobs.Running, f.Jobs.Queued)
	}
	if f.LargestArray > 0 {
		array = plural(f.LargestArray, "job")
	}
	return []string{"system", systemText(f), "nodes", nodesText(f.Nodes), "jobs", load, "largest array", array, "software", offeredText(f.Software)}
}

// offeredText names what the agent provides for programs.
func offeredText(s *hpcsera.Software) string {
	if s == nil {
		return ""
	}
	var list []string
	for _, c := range []struct {
		has  bool
		name string
	}{{s.Containers, "containers"}, {s.Spack, "Spack"}, {s.MPI, "MPI programs"}} {
		if c.has {
			list = append(list, c.name)
		}
	}
	return strings.Join(list, ", ")
}

func systemText(f hpcsera.Facts) string {
	text := strings.TrimSpace(clean(f.System) + " " + clean(f.SystemVersion))
	if f.Cluster != "" {
		text += ", cluster " + clean(f.Cluster)
	}
	return text
}

func nodesText(n *hpcsera.Nodes) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("%d, %d up, %d idle", n.Total, n.Up, n.Idle)
}

// queueTable has a row for each queue. A column of which nothing is told is
// left out.
func queueTable(queues []hpcsera.Queue) [][]string {
	rows := [][]string{{"QUEUE", "STATE", "NODES", "IDLE", "NODES/JOB", "CORES/NODE", "MEMORY/NODE", "GPUS/NODE", "DEFAULT DURATION", "LONGEST"}}
	for _, q := range queues {
		rows = append(rows, queueRow(q))
	}
	kept := make([][]string, len(rows))
	for c := range rows[0] {
		told := c < 2
		for _, row := range rows[1:] {
			told = told || row[c] != ""
		}
		for i, row := range rows {
			if told {
				kept[i] = append(kept[i], row[c])
			}
		}
	}
	return kept
}

func queueRow(q hpcsera.Queue) []string {
	name, state, idle, memory := clean(q.Name), clean(q.State), "", ""
	if q.Default {
		name += " (default)"
	}
	if q.Closed {
		state += " (closed)"
	}
	if q.Restricted {
		state += " (restricted)"
	}
	if q.Idle != nil {
		idle = fmt.Sprint(*q.Idle)
	}
	if q.MemoryPerNode > 0 {
		memory = size(int64(q.MemoryPerNode))
	}
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	duration := func(d hpcsera.Duration) string {
		if d == 0 {
			return ""
		}
		return d.String()
	}
	return []string{name, strings.TrimSpace(state), number(q.Nodes), idle, number(q.MaxNodes), number(q.CoresPerNode), memory, number(q.GPUsPerNode), duration(q.DefaultDuration), duration(q.MaxDuration)}
}
