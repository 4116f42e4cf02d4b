package pbs

import (
	"bytes"
	"cmp"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Probe asks for the server, its nodes and its queues. The last needs what the
// first two told: which queue is the default, and which nodes are whose.
func (Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	var p probe
	return []scheduler.Call[hpcsera.Facts]{
		{Argv: []string{"qstat", "-B", "-f", "-F", "json"}, Env: utc, Parse: p.server},
		{Argv: []string{"pbsnodes", "-a", "-F", "json"}, Env: utc, Parse: p.nodes},
		{Argv: []string{"qstat", "-Q", "-f", "-F", "json"}, Env: utc, Parse: p.queues},
	}
}

type probe struct {
	defaultQueue string
	shared       part            // nodes of all queues
	own          map[string]part // nodes of one queue only
}

// part is what queues have of the nodes: how many, and what the largest has.
type part struct {
	nodes, idle, cores, gpus int
	memory                   hpcsera.Bytes
}

// host is one host: a node, or several virtual ones that share a job's chunk.
type host struct {
	queue    string
	up, idle bool
	part     part // with nodes 1
}

func (p *part) add(h host) {
	p.nodes++
	if h.idle {
		p.idle++
	}
	p.cores, p.gpus, p.memory = max(p.cores, h.part.cores), max(p.gpus, h.part.gpus), max(p.memory, h.part.memory)
}

// hosts puts the virtual nodes of each host together.
func hosts(names []string, list map[string]attributes) map[string]host {
	all := map[string]host{}
	for _, name := range names {
		n := list[name]
		has := n.group("resources_available")
		key := cmp.Or(has.text("host"), name)
		up, idle := standing(n.text("state"))
		idle = idle && n["jobs"] == nil && n.group("resources_assigned").number("ncpus") == 0
		h, known := all[key]
		if !known {
			h = host{queue: n.text("queue"), up: up, idle: idle}
		}
		h.up, h.idle = h.up || up, h.idle && idle
		h.part.cores += has.number("ncpus")
		h.part.gpus += has.number("ngpus")
		h.part.memory += size(has.text("mem"))
		all[key] = h
	}
	return all
}

// number reads a number that may be printed as text. What it cannot read is 0.
func (a attributes) number(name string) int {
	n, _ := strconv.Atoi(a.text(name))
	return max(n, 0)
}

var amount = regexp.MustCompile(`^(\d{1,12})([kmgt]?)b$`)

// size reads 24683620kb. What it cannot read, such as words, is 0.
func size(text string) hpcsera.Bytes {
	m := amount.FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	shift := 10 * (strings.Index("kmgt", m[2]) + 1)
	if m[2] == "" {
		shift = 0
	}
	if n > 1<<62>>shift {
		return 0
	}
	return hpcsera.Bytes(n << shift)
}

// attributes are those of a server, queue or node. PBS prints a value that looks
// like a number as one, so anything may be of any type.
type attributes map[string]json.RawMessage

func (a attributes) text(name string) string {
	var s string
	if json.Unmarshal(a[name], &s) != nil {
		return string(a[name])
	}
	return s
}

func (a attributes) group(name string) attributes {
	var g attributes
	_ = json.Unmarshal(a[name], &g) // no group is an empty one
	return g
}

// objects reads a document and the objects of one kind in it, in their order.
func objects(out scheduler.Output, kind string) (doc attributes, names []string, list map[string]attributes, err error) {
	if out.Exit != 0 {
		return nil, nil, nil, product.Failed(out)
	}
	text := out.Stdout
	if i := bytes.Index(text, []byte("\n{")); !bytes.HasPrefix(text, []byte("{")) && i >= 0 {
		text = text[i+1:]
	}
	if json.Unmarshal(text, &doc) != nil || json.Unmarshal(doc[kind], &list) != nil || len(list) == 0 || doc.text("pbs_version") == "" {
		return nil, nil, nil, product.Garbled("without "+kind, out.Stdout)
	}
	for name := range list {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return bytes.Index(doc[kind], []byte(strconv.Quote(a)+":")) - bytes.Index(doc[kind], []byte(strconv.Quote(b)+":"))
	})
	return doc, names, list, nil
}

