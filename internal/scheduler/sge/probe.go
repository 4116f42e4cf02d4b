package sge

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

var version = regexp.MustCompile(`^[A-Za-z/ ]{2,20} \d[\w.]*$`)

// parseVersion reads the first line of qstat -help: SGE 8.1.9, GE 6.2u5.
func parseVersion(out scheduler.Output) (hpcsera.Facts, error) {
	for line := range bytes.Lines(out.Stdout) {
		if line = bytes.TrimSpace(line); version.Match(line) {
			return hpcsera.Facts{Version: string(line)}, nil
		}
		if bytes.HasPrefix(line, []byte("usage:")) {
			break
		}
	}
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	return hpcsera.Facts{}, product.Garbled("without its version", out.Stdout)
}

// closed are the letters of a queue's state on a node that starts nothing
// there: alarm, Configuration ambiguous, disabled, Disabled by calendar, Error,
// orphaned, suspended, Subordinate, unknown.
const closed = "acdDEosSCAu"

// parseQueues reads qstat -f -xml -F h_rt, which has a part for each node of
// each queue, and makes one of each queue.
func parseQueues(out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	var f hpcsera.Facts
	at, unlimited := map[string]int{}, map[string]bool{}
	err := eachRow(out.Stdout, func(s *scanner) error {
		name, state, limit, err := s.queue()
		if err != nil {
			return err
		}
		i, known := at[name]
		if !known {
			i = len(f.Queues)
			at[name] = i
			f.Queues = append(f.Queues, hpcsera.Queue{Name: name, State: "down"})
		}
		q := &f.Queues[i]
		q.Nodes++
		if !strings.ContainsAny(state, closed) {
			q.State = "up"
		}
		unlimited[name] = unlimited[name] || limit == 0
		if q.MaxDuration = max(q.MaxDuration, limit); unlimited[name] {
			q.MaxDuration = 0
		}
		return nil
	}, func(map[string]string) error { return nil })
	if err != nil || len(f.Queues) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a queue", out.Stdout)
	}
	return f, nil
}

// queue reads a <Queue-List>: one queue on one node.
func (s *scanner) queue() (name, state string, limit hpcsera.Duration, err error) {
	for {
		_, t, err := s.next()
		if err != nil {
			return "", "", 0, err
		}
		if t.end {
			if t.name != "Queue-List" || name == "" {
				return "", "", 0, errXML
			}
			return name, state, limit, nil
		}
		text, ok, err := s.leaf(t)
		switch {
		case err != nil:
			return "", "", 0, err
		case !ok:
		case t.name == "name":
			name, _, _ = strings.Cut(text, "@")
		case t.name == "state":
			state = text
		case t.name == "resource" && bytes.Contains(t.attributes, []byte(`name="h_rt"`)):
			limit = timeLimit(text)
		}
	}
}

// timeLimit reads HOURS:MINUTES:SECONDS or seconds. INFINITY, and what it
// cannot read, is 0: no limit known.
func timeLimit(text string) hpcsera.Duration {
	seconds := 0
	for part := range strings.SplitSeq(text, ":") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || seconds > 1<<31 {
			return 0
		}
		seconds = seconds*60 + int(n)
	}
	return hpcsera.Duration(time.Duration(seconds) * time.Second)
}
