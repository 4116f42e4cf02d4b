package custom

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// names are the placeholders and conditions of a command.
func (c command) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, a := range c {
			for _, g := range a {
				if g.field != "" && !yield(g.field) {
					return
				}
				for _, t := range g.args {
					for _, p := range t {
						if p.name != "" && !yield(p.name) {
							return
						}
					}
				}
			}
		}
	}
}

// The placeholders of each command; what stands for what.
var (
	everywhere = values{"user": "", "folder": ""}
	ofJobs     = values{"ids": []string(nil), "tags": []string(nil), "user": "", "folder": ""}
	ofTags     = values{"tags": []string(nil), "user": "", "folder": ""}
)

// optional are the job's values that may be missing.
var optional = append([]string{"comment"}, wanted...)

// offence is an error at a key.
func offence(at, format string, args ...any) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(at)
}

var systemName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

// check refuses a file that could not be driven.
func (f *file) check() error {
	if !systemName.MatchString(f.System) {
		return offence("system", "%q is not a name for a batch system.", f.System).Hint("Use small letters, digits, - and _, such as htcondor.")
	}
	if f.Product == "" {
		f.Product = scheduler.Product(f.System)
	}
	if len(f.Environment.ID) == 0 {
		return offence("environment.id", "a job must see its own id.").Hint("Name the variable that has it; let the submit command set one if there is none.")
	}
	for i, kv := range f.Variables {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			return offence(fmt.Sprintf("variables[%d]", i), "%q sets no variable.", kv).Hint("Write NAME=value.")
		}
	}
	for _, step := range []func() error{f.checkSubmit, f.checkListings, f.checkActs, f.checkProbe, f.checkStates} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) checkSubmit() error {
	job := asked(scheduler.Submission{})
	maps.Copy(job, everywhere)
	job["attributes"] = []string(nil)
	if err := f.Submit.Command.check("submit.command", job); err != nil {
		return err
	}
	names := slices.Collect(f.Submit.Command.names())
	for _, name := range []string{"tag", "script", "output", "directory"} {
		if !slices.Contains(names, name) {
			return offence("submit.command", "it does not pass {%s} on.", name).Hint("Every job has one, and is lost without it.")
		}
	}
	if len(f.Attributes) > 0 && !slices.Contains(names, "attributes") {
		return offence("submit.command", "it does not pass {attributes} on, and there are some.").Hint("Write {attributes} as an argument of its own.")
	}
	if f.Submit.ID.Regexp == nil || f.Submit.ID.SubexpIndex("id") < 0 {
		return offence("submit.id", "it says not where the job's id stands.").Hint(`Write a regular expression with a group id, such as ^(?P<id>\d+)$`)
	}
	for name := range f.Assumed {
		if _, ok := job[name].(int); !ok || !slices.Contains(wanted, name) {
			return offence("assumed."+name, "no job asks for such a number.").Hint("Use a field such as node_count or processes_per_node.")
		}
	}
	for name := range f.Allowed {
		if _, ok := job[name].(string); !ok {
			return offence("allowed."+name, "that is no text of a job.")
		}
	}
	for name, a := range f.Attributes {
		c := command{argument{{args: a.Arguments}}}
		if err := c.checkArguments("attributes."+name+".arguments", values{"value": ""}); err != nil {
			return err
		}
	}
	return nil
}

// check refuses what is no command, and arguments that cannot be built.
func (c command) check(at string, known values) error {
	if len(c) == 0 || len(c[0]) != 1 || c[0][0].field != "" || len(c[0][0].args[0]) != 1 || c[0][0].args[0][0].name != "" {
		return offence(at, "there is no command.").Hint("Write a list of arguments, first the command's name without placeholders.")
	}
	return c.checkArguments(at, known)
}

