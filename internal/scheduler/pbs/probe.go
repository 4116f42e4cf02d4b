package pbs

import (
	"bytes"
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
	shared       int            // nodes of all queues
	own          map[string]int // nodes of one queue only
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
	p.defaultQueue = list[names[0]].text("default_queue")
	return hpcsera.Facts{Version: doc.text("pbs_version"), Cluster: names[0]}, nil
}

// nodes counts hosts: a host can be several vnodes.
func (p *probe) nodes(out scheduler.Output) (hpcsera.Facts, error) {
	p.own, p.shared = map[string]int{}, 0
	if out.Exit != 0 && bytes.Contains(out.Stderr, []byte("Server has no node list")) {
		return hpcsera.Facts{}, nil
	}
	_, names, list, err := objects(out, "nodes")
	if err != nil {
		return hpcsera.Facts{}, err
	}
	counted := map[string]bool{}
	for _, name := range names {
		n := list[name]
		host := n.group("resources_available").text("host")
		if host == "" {
			host = name
		}
		if counted[host] {
			continue
		}
		counted[host] = true
		if queue := n.text("queue"); queue != "" {
			p.own[queue]++
		} else {
			p.shared++
		}
	}
	return hpcsera.Facts{}, nil
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
		nodes := p.own[name]
		if nodes == 0 {
			nodes = p.shared
		}
		f.Queues = append(f.Queues, hpcsera.Queue{
			Name: name, Default: name == p.defaultQueue, State: state, Nodes: nodes,
			MaxDuration: duration(q.group("resources_max").text("walltime")),
		})
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
