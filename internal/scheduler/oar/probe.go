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

// parseNodes counts the hosts that can be given to jobs. No command of a user
// tells the queues: "default" is the one that oarsub takes when none is named,
// and jobs of all queues share the nodes.
func parseNodes(out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	c, ok := payload(out.Stdout)
	if !ok {
		return hpcsera.Facts{}, product.Garbled("without a resource", out.Stdout)
	}
	hosts := map[string]bool{}
	err := c.object(func([]byte) error {
		var host, kind, state string
		err := c.object(func(name []byte) (err error) {
			switch string(name) {
			case "network_address":
				host, _, err = c.value()
			case "type":
				kind, _, err = c.value()
			case "state":
				state, _, err = c.value()
			default:
				err = c.skip(0)
			}
			return err
		})
		if kind == "default" && host != "" && state != "Dead" {
			hosts[host] = true
		}
		return err
	})
	if err != nil || len(hosts) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a node", out.Stdout)
	}
	return hpcsera.Facts{Queues: []hpcsera.Queue{{Name: "default", Default: true, State: "up", Nodes: len(hosts)}}}, nil
}
