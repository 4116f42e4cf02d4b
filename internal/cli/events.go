package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var after int64
	cmd := &cobra.Command{
		Use:   "events [JOB]",
		Short: "Show what happened to a job, or to all",
		Long: `Show what happened to a job, or to all jobs within the token's reach.
With --follow and -o json there is one event a line, as it comes.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with events as they come")
	cmd.Flags().Int64Var(&after, "after", 0, "only events with a higher number")
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		patience := shortPatience
		if follow {
			patience = watchPatience
		}
		s, err := a.connect(cmd.Context(), patience)
		if err != nil {
			return err
		}
		job := first(args...)
		if follow {
			if job == "" && !cmd.Flags().Changed("after") {
				after = -1 // what happens next
			}
			return s.StreamEvents(cmd.Context(), job, after, func(e hpcsera.Event) error { return a.showEvent(*form, e) })
		}
		list := hpcsera.EventList{Events: []hpcsera.Event{}, Next: after}
		for {
			page, err := s.Events(cmd.Context(), job, list.Next, 1000)
			if err != nil {
				return err
			}
			list.Events = append(list.Events, page.Events...)
			if len(page.Events) == 0 || page.Next <= list.Next {
				break
			}
			list.Next = page.Next
		}
		return a.show(*form, list, func(w io.Writer) {
			rows := [][]string{{"EVENT", "AT", "JOB", "STATE", ""}}
			for _, e := range list.Events {
				rows = append(rows, eventRow(e))
			}
			columns(w, rows)
		})
	}
	return cmd
}

// showEvent shows one event of a stream.
func (a *app) showEvent(form string, e hpcsera.Event) error {
	if form != "json" {
		return a.show(form, []hpcsera.Event{e}, func(w io.Writer) { fmt.Fprintln(w, strings.Join(eventRow(e), "  ")) })
	}
	return a.showLine(e)
}

func eventRow(e hpcsera.Event) []string {
	why := words(e.Reason)
	if e.Message != "" {
		why = strings.TrimSpace(why + " " + clean(e.Message))
	}
	if e.Type == "job.state" && e.Desired == hpcsera.DesiredHold && began(e.State) {
		why = strings.TrimSpace(why + " " + heldTooLate)
	}
	if e.Type != "job.state" {
		why = strings.TrimSpace("[" + clean(strings.TrimPrefix(e.Type, "job.")) + " " + clean(string(e.Desired)) + "] " + why)
	}
	return []string{fmt.Sprint(e.Seq), short(&e.At), clean(e.Job), clean(string(e.State)), why}
}
