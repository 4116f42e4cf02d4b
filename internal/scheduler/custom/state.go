package custom

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// statuses reads a listing of jobs.
func (d Driver) statuses(l listing, text []byte) ([]scheduler.Status, error) {
	found, err := l.Rows.read(text)
	if err != nil {
		return nil, d.file.Product.Garbled(err.Error(), text)
	}
	list := make([]scheduler.Status, 0, len(found))
	known := meanings{}
	for _, row := range found {
		for field, value := range row {
			if slices.Contains(l.Nothing, value) && field != "tag" {
				row[field] = ""
			}
		}
		// Of others' jobs the id is never an argument, so it may be anything.
		if row["id"] == "" || hpcsera.ValidID("s", row["tag"]) && !validID(row["id"]) {
			return nil, d.file.Product.Garbled("with a job that has no id", text)
		}
		list = append(list, d.status(row, l, known))
	}
	return list, nil
}

// validID reports whether an id that is not empty can be an argument, and part of one.
func validID(id string) bool {
	return id[0] != '-' && !strings.ContainsFunc(id, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == ',' || r == '"' })
}

// meanings are the rules for the states and messages that a listing has had so
// far: thousands of its jobs have the same.
type meanings map[[2]string]*rule

func (d Driver) meaning(state, message, in string) *rule {
	for i := range d.file.States {
		if r := &d.file.States[i]; (r.In == "" || r.In == in) && r.State.is(state) && r.Message.is(message) {
			return r
		}
	}
	return nil
}

func (d Driver) status(row map[string]string, l listing, known meanings) scheduler.Status {
	st := scheduler.Status{
		Ref:   scheduler.Ref{ID: row["id"], Cluster: row["cluster"], Tag: row["tag"]},
		Phase: scheduler.PhaseUnknown, Native: row["state"], Message: row["message"], Nodes: row["nodes"],
		Submitted: moment(row["submitted"]),
	}
	st.Restarts, _ = strconv.Atoi(row["restarts"])
	r, ok := known[[2]string{st.Native, st.Message}]
	if !ok {
		r = d.meaning(st.Native, st.Message, l.in)
		known[[2]string{st.Native, st.Message}] = r
	}
	if r == nil {
		return st
	}
	st.Phase, st.Reason, st.Incomplete = r.Phase, r.Reason, r.Incomplete
	if r.Exit != "" {
		st.Exit = exitOf(l.Exit, row["exit"], row["signal"])
	}
	if r.Exit == exitNonzero && st.Exit != nil && *st.Exit == (hpcsera.Exit{}) {
		st.Exit = nil
	}
	if st.Phase == scheduler.PhaseQueued {
		st.Estimated = moment(row["estimated"])
	}
	return st
}

// exitOf returns nil for what it cannot read.
func exitOf(form exitForm, text, signal string) *hpcsera.Exit {
	if form == codeSignal {
		var ok bool
		if text, signal, ok = strings.Cut(text, ":"); !ok || signal == "" {
			return nil
		}
	}
	if text == "" && signal != "" {
		text = "0" // ended by a signal, so without a code
	}
	code, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return nil
	}
	e := hpcsera.Exit{Code: int(code)}
	switch {
	case form == waitStatus:
		e = hpcsera.Exit{Code: int(code >> 8), Signal: int(code & 0x7f)}
	case form == shell && code > 128:
		e = hpcsera.Exit{Signal: int(code - 128)}
	case signal != "":
		n, err := strconv.ParseUint(signal, 10, 31)
		if err != nil {
			return nil
		}
		e.Signal = int(n)
	}
	return &e
}

// moment reads seconds since 1970; all else is no time.
func moment(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}

// facts reads what a probe's command printed.
func (d Driver) facts(p probe, out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, d.file.Product.Failed(out)
	}
	var f hpcsera.Facts
	for _, fact := range []struct {
		pattern pattern
		to      *string
	}{{p.Answers, nil}, {p.Version, &f.Version}, {p.Cluster, &f.Cluster}} {
		if fact.pattern.Regexp == nil {
			continue
		}
		m := fact.pattern.FindSubmatch(out.Stdout)
		if m == nil {
			return hpcsera.Facts{}, d.file.Product.Garbled("without "+fact.pattern.String(), out.Stdout)
		}
		if fact.to != nil {
			*fact.to = string(m[min(1, len(m)-1)])
		}
	}
	if p.Queues == nil {
		return f, nil
	}
	found, err := p.Queues.read(out.Stdout)
	if err != nil || len(found) == 0 {
		return hpcsera.Facts{}, d.file.Product.Garbled("without a queue", out.Stdout)
	}
	f.OtherQueues = true // a file may not ask for all
	for _, row := range found {
		nodes, _ := strconv.Atoi(row["nodes"])
		f.Queues = append(f.Queues, hpcsera.Queue{
			Name: row["name"], State: strings.ToLower(row["state"]), Nodes: nodes,
			Default: !slices.Contains([]string{"", "0", "no", "false"}, strings.ToLower(row["default"])),
		})
	}
	return f, nil
}
