package oar

import (
	"regexp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Probe asks for the version and the nodes.
func (Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	return []scheduler.Call[hpcsera.Facts]{
		{Argv: []string{"oarstat", "--version"}, Parse: parseVersion},
		{Argv: []string{"oarnodes", "--json"}, Parse: parseNodes},
	}
}

var version = regexp.MustCompile(`(?m)^OAR version : (\d[\w.+-]*)`)

func parseVersion(out scheduler.Output) (hpcsera.Facts, error) {
	m := version.FindSubmatch(out.Stdout)
	if out.Exit != 0 || m == nil {
		return hpcsera.Facts{}, product.Failed(out)
	}
	return hpcsera.Facts{Version: string(m[1])}, nil
}

// parseNodes counts the hosts that can be given to jobs, and what the largest
// of them has: a resource is a core, or what the site gives away in its place.
// No command of a user tells the queues: "default" is the one that oarsub takes
// when none is named, and jobs of all queues share the nodes.
func parseNodes(out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	c, ok := payload(out.Stdout)
	if !ok {
		return hpcsera.Facts{}, product.Garbled("without a resource", out.Stdout)
	}
	hosts := map[string]*host{}
	err := c.object(func([]byte) error {
		r, err := c.resource()
		if r.kind == "default" && r.address != "" && r.state != "Dead" {
			if hosts[r.address] == nil {
				hosts[r.address] = &host{}
			}
			hosts[r.address].add(r)
		}
		return err
	})
	if err != nil || len(hosts) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a node", out.Stdout)
	}
	queue := hpcsera.Queue{Name: "default", Default: true, State: "up", Nodes: len(hosts)}
	all := &hpcsera.Nodes{Total: len(hosts)}
	for _, h := range hosts {
		if h.alive > 0 {
			all.Up++
		}
		if h.alive > 0 && h.busy == 0 {
			all.Idle++
		}
		queue.CoresPerNode, queue.GPUsPerNode = max(queue.CoresPerNode, h.resources), max(queue.GPUsPerNode, len(h.gpus))
	}
	queue.Idle = &all.Idle
	return hpcsera.Facts{Queues: []hpcsera.Queue{queue}, OtherQueues: true, Nodes: all, LargestArray: maxArray}, nil
}

// resource is a member of oarnodes --json.
type resource struct{ address, kind, state, jobs, gpu string }

func (c *cursor) resource() (r resource, err error) {
	fields := map[string]*string{"network_address": &r.address, "type": &r.kind, "state": &r.state, "jobs": &r.jobs, "gpu": &r.gpu}
	err = c.object(func(name []byte) (err error) {
		if field := fields[string(name)]; field != nil && c.next() != '[' && c.next() != '{' {
			*field, _, err = c.value()
			return err
		}
		return c.skip(0)
	})
	return r, err
}

// host is what the resources of one host add up to.
type host struct {
	resources, alive, busy int
	gpus                   map[string]bool
}

func (h *host) add(r resource) {
	h.resources++
	if r.state == "Alive" {
		h.alive++
	}
	if r.jobs != "" {
		h.busy++
	}
	if r.gpu != "" && r.gpu != "0" {
		if h.gpus == nil {
			h.gpus = map[string]bool{}
		}
		h.gpus[r.gpu] = true
	}
}
