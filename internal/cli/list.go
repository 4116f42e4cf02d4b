package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

func (a *app) listCommand() *cobra.Command {
	var q client.JobQuery
	var state, since string
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List jobs, newest first",
		Args:    cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&state, "state", "", "only jobs in this state")
	f.StringVar(&q.Site, "site", "", "only jobs at this site")
	f.StringVar(&q.Name, "name", "", "only jobs of this name")
	f.StringVar(&q.Label, "label", "", "only jobs with this label, KEY=VALUE")
	f.StringVar(&q.Annotation, "annotation", "", "only jobs with this annotation, KEY=VALUE")
	f.StringVar(&since, "since", "", "only jobs created since then: a duration such as 2h, or a time such as 2026-11-22T08:00:00Z")
	f.IntVarP(&limit, "limit", "n", 50, "how many at most; 0 is all")
	var names []string
	for _, s := range hpcsera.States {
		names = append(names, string(s))
	}
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that does not exist
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if q.State = hpcsera.State(state); state != "" && !q.State.Valid() {
			return usageError{fmt.Errorf("%q is no state; the states are %s", state, strings.Join(names, ", "))}
		}
		var err error
		if q.After, err = moment(since, time.Now()); err != nil {
			return usageError{err}
		}
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		list := hpcsera.JobList{Jobs: []hpcsera.Job{}}
		for {
			q.Limit = 1000
			if limit > 0 {
				q.Limit = min(limit-len(list.Jobs), 1000)
			}
			page, err := s.Jobs(cmd.Context(), q)
			if err != nil {
				return err
			}
			list.Jobs, list.Next = append(list.Jobs, page.Jobs...), page.Next
			if page.Next == "" || limit > 0 && len(list.Jobs) >= limit {
				break
			}
			q.Cursor = page.Next
		}
		err = a.show(*form, list, func(w io.Writer) { writeJobs(w, list.Jobs) })
		if err == nil && list.Next != "" && *form == "table" {
			a.screen.say("There are more: hpcsera list -n 0 shows all.")
		}
		return err
	}
	return cmd
}

// writeJobs shows jobs as a table.
func writeJobs(w io.Writer, jobs []hpcsera.Job) {
	rows := [][]string{{"JOB", "NAME", "SITE", "STATE", "CREATED", ""}}
	for _, j := range jobs {
		rows = append(rows, []string{clean(j.ID), cell(j.Name, 24), cell(j.Site, 16), clean(string(j.State)), short(&j.Times.Created), cell(situation(j), 60)})
	}
	columns(w, rows)
}

// moment reads a point in time: "" is none, a duration is that long ago.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := hpcsera.ParseDuration(text); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	for _, form := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a duration such as 2h nor a time such as 2026-11-22T08:00:00Z", text)
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
