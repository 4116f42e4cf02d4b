package lsf

import (
	"regexp"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// wrap is how bhist -l breaks a line that is too long, in the middle of a word.
const wrap = "\n                     "

var (
	title = regexp.MustCompile(`^Job <([^<>]+)>, (?:Job Name <(.*?)>, )?[Uu]ser <([^<>]*)>`)
	event = regexp.MustCompile(`^([A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: \d{4})?): ?(?:\[\d+\] ?)?(.*)$`)
	// sums is the last line of what bhist tells of a job.
	sums    = regexp.MustCompile(`^ *\d+(?: +\d+){5,} *$`)
	summary = regexp.MustCompile(`^Summary of time in seconds spent in various states`)
	unfound = regexp.MustCompile(`^No matching job found\.?$`)
)

// parseHistory reads bhist -l: for each job a title, its events in their
// order, limits, and a summary. A job without its summary broke off.
func parseHistory(out scheduler.Output) ([]scheduler.Status, error) {
	if only(out, unfound) {
		return nil, nil
	}
	if out.Exit != 0 {
		return nil, product.Failed(out)
	}
	var list []scheduler.Status
	var job *past
	whole := true
	for line := range strings.SplitSeq(strings.ReplaceAll(string(out.Stdout), wrap, ""), "\n") {
		switch {
		case strings.HasPrefix(line, "Job <"):
			if !whole {
				return nil, product.Garbled("of a job that breaks off", []byte(line))
			}
			if job != nil {
				list = append(list, job.status())
			}
			if job = begun(line); job == nil {
				return nil, product.Garbled("with a title that is none", []byte(line))
			}
			whole = false
		case job == nil:
		case summary.MatchString(line):
			job.summed = true
		case job.summed && sums.MatchString(line):
			whole = true
		case whole: // what separates it from the next
		default:
			job.line(line)
		}
	}
	if job == nil || !whole || !strings.HasSuffix(string(out.Stdout), "\n") {
		return nil, product.Garbled("that breaks off", out.Stdout)
	}
	return append(list, job.status()), nil
}

// past is a job of which the events are read one by one. The last run counts.
type past struct {
	st     scheduler.Status
	owner  string
	summed bool

	starts  int
	limited bool   // it has a time limit
	killer  string // who sent it a signal that ends it
	exit    string // status, "" where none is told
	term    string // TERM_…
}

// begun reads the title of what is told of a job.
func begun(line string) *past {
	m := title.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	ref, ok := reference(m[1], "", m[2])
	if !ok {
		return nil
	}
	return &past{owner: m[3], st: scheduler.Status{Ref: ref}}
}

var (
	exited   = regexp.MustCompile(`^(?:Exited with exit code|Exited; job has been forced to exit with exit code) (\d+)`)
	signalOf = regexp.MustCompile(`^Exited by signal (\d+)`)
	lost     = regexp.MustCompile(`^Exited(?: by LSF signal \S+)?(?:[.;]|$)`)
	killed   = regexp.MustCompile(`^Signal <(?:KILL|TERM|INT)> requested by user or administrator <([^<>]*)>`)
	failure  = regexp.MustCompile(`^Completed <exit>(?:[;.] *(TERM_[A-Z_]+)(?:: *([^;]*))?)?`)
	running  = regexp.MustCompile(`^(?:Started|Starting|Running)\b`)
)

func (p *past) line(line string) {
	m := event.FindStringSubmatch(line)
	if m == nil {
		p.limited = p.limited || strings.HasPrefix(strings.TrimSpace(line), "RUNLIMIT")
		return
	}
	at, what := stamp(m[1]), m[2]
	switch {
	case strings.HasPrefix(what, "Submitted from host") && p.st.Submitted.IsZero():
		p.st.Submitted = at
	case strings.HasPrefix(what, "Dispatched"):
		p.starts++
		p.again(scheduler.PhaseRunning, what)
	case running.MatchString(what) && p.st.Phase != scheduler.PhaseEnded:
		p.st.Phase, p.st.Native = scheduler.PhaseRunning, tidy(what)
	case strings.HasPrefix(what, "Pending:"):
		p.again(scheduler.PhaseQueued, what)
	case strings.HasPrefix(what, "Unknown"):
		p.st.Phase, p.st.Native = scheduler.PhaseUnknown, what
	case strings.HasPrefix(what, "Done successfully"):
		p.end("DONE", "0")
	case lost.MatchString(what):
		p.end("EXIT", p.exit)
	default:
		p.signs(what)
	}
}

// signs reads the events that have a value.
func (p *past) signs(what string) {
	if m := exited.FindStringSubmatch(what); m != nil {
		p.end("EXIT", m[1])
	} else if m := signalOf.FindStringSubmatch(what); m != nil {
		p.end("EXIT", m[1])
		p.st.Exit = signalled(m[1])
	} else if m := failure.FindStringSubmatch(what); m != nil {
		p.end("EXIT", p.exit)
		p.term = m[1]
		if m[1] != "" {
			p.st.Message = tidy(m[1] + ": " + m[2])
		}
	} else if m := killed.FindStringSubmatch(what); m != nil {
		p.killer = m[1]
	}
}

func (p *past) end(native, exit string) {
	p.st.Phase, p.st.Native, p.exit = scheduler.PhaseEnded, native, exit
	if native == "DONE" {
		p.killer = "" // too late
	}
}

// again begins another run, or the wait for it: what the run before came to is
// nothing any more.
func (p *past) again(phase scheduler.Phase, what string) {
	p.st.Phase, p.st.Native, p.st.Message, p.st.Exit = phase, tidy(what), "", nil
	p.exit, p.term, p.killer = "", "", ""
}

// status sums up. Systems that are LSF's relatives tell no termination reason:
// there a job with a time limit that SIGUSR2 ended ran into it.
func (p *past) status() scheduler.Status {
	st := p.st
	st.Restarts = max(p.starts-1, 0)
	if st.Phase == "" {
		st.Phase = scheduler.PhaseQueued
	}
	if st.Phase != scheduler.PhaseEnded {
		return st
	}
	if st.Native == "DONE" {
		st.Exit = &hpcsera.Exit{}
		return st
	}
	told := st.Exit // by its signal
	st.Exit = nil
	endMeaning(&st, p.term, p.exit)
	switch {
	case st.Reason != "":
	case p.killer != "" && p.killer == p.owner:
		st.Reason = hpcsera.CancelledByUser
	case p.killer != "":
		st.Reason = hpcsera.CancelledBySite
	case p.term == "" && p.exit == "140" && p.limited:
		st.Reason = hpcsera.Timeout
	}
	switch {
	case st.Reason != "":
		st.Exit = nil
	case told != nil:
		st.Exit = told
	}
	return st
}

func signalled(text string) *hpcsera.Exit {
	e := exitOf(text)
	if e == nil || e.Code == 0 {
		return nil
	}
	return &hpcsera.Exit{Signal: e.Code}
}

// stamp reads the time of an event, Sun Nov 22 09:42:57 2026. Without its year
// it is no time.
func stamp(text string) time.Time {
	t, err := time.Parse("Mon Jan _2 15:04:05 2006", text)
	if err != nil {
		return time.Time{}
	}
	return t
}
