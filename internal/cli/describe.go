package cli

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// words returns a reason as people read it.
func words(r hpcsera.Reason) string { return clean(strings.ReplaceAll(string(r), "_", " ")) }

// situation says beside a job's state why it is in it: in the batch system's
// own words where there are some, `[PENDING Priority]`, else in ours.
func situation(job hpcsera.Job) string {
	message := strings.TrimSpace(job.Message)
	if inner, ok := strings.CutPrefix(message, "("); ok && strings.HasSuffix(inner, ")") {
		message = strings.TrimSuffix(inner, ")")
	}
	if !job.State.Final() && job.Native != nil && job.Native.State != "" {
		return "[" + strings.TrimSpace(clean(job.Native.State)+" "+clean(message)) + "]"
	}
	var parts []string
	if job.State == hpcsera.Pending && job.Reason == "" && job.Times.Delivered != nil {
		parts = append(parts, "taken by its agent")
	}
	if job.Reason != "" {
		parts = append(parts, words(job.Reason))
	}
	if job.Exit != nil && job.State.Final() && job.State != hpcsera.Succeeded {
		parts = append(parts, exitText(*job.Exit))
	}
	if message != "" {
		parts = append(parts, clean(message))
	}
	if len(parts) == 0 {
		return ""
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

// exitText says how a program ended.
func exitText(e hpcsera.Exit) string {
	if e.Signal != 0 {
		return fmt.Sprintf("signal %d (%v)", e.Signal, syscall.Signal(e.Signal))
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// place names a job as people know it: its name and where it runs.
func place(job hpcsera.Job) string {
	if job.Site == "" {
		return clean(job.Name)
	}
	return clean(job.Name) + " at " + clean(job.Site)
}

// How long a job's directory is kept when the job does not say.
const (
	keepSucceeded = hpcsera.Duration(3 * 24 * time.Hour)
	keepFailed    = hpcsera.Duration(14 * 24 * time.Hour)
)

// directoryText says where a job's directory is and until when.
func directoryText(job hpcsera.Job) string {
	if job.Directory == "" {
		return ""
	}
	text := clean(job.Directory)
	if !job.State.Final() || job.Times.Ended == nil {
		return text
	}
	keep := job.Keep.Failed
	if keep == 0 {
		keep = keepFailed
	}
	if job.State == hpcsera.Succeeded {
		if keep = job.Keep.Succeeded; keep == 0 {
			keep = keepSucceeded
		}
	}
	until := job.Times.Ended.Add(time.Duration(keep))
	return fmt.Sprintf("%s, kept until %s (%s after the end)", text, short(&until), spell(keep))
}

// spell returns a duration with days, as people write it.
func spell(d hpcsera.Duration) string {
	const day = hpcsera.Duration(24 * time.Hour)
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// headline says in a line what a job is and how it stands.
func (s *screen) headline(job hpcsera.Job) string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s", place(job), s.state(job.State), situation(job)))
}

// epitaph says on standard error how a job ended that did not succeed: where
// its directory is, how long it is kept, and what to type next.
func (a *app) epitaph(job hpcsera.Job) {
	if job.State == hpcsera.Succeeded {
		return
	}
	s := a.screen
	s.say("%s, %s", s.bold(job.ID), s.headline(job))
	if d := directoryText(job); d != "" {
		s.say("  directory  %s", d)
	}
	if job.State == hpcsera.Failed {
		s.say("  next       hpcsera explain %s", job.ID)
	}
	if job.Times.Running != nil || job.Exit != nil {
		s.say("             hpcsera logs %s", job.ID)
	}
	s.say("             hpcsera retry %s", job.ID)
}

// ended is how a command ends that watched a job to its end.
func ended(job hpcsera.Job) error {
	code, ok := exitOfState[job.State]
	if !ok {
		code = exitTimedOut
	}
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}
