package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// table is what people see: a head, rows, and words below.
type table struct {
	head  []string
	rows  [][]string
	below string
}

func (t table) write(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tab, strings.Join(t.head, "\t"))
	for _, row := range t.rows {
		fmt.Fprintln(tab, strings.Join(row, "\t"))
	}
	if err := tab.Flush(); err != nil || t.below == "" {
		return err
	}
	_, err := fmt.Fprint(w, "\n"+t.below)
	return err
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// each makes a table of many out of how one is shown.
func each[T any](one func(T) table) func([]T) table {
	return func(list []T) table {
		var zero T
		t := table{head: one(zero).head}
		for _, v := range list {
			t.rows = append(t.rows, one(v).rows...)
		}
		return t
	}
}

func showUser(u hpcsera.User) table {
	kind := "user"
	if u.Operator {
		kind = "operator"
	}
	return table{head: []string{"NAME", "KIND", "STATE", "CREATED"}, rows: [][]string{{u.Name, kind, state(u.Disabled), day(u.Created)}}}
}

func showProject(p hpcsera.Project) table {
	var members []string
	for _, user := range slices.Sorted(maps.Keys(p.Members)) {
		members = append(members, user+"="+string(p.Members[user]))
	}
	return table{head: []string{"NAME", "CREATED", "MEMBERS"}, rows: [][]string{{p.Name, day(p.Created), strings.Join(members, " ")}}}
}

func showClient(c hpcsera.Client) table {
	return table{head: []string{"NAME", "STATE", "CREATED"}, rows: [][]string{{c.Name, state(c.Disabled), day(c.Created)}}}
}

func showRegistration(m access.RegistrationMade) table {
	r := m.Registration
	ciba := string(r.CIBA)
	if ciba == "" {
		ciba = "no"
	}
	shown := table{head: []string{"NAME", "METHOD", "CIBA", "NOTIFIED"}, rows: [][]string{{r.Client, string(r.Method), ciba, r.Notify}}}
	if m.Secret != "" {
		shown.below = "The secret, shown this once:\n\n  " + m.Secret + "\n"
	}
	return shown
}

func showSite(s hpcsera.Site) table {
	return table{head: []string{"NAME", "STATE", "CREATED"}, rows: [][]string{{s.Name, map[bool]string{true: "drained", false: "open"}[s.Disabled], day(s.Created)}}}
}

func showAgent(a hpcsera.Agent) table {
	seen, host := "never", "-"
	if a.LastSeen != nil {
		seen = a.LastSeen.UTC().Format(time.RFC3339)
	}
	if a.Facts != nil {
		host = a.Facts.Host
	}
	return table{
		head: []string{"ID", "USER", "SITE", "PROJECTS", "HOST", "LAST SEEN", "ENDS"},
		rows: [][]string{{a.ID, a.User, a.Site, strings.Join(a.Projects, ","), host, seen, day(a.Expires)}},
	}
}

func showToken(t hpcsera.Token) table {
	ends, site := day(t.Expires), t.Site
	if t.Revoked != nil {
		ends = "revoked"
	}
	if site == "" {
		site = "all"
	}
	return table{
		head: []string{"ID", "USER", "PROJECT", "CLIENT", "SITE", "SCOPE", "ENDS", "ROLES"},
		rows: [][]string{{t.ID, t.User, t.Project, t.Client, site, string(t.Scope), ends, t.Roles.String()}},
	}
}

// showCount tells how many were revoked.
func showCount(n int) table {
	return table{head: []string{"REVOKED"}, rows: [][]string{{strconv.Itoa(n)}}}
}

func showTokenMade(m access.TokenMade) table {
	t := showToken(m.Token)
	t.below = "The token, shown this once:\n\n  " + m.Secret + "\n"
	return t
}

func showAgentMade(m access.AgentMade) table {
	t := showAgent(m.Agent)
	t.below = "The credential, shown this once; it works only with the agent's key:\n\n  " + m.Credential + "\n"
	return t
}

func state(disabled bool) string {
	if disabled {
		return "disabled"
	}
	return "enabled"
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
