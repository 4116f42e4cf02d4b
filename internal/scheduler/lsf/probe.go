package lsf

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Probe asks for version and cluster, counts the hosts, and asks for the
// queues, of which those that take all hosts have that many.
func (Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	hosts := 0
	return []scheduler.Call[hpcsera.Facts]{
		{Argv: []string{"lsid"}, Env: asked, Parse: parseID},
		{Argv: []string{"bhosts", "-w"}, Env: asked, Parse: func(out scheduler.Output) (hpcsera.Facts, error) {
			var err error
			hosts, err = countHosts(out)
			return hpcsera.Facts{}, err
		}},
		{Argv: []string{"bqueues", "-l"}, Env: asked, Parse: func(out scheduler.Output) (hpcsera.Facts, error) {
			return parseQueues(out, hosts)
		}},
	}
}

var (
	release = regexp.MustCompile(`\b(\d+(?:\.\d+)+)`)
	cluster = regexp.MustCompile(`(?m)^My cluster name is (\S+)\r?$`)
)

// parseID reads lsid. The first line names product and version.
func parseID(out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	name := cluster.FindSubmatch(out.Stdout)
	version := release.FindStringSubmatch(scheduler.FirstLine(out.Stdout))
	if name == nil || version == nil {
		return hpcsera.Facts{}, product.Garbled("without version and cluster", out.Stdout)
	}
	return hpcsera.Facts{Version: version[1], Cluster: string(name[1])}, nil
}

func countHosts(out scheduler.Output) (int, error) {
	if out.Exit != 0 {
		return 0, product.Failed(out)
	}
	n, headed := 0, false
	for line := range bytes.Lines(out.Stdout) {
		switch words := bytes.Fields(line); {
		case len(words) == 0:
		case string(words[0]) == "HOST_NAME":
			headed = true
		case headed:
			n++
		}
	}
	if n == 0 {
		return 0, product.Garbled("without a host", out.Stdout)
	}
	return n, nil
}

var minutes = regexp.MustCompile(`^\s*(\d+(?:\.\d+)?) min\b`)

// parseQueues reads bqueues -l, a paragraph or more for each queue. A RUNLIMIT
// under DEFAULT LIMITS is not the queue's limit.
func parseQueues(out scheduler.Output, hosts int) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	var f hpcsera.Facts
	var q *hpcsera.Queue
	section, before := "", ""
	for line := range strings.Lines(string(out.Stdout)) {
		line = strings.TrimRight(line, " \r\n")
		name, found := strings.CutPrefix(line, "QUEUE: ")
		switch {
		case found:
			f.Queues = append(f.Queues, hpcsera.Queue{Name: strings.TrimSpace(name)})
			q, section = &f.Queues[len(f.Queues)-1], ""
		case q == nil:
		case strings.HasPrefix(line, "  -- "):
			q.Default = strings.Contains(line, "This is the default queue")
		case strings.HasSuffix(line, "LIMITS:"):
			section = line
		case strings.HasPrefix(strings.TrimSpace(before), "RUNLIMIT") && section != "DEFAULT LIMITS:":
			if m := minutes.FindStringSubmatch(line); m != nil {
				n, _ := strconv.ParseFloat(m[1], 64)
				q.MaxDuration = hpcsera.Duration(time.Duration(min(n, 1e6) * float64(time.Minute)))
			}
		case strings.HasPrefix(strings.TrimSpace(before), "PRIO "):
			if words := strings.Fields(line); len(words) > 2 {
				q.State = strings.ToLower(words[2])
			}
		case strings.HasPrefix(line, "HOSTS:"):
			q.Nodes = nodes(strings.Fields(strings.TrimPrefix(line, "HOSTS:")), hosts)
		}
		before = line
	}
	if len(f.Queues) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a queue", out.Stdout)
	}
	return f, nil
}

// nodes counts the hosts of a queue, 0 where host groups hide their number.
func nodes(words []string, hosts int) int {
	if len(words) > 0 && (words[0] == "all" || words[0] == "all_hosts") {
		return hosts
	}
	for _, w := range words {
		if strings.ContainsAny(w, "/~@") || strings.HasSuffix(w, "+") {
			return 0
		}
	}
	return len(words)
}
