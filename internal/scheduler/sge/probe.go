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
	hosts := map[string]host{}
	err := eachRow(out.Stdout, func(s *scanner) error {
		one, err := s.instance()
		if err != nil {
			return err
		}
		i, known := at[one.queue]
		if !known {
			i = len(f.Queues)
			at[one.queue] = i
			f.Queues = append(f.Queues, hpcsera.Queue{Name: one.queue, State: "down", Idle: new(int)})
		}
		q := &f.Queues[i]
		q.Nodes++
		if one.open() {
			q.State = "up"
			if one.used == 0 {
				*q.Idle++
			}
		}
		q.CoresPerNode = max(q.CoresPerNode, one.total)
		unlimited[one.queue] = unlimited[one.queue] || one.limit == 0
		if q.MaxDuration = max(q.MaxDuration, one.limit); unlimited[one.queue] {
			q.MaxDuration = 0
		}
		h := hosts[one.host]
		hosts[one.host] = host{up: h.up || one.open(), busy: h.busy || one.used > 0}
		return nil
	}, func(map[string]string) error { return nil })
	if err != nil || len(f.Queues) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a queue", out.Stdout)
	}
	f.Nodes = &hpcsera.Nodes{Total: len(hosts)}
	for _, h := range hosts {
		if h.up {
			f.Nodes.Up++
		}
		if h.up && !h.busy {
			f.Nodes.Idle++
		}
	}
	return f, nil
}

// host is a host, by the queues that it serves.
type host struct{ up, busy bool }

// instance is one queue on one host.
type instance struct {
	queue, host string
	state       string
	used, total int // slots
	limit       hpcsera.Duration
}

func (i instance) open() bool { return !strings.ContainsAny(i.state, closed) }

// instance reads a <Queue-List>.
func (s *scanner) instance() (one instance, err error) {
	for {
		_, t, err := s.next()
		if err != nil {
			return one, err
		}
		if t.end {
			if t.name != "Queue-List" || one.queue == "" {
				return one, errXML
			}
			return one, nil
		}
		text, ok, err := s.leaf(t)
		switch {
		case err != nil:
			return one, err
		case !ok:
		case t.name == "name":
			one.queue, one.host, _ = strings.Cut(text, "@")
		case t.name == "state":
			one.state = text
		case t.name == "slots_used":
			one.used, _ = strconv.Atoi(text)
		case t.name == "slots_total":
			one.total, _ = strconv.Atoi(text)
		case t.name == "resource" && bytes.Contains(t.attributes, []byte(`name="h_rt"`)):
			one.limit = timeLimit(text)
		}
	}
}

var arrayTasks = regexp.MustCompile(`(?m)^max_aj_tasks\s+(\d{1,9})\s*$`)

// parseConfig reads the largest array from qconf -sconf. 0 is no limit, and a
// site that keeps its configuration to itself tells none.
func parseConfig(out scheduler.Output) (hpcsera.Facts, error) {
	var f hpcsera.Facts
	if m := arrayTasks.FindSubmatch(out.Stdout); m != nil && out.Exit == 0 {
		f.LargestArray, _ = strconv.Atoi(string(m[1]))
	}
	return f, nil
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