func (p *probe) server(out scheduler.Output) (hpcsera.Facts, error) {
	doc, names, list, err := objects(out, "Server")
	if err != nil {
		return hpcsera.Facts{}, err
	}
	server := list[names[0]]
	p.defaultQueue = server.text("default_queue")
	return hpcsera.Facts{
		Version: doc.text("pbs_version"), Cluster: names[0], LargestArray: server.number("max_array_size"), Jobs: load(server.text("state_count")),
	}, nil
}

var counted = regexp.MustCompile(`\b(Transit|Queued|Held|Waiting|Running|Exiting|Begun):(\d{1,9})\b`)

// load reads Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Begun:0. A
// begun job is an array of which some members ran.
func load(text string) *hpcsera.Load {
	all := counted.FindAllStringSubmatch(text, -1)
	if all == nil {
		return nil
	}
	var l hpcsera.Load
	for _, m := range all {
		n, _ := strconv.Atoi(m[2])
		if m[1] == "Running" || m[1] == "Exiting" {
			l.Running += n
		} else {
			l.Queued += n
		}
	}
	return &l
}

// nodes counts hosts.
func (p *probe) nodes(out scheduler.Output) (hpcsera.Facts, error) {
	p.own, p.shared = map[string]part{}, part{}
	if out.Exit != 0 && bytes.Contains(out.Stderr, []byte("Server has no node list")) {
		return hpcsera.Facts{}, nil
	}
	_, names, list, err := objects(out, "nodes")
	if err != nil {
		return hpcsera.Facts{}, err
	}
	all := hpcsera.Nodes{}
	for _, h := range hosts(names, list) {
		all.Total++
		if h.up {
			all.Up++
		}
		if h.idle {
			all.Idle++
		}
		if h.queue != "" {
			one := p.own[h.queue]
			one.add(h)
			p.own[h.queue] = one
		} else {
			p.shared.add(h)
		}
	}
	return hpcsera.Facts{Nodes: &all}, nil
}

// standing reads a node's state: one or more words, such as free,
// job-exclusive,resv-exclusive or down,offline.
func standing(state string) (up, idle bool) {
	for word := range strings.SplitSeq(state, ",") {
		switch word {
		case "free", "job-busy", "job-exclusive", "resv-exclusive", "busy":
			up = true
		default:
			return false, false
		}
	}
	return up, state == "free"
}

func (p *probe) queues(out scheduler.Output) (hpcsera.Facts, error) {
	_, names, list, err := objects(out, "Queue")
	if err != nil {
		return hpcsera.Facts{}, err
	}
	var f hpcsera.Facts
	for _, name := range names {
		q := list[name]
		state := "up"
		switch {
		case q.text("enabled") != "True":
			state = "disabled"
		case q.text("started") != "True":
			state = "stopped"
		}
		has := p.own[name]
		if has.nodes == 0 {
			has = p.shared
		}
		if q.text("queue_type") == "Route" { // its jobs run in other queues, which have limits of their own
			has = part{}
		}
		most := q.group("resources_max")
		found := hpcsera.Queue{
			Name: name, Default: name == p.defaultQueue, State: state, Closed: q.text("enabled") != "True",
			Restricted: q.text("acl_user_enable") == "True" || q.text("acl_group_enable") == "True" || q.text("from_route_only") == "True",
			Nodes:      has.nodes, MaxNodes: most.number("nodect"), CoresPerNode: has.cores, MemoryPerNode: has.memory, GPUsPerNode: has.gpus,
			MaxDuration: duration(most.text("walltime")), DefaultDuration: duration(q.group("resources_default").text("walltime")),
		}
		if has.nodes > 0 {
			found.Idle = &has.idle
		}
		f.Queues = append(f.Queues, found)
	}
	return f, nil
}

var clock = regexp.MustCompile(`^(\d{1,7}:)?(\d{1,7}:)?(\d{1,9})$`)

// duration reads [[HH:]MM:]SS. What it cannot read is 0: no limit known.
func duration(text string) hpcsera.Duration {
	if !clock.MatchString(text) {
		return 0
	}
	seconds := 0
	for part := range strings.SplitSeq(text, ":") {
		n, _ := strconv.Atoi(part)
		seconds = seconds*60 + n
	}
	return hpcsera.Duration(time.Duration(seconds) * time.Second)
}