// checkArguments refuses unknown placeholders and formats, and values that can be
// missing where an argument is not.
func (c command) checkArguments(at string, known values) error {
	for i, a := range c {
		for _, g := range a {
			where := fmt.Sprintf("%s[%d]", at, i)
			if _, ok := known[g.field]; g.field != "" && !ok {
				return offence(where, "there is no field %q.", g.field).Hint("Use one of %s.", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			}
			for _, t := range g.args {
				if err := t.check(where, g, known); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (t template) check(where string, g group, known values) error {
	for _, p := range t {
		if p.name == "" {
			continue
		}
		value, ok := known[p.name]
		if !ok {
			return offence(where, "there is no {%s} here.", p.name).Hint("Use one of %s.", strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if slices.Contains(optional, p.name) && (g.not || g.field == "" || g.field != p.name && !slices.Contains(serves[g.field], p.name)) {
			return offence(where, "a job may have no {%s}.", p.name).Hint(`Write it as %s: ["…{%s}…"], which is there only if the job has one.`, p.name, p.name)
		}
		good := p.format == ""
		switch value.(type) {
		case hpcsera.Bytes:
			good = units[p.format] > 0
		case hpcsera.Duration:
			good = slices.Contains(lengths, p.format)
		case []string:
			good = p.format != "" || len(t) == 1
		case bool:
			return offence(where, "{%s} is no text.", p.name).Hint("Write it as %s: [ARGUMENT].", p.name)
		}
		if !good {
			return offence(where, "{%s:%s} is no format.", p.name, p.format).
				Hint("Memory has B, KiB, MiB and GiB, duration has s, min and hms, a list its separator inside an argument, and the others have none.")
		}
	}
	return nil
}

// ofJob are the fields of a listing of jobs, the first three in every one.
var ofJob = []string{"id", "tag", "state", "cluster", "message", "exit", "signal", "nodes", "submitted", "estimated", "restarts"}

func (f *file) checkListings() error {
	if err := f.Queue.Command.check("queue.command", everywhere); err != nil {
		return err
	}
	if err := f.Queue.check("queue"); err != nil {
		return err
	}
	if f.Queue.ByTag != nil || f.Queue.None.Regexp != nil {
		return offence("queue", "by_tag and none are the history's.")
	}
	if f.History == nil {
		return nil
	}
	if err := f.History.Command.check("history.command", ofJobs); err != nil {
		return err
	}
	if err := f.History.ByTag.check("history.by_tag", ofTags); err != nil {
		return err
	}
	return f.History.check("history")
}

func (l listing) check(at string) error {
	if !slices.Contains([]exitForm{plain, waitStatus, codeSignal, shell}, l.Exit) {
		return offence(at+".exit", "%q is not how an exit is written.", l.Exit).Hint("Use wait_status, code_signal or shell, or leave it out.")
	}
	if p := l.Rows.Pattern; p != nil && (p.Begin.Regexp == nil || p.End.Regexp == nil) {
		return offence(at+".rows.pattern", "without begin and end nobody knows whether a listing is whole.")
	}
	if c := l.Rows.Columns; c != nil && c.Header == "" {
		return offence(at+".rows.columns", "without a header nobody knows whether a listing is one.")
	}
	fields, err := l.Rows.check(at+".rows", ofJob)
	if err != nil {
		return err
	}
	for _, name := range ofJob[:3] {
		if !slices.Contains(fields, name) {
			return offence(at+".rows", "it says not which field is %s.", name)
		}
	}
	return nil
}

func (r rows) check(at string, known []string) (fields []string, err error) {
	n := 0
	if r.Columns != nil {
		n, fields = n+1, r.Columns.Fields
	}
	if r.JSON != nil {
		n, fields = n+1, slices.Sorted(maps.Keys(r.JSON.Fields))
	}
	if r.Pattern != nil {
		n, fields = n+1, slices.Sorted(maps.Keys(r.Pattern.Fields))
		if r.Pattern.Row.Regexp == nil {
			return nil, offence(at+".pattern", "there is no row.")
		}
	}
	if n != 1 {
		return nil, offence(at, "it is read in %d ways.", n).Hint("Write exactly one of columns, json and pattern.")
	}
	for _, name := range fields {
		if name != "" && !slices.Contains(known, name) {
			return nil, offence(at, "there is no field %q.", name).Hint("Use %s.", strings.Join(known, ", "))
		}
	}
	return fields, nil
}

func (f *file) checkActs() error {
	if f.Cancel == nil {
		return offence("cancel", "without it no job could be stopped.").Hint("Write cancel: {command: […, \"{ids}\"]}.")
	}
	for name, a := range map[string]*act{"cancel": f.Cancel, "hold": f.Hold, "release": f.Release} {
		if a == nil {
			continue
		}
		if err := a.Command.check(name+".command", ofJobs); err != nil {
			return err
		}
		if !slices.Contains(slices.Collect(a.Command.names()), "ids") {
			return offence(name+".command", "it does not name {ids}.").Hint("A job is its id; its tag alone may be that of a later run.")
		}
	}
	return nil
}

func (f *file) checkProbe() error {
	if len(f.Probe) == 0 {
		return offence("probe", "nothing tells whether the batch system answers.").Hint("Write a list of commands and what their output must have.")
	}
	for i, p := range f.Probe {
		at := fmt.Sprintf("probe[%d]", i)
		if err := p.Command.check(at+".command", everywhere); err != nil {
			return err
		}
		if p.Queues != nil {
			if _, err := p.Queues.check(at+".queues", []string{"name", "default", "state", "nodes"}); err != nil {
				return err
			}
		} else if p.Answers.Regexp == nil && p.Version.Regexp == nil && p.Cluster.Regexp == nil {
			return offence(at, "nothing is read of it.").Hint("Write answers, version, cluster or queues.")
		}
	}
	return nil
}

// meant are the reasons that a rule can give, by phase.
var meant = map[scheduler.Phase][]hpcsera.Reason{
	scheduler.PhaseQueued: {
		"", hpcsera.WaitingForDependency, hpcsera.WaitingForResources, hpcsera.WaitingForPriority, hpcsera.Throttled,
		hpcsera.SiteMaintenance, hpcsera.NeverStarts, hpcsera.HeldBySite,
	},
	scheduler.PhaseHeld:    {""},
	scheduler.PhaseRunning: {""},
	scheduler.PhaseEnded: {
		"", hpcsera.Timeout, hpcsera.OutOfMemory, hpcsera.NodeFailure, hpcsera.Preempted, hpcsera.CancelledByUser, hpcsera.CancelledBySite,
	},
}

func (f *file) checkStates() error {
	if len(f.States) == 0 {
		return offence("states", "every state would be unknown.").Hint("Write a list of rules.")
	}
	for i, r := range f.States {
		at := fmt.Sprintf("states[%d]", i)
		reasons, ok := meant[r.Phase]
		switch {
		case !ok:
			return offence(at, "%q is not a phase.", r.Phase).Hint("Use queued, held, running or ended; what no rule matches is unknown.")
		case r.In != "" && r.In != inQueue && r.In != inHistory:
			return offence(at, "%q is not where a state is told.", r.In).Hint("Use queue or history, or leave it out for both.")
		case r.State.Regexp == nil || r.State.is(""):
			return offence(at, "it does not name a state.").Hint("A rule for all states would end jobs of which nothing is known.")
		case !slices.Contains(reasons, r.Reason):
			return offence(at, "%q is not a reason for a job that is %s.", r.Reason, r.Phase)
		case r.Exit != "" && (r.Phase != scheduler.PhaseEnded || r.Exit != exitTold && r.Exit != exitNonzero):
			return offence(at, "exit is told or nonzero, of a job that ended.")
		}
	}
	return nil
}
