package sge

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/hpcsera/hpcsera"
)

// allowance is added to a limit of the address space: the wrapper in the job
// is a Go program, which reserves so much of it without ever using it. Under
// 1 GiB it does not even start.
const allowance = 2 << 30

// addressSpace matches the resources that limit it.
var addressSpace = regexp.MustCompile(`^[hs]_(vmem|data)$`)

var (
	name        = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.@-]{0,254}$`)
	reservation = regexp.MustCompile(`^[0-9]{1,18}$`)
)

// options turns resources and attributes into arguments. Grid Engine gives
// slots, not nodes: where more than one node is asked for, the parallel
// environment says how many slots of each, so the job must name one.
func (d Driver) options(r hpcsera.Resources, a hpcsera.Attributes, custom map[string]string) ([]string, error) {
	slots := r.Processes() * max(r.CPUCoresPerProcess, 1)
	pe, err := d.environmentFor(r, slots, custom["pe"])
	if err != nil {
		return nil, err
	}
	var argv []string
	if pe != "" {
		argv = append(argv, "-pe", pe, strconv.Itoa(slots))
	}
	if r.GPUCoresPerProcess > 0 {
		return nil, fmt.Errorf("resources.gpu_cores_per_process: Grid Engine has no common name for GPUs; ask for the site's in custom_attributes sge.l, such as gpu=1")
	}
	if r.Memory > 0 { // per slot, in MiB
		resource, memory := d.Memory, int64(r.Memory)
		if resource == "" {
			resource = "h_vmem"
		}
		if addressSpace.MatchString(resource) {
			memory += allowance
		}
		share := int64(slots) << 20
		argv = append(argv, "-l", fmt.Sprintf("%s=%dM", resource, (memory+share-1)/share))
	}
	if r.ExclusiveNodeUse {
		argv = append(argv, "-l", "exclusive=true")
	}
	if a.Duration > 0 {
		argv = append(argv, "-l", fmt.Sprintf("h_rt=%d", (time.Duration(a.Duration)+time.Second-1)/time.Second))
	}
	for _, o := range []struct {
		option, field, value string
		valid                *regexp.Regexp
	}{
		{"-q", "queue_name", a.QueueName, name}, {"-P", "account", a.Account, name}, {"-ar", "reservation_id", a.ReservationID, reservation},
	} {
		switch {
		case o.value == "":
		case !o.valid.MatchString(o.value):
			return nil, fmt.Errorf("attributes.%s: %q is no name that Grid Engine knows; give one, without patterns", o.field, o.value)
		default:
			argv = append(argv, o.option, o.value)
		}
	}
	return argv, nil
}

// environmentFor returns the parallel environment, "" for a job of one slot.
func (d Driver) environmentFor(r hpcsera.Resources, slots int, wanted string) (string, error) {
	switch {
	case wanted != "":
		if !name.MatchString(wanted) {
			return "", fmt.Errorf("custom_attributes sge.pe: %q is not one parallel environment", wanted)
		}
		return wanted, nil
	case r.Nodes() > 1:
		field := "node_count"
		if r.NodeCount == 0 {
			field = "processes_per_node"
		}
		return "", fmt.Errorf("resources.%s: with Grid Engine the parallel environment decides how many slots of which nodes a job gets; "+
			"name the right one of the site's in custom_attributes sge.pe, or ask for one node", field)
	case slots == 1:
		return "", nil
	case d.PE != "":
		return d.PE, nil
	}
	return "smp", nil
}
