package lsf

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Probe asks for version and cluster, the hosts, what they have, the
// parameters, and for the queues, which take some of the hosts or all of them.
func (Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	p := &probe{hosts: map[string]*host{}}
	return []scheduler.Call[hpcsera.Facts]{
		{Argv: []string{"lsid"}, Env: asked, Parse: parseID},
		{Argv: []string{"bhosts", "-w"}, Env: asked, Parse: p.batchHosts},
		{Argv: []string{"lshosts", "-w"}, Env: asked, Parse: p.loadHosts},
		{Argv: []string{"bparams", "-a"}, Env: asked, Parse: parseParameters},
		{Argv: []string{"bqueues", "-l"}, Env: asked, Parse: p.queues},
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

// probe is what one call tells the next.
type probe struct {
	hosts map[string]*host
}

// host is one that runs jobs.
type host struct {
	slots  int // that it gives away; 0 is not told
	memory hpcsera.Bytes
	up     bool
	idle   bool
}

// eachRow reads a table whose heading begins with HOST_NAME, by its columns'
// names.
func eachRow(text []byte, do func(map[string]string)) {
	var heading []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "HOST_NAME":
			heading = words
		case heading != nil:
			row := map[string]string{}
			for i, name := range heading[:min(len(heading), len(words))] {
				row[name] = words[i]
			}
			do(row)
		}
	}
}

// batchHosts reads bhosts -w. A host that is full is closed_Full.
func (p *probe) batchHosts(out scheduler.Output) (hpcsera.Facts, error) {
	clear(p.hosts)
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	eachRow(out.Stdout, func(row map[string]string) {
		h := &host{up: row["STATUS"] == "ok" || row["STATUS"] == "closed_Full" || row["STATUS"] == "closed_Excl" || row["STATUS"] == "closed_Busy"}
		h.slots, _ = strconv.Atoi(row["MAX"])
		h.idle = row["STATUS"] == "ok" && row["NJOBS"] == "0"
		p.hosts[row["HOST_NAME"]] = h
	})
	if len(p.hosts) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a host", out.Stdout)
	}
	all := &hpcsera.Nodes{Total: len(p.hosts)}
	for _, h := range p.hosts {
		if h.up {
			all.Up++
		}
		if h.idle {
			all.Idle++
		}
	}
	return hpcsera.Facts{Nodes: all}, nil
}

var amount = regexp.MustCompile(`^(\d{1,9}(?:\.\d{1,3})?)([KMGT])$`)

// loadHosts reads the memory of each host from lshosts -w: 24105M, 1.9G. Not
// every site lets its users ask.
func (p *probe) loadHosts(out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, nil
	}
	eachRow(out.Stdout, func(row map[string]string) {
		m := amount.FindStringSubmatch(row["maxmem"])
		if h := p.hosts[row["HOST_NAME"]]; h != nil && m != nil {
			n, _ := strconv.ParseFloat(m[1], 64)
			h.memory = hpcsera.Bytes(n * float64(int64(1)<<(10*(1+strings.Index("KMGT", m[2])))))
		}
	})
	return hpcsera.Facts{}, nil
}

var arraySize = regexp.MustCompile(`\bMAX_JOB_ARRAY_SIZE\s*=\s*(\d{1,9})\b`)

// parseParameters reads the largest array from bparams -a, where it is told.
func parseParameters(out scheduler.Output) (hpcsera.Facts, error) {
	var f hpcsera.Facts
	if m := arraySize.FindSubmatch(out.Stdout); m != nil && out.Exit == 0 {
		f.LargestArray, _ = strconv.Atoi(string(m[1]))
	}
	return f, nil
}

var minutes = regexp.MustCompile(`^\s*(\d+(?:\.\d+)?) min\b`)

// parseQueues reads bqueues -l, a paragraph or more for each queue. A RUNLIMIT
// under DEFAULT LIMITS is not the queue's limit.
func (p *probe) queues(out scheduler.Output) (hpcsera.Facts, error) {
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
				q.Closed = strings.HasPrefix(q.State, "closed")
			}
		case strings.HasPrefix(line, "USERS:"):
			q.Restricted = strings.TrimSpace(strings.TrimPrefix(line, "USERS:")) != "all"
		case strings.HasPrefix(line, "HOSTS:"):
			p.count(q, strings.Fields(strings.TrimPrefix(line, "HOSTS:")))
		}
		before = line
	}
	if len(f.Queues) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a queue", out.Stdout)
	}
	return f, nil
}

// count adds up the hosts of a queue, nothing where host groups hide them.
func (p *probe) count(q *hpcsera.Queue, words []string) {
	if len(words) > 0 && (words[0] == "all" || words[0] == "all_hosts") {
		words = slices.Collect(maps.Keys(p.hosts)) // those left out by ~HOST are few
	}
	for _, w := range words {
		if strings.ContainsAny(w, "/~@") || strings.HasSuffix(w, "+") {
			return
		}
	}
	idle := 0
	for _, name := range words {
		q.Nodes++
		h := p.hosts[name]
		if h == nil {
			continue
		}
		q.CoresPerNode, q.MemoryPerNode = max(q.CoresPerNode, h.slots), max(q.MemoryPerNode, h.memory)
		if h.idle {
			idle++
		}
	}
	if q.Nodes > 0 {
		q.Idle = &idle
	}
}
