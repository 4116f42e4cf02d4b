package oar

import (
	"fmt"
	"regexp"
	"time"

	"github.com/hpcsera/hpcsera"
)

// resources writes what -l takes before the walltime: a path through the site's
// hierarchy of resources, such as /network_address=2/resource_id=8. These two
// properties exist at every site: a host, and the smallest thing that the site
// gives away, which is a core (or a hardware thread, where it lists those). GPUs
// have the property gpu wherever they are listed at all. "" asks for the site's
// default.
func resources(r hpcsera.Resources) (string, error) {
	var (
		procs  = r.Processes()
		cores  = max(r.CPUCoresPerProcess, 1)
		gpus   = r.GPUCoresPerProcess
		placed = r.NodeCount > 0 || r.ProcessesPerNode > 0 || procs == 1 // the processes of each node are known
	)
	switch {
	case r == hpcsera.Resources{}:
		return "", nil
	case r.Memory > 0:
		return "", fmt.Errorf("resources.memory cannot be asked of OAR; ask for the cores that have that memory, " +
			"or for nodes with custom_attributes oar.property, by the property that the site has for it")
	case r.ExclusiveNodeUse && gpus > 0:
		return "", fmt.Errorf("resources.exclusive_node_use beside gpu_cores_per_process cannot be asked of OAR; " +
			"leave one out, and choose the nodes with custom_attributes oar.property")
	case r.ExclusiveNodeUse && !placed:
		return "", fmt.Errorf("resources.exclusive_node_use needs resources.node_count or resources.processes_per_node in OAR, which counts whole nodes")
	case r.ExclusiveNodeUse:
		return fmt.Sprintf("/network_address=%d", r.Nodes()), nil
	case !placed && gpus > 0:
		return "", fmt.Errorf("resources.gpu_cores_per_process of several processes needs resources.node_count or resources.processes_per_node in OAR")
	case !placed && cores > 1:
		return "", fmt.Errorf("resources.cpu_cores_per_process of several processes needs resources.node_count or resources.processes_per_node in OAR, " +
			"or else a process's cores could lie on two nodes")
	case !placed:
		return fmt.Sprintf("/resource_id=%d", procs), nil
	}
	each := r.ProcessesPerNode
	if each == 0 {
		each = (procs + r.Nodes() - 1) / r.Nodes()
	}
	if gpus > 0 { // cores are counted below each GPU
		return fmt.Sprintf("/network_address=%d/gpu=%d/resource_id=%d", r.Nodes(), each*gpus, (cores+gpus-1)/gpus), nil
	}
	return fmt.Sprintf("/network_address=%d/resource_id=%d", r.Nodes(), each*cores), nil
}

// word is what a name in OAR can be made of. OAR writes the project unquoted
// into a statement for its database.
var (
	word   = regexp.MustCompile(`^[A-Za-z0-9_.:@+-]{1,64}$`)
	number = regexp.MustCompile(`^[1-9]\d{0,17}$`)
)

// attributes are the options of where, for whom and for how long.
func attributes(a hpcsera.Attributes, resources string) ([]string, error) {
	var argv []string
	if a.Duration > 0 {
		s := int64((time.Duration(a.Duration) + time.Second - 1) / time.Second)
		if resources != "" {
			resources += ","
		}
		resources += fmt.Sprintf("walltime=%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	if resources != "" {
		argv = append(argv, "--resource="+resources)
	}
	for _, o := range []struct{ option, field, value string }{{"queue", "queue_name", a.QueueName}, {"project", "account", a.Account}} {
		if o.value == "" {
			continue
		}
		if !word.MatchString(o.value) {
			return nil, fmt.Errorf("attributes.%s: %q cannot be a name in OAR; use at most 64 letters, digits and _.:@+-", o.field, o.value)
		}
		argv = append(argv, "--"+o.option+"="+o.value)
	}
	if a.ReservationID != "" {
		if !number.MatchString(a.ReservationID) {
			return nil, fmt.Errorf("attributes.reservation_id: %q is no number; a reservation in OAR is a job of the type container, name it by its job id", a.ReservationID)
		}
		argv = append(argv, "--type=inner="+a.ReservationID)
	}
	return argv, nil
}
