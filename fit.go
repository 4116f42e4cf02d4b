package hpcsera

import (
	"fmt"
	"slices"
	"strings"
)

// Takes says whether a site can honour a job, by what its agent told: nil, or
// not_supported_by_site with the field and the nearest thing that would work.
// Only what is told and means one thing is refused; everything else is the
// batch system's to decide. A reservation has limits of its own, and custom
// attributes of the batch system, such as a quality of service, may lift
// those of a queue, so with either nothing but the queue's name is looked at.
func (f Facts) Takes(site string, r RunPart, m Manifest) error {
	m = m.At(site)
	if err := f.Software.runs(site, m); err != nil {
		return err
	}
	needs := batchNeeds(r, m)
	if len(f.Queues) == 0 || len(needs) == 0 || r.Attributes.ReservationID != "" {
		return nil
	}
	queues, err := f.queues(site, r.Attributes.QueueName)
	if err != nil {
		return err
	}
	for name := range m.CustomAttributes {
		if strings.HasPrefix(name, f.System+".") {
			return nil
		}
	}
	var first *misfit
	for _, q := range queues {
		found := q.misfit(needs, r.Attributes.Duration)
		if found == nil {
			return nil
		}
		if first == nil {
			first = found
		}
	}
	if first == nil {
		return nil
	}
	refusal := Errorf(NotSupportedBySite, "%s of queue %s at %s.", first.text, first.queue.Name, site).At(first.field)
	for _, q := range f.Queues {
		if !q.Closed && !q.Restricted && q.misfit(needs, r.Attributes.Duration) == nil {
			return refusal.Hint("%s", first.better(q))
		}
	}
	return refusal.Hint("No queue there takes all of it; ask for less, or name another site.")
}

// runs says whether the agent has what a code part cannot do without; nil tells
// nothing.
func (s *Software) runs(site string, m Manifest) error {
	if s == nil {
		return nil
	}
	launched := slices.ContainsFunc(m.Plan(), func(step Step) bool { return step.Launcher == "mpi" })
	for _, c := range []struct {
		needed, has          bool
		field, what, setting string
	}{
		{m.Container != nil, s.Containers, "container", "runs no containers", "container"},
		{m.SpackEnvironment != "", s.Spack, "spack_environment", "knows no Spack", "spack_init"},
		{launched, s.MPI, "launcher", "has no launch line for MPI programs", "launcher"},
	} {
		if c.needed && !c.has {
			return Errorf(NotSupportedBySite, "the agent at %s %s.", site, c.what).At(c.field).
				Hint("Name another site, or set %s in that agent's agent.yaml.", c.setting)
		}
	}
	return nil
}

// queues returns those that a job can get into: the one it names, else the
// default ones, else each.
func (f Facts) queues(site, name string) ([]Queue, error) {
	var defaults []Queue
	var names []string
	for _, q := range f.Queues {
		if q.Name == name {
			return []Queue{q}, nil
		}
		if q.Default {
			defaults = append(defaults, q)
		}
		if len(names) < 20 && !q.Restricted {
			names = append(names, q.Name)
		}
	}
	switch {
	case name == "" && len(defaults) > 0:
		return defaults, nil
	case name == "":
		return f.anyQueue(), nil
	case f.OtherQueues || strings.Contains(name, "@"): // QUEUE@SERVER of PBS, QUEUE@HOST of Grid Engine
		return nil, nil
	}
	return nil, Errorf(NotSupportedBySite, "there is no queue %s at %s.", name, site).At("attributes.queue_name").
		Hint("Its queues are %s.", strings.Join(names, ", "))
}

// anyQueue returns the queues for a job that may get into any of them, and, on
// one node, into several at once: what they have of a node says nothing then.
func (f Facts) anyQueue() []Queue {
	var list []Queue
	for _, q := range f.Queues {
		q.CoresPerNode, q.MemoryPerNode = 0, 0
		list = append(list, q)
	}
	return list
}

// need is what one batch step asks for. at is where its resources stand.
type need struct {
	at string
	Resources
}

func batchNeeds(r RunPart, m Manifest) []need {
	var needs []need
	for i, s := range m.Plan() {
		switch {
		case s.Type != BatchStep:
		case s.Resources != nil:
			needs = append(needs, need{fmt.Sprintf("steps[%d].resources.", i), *s.Resources})
		default:
			needs = append(needs, need{"resources.", r.Resources})
		}
	}
	return needs
}

// misfit says why a queue does not take a job. better says of another queue
// what it takes.
type misfit struct {
	queue  Queue
	field  string
	text   string // up to "of queue …"
	better func(Queue) string
}

// misfit returns the first reason, nil when the queue takes the job.
func (q Queue) misfit(needs []need, duration Duration) *misfit {
	if q.MaxDuration > 0 && duration > q.MaxDuration {
		return &misfit{q, "attributes.duration", fmt.Sprintf("%v exceeds %v", duration, q.MaxDuration), func(b Queue) string {
			return takes(b.Name, "%v", b.MaxDuration)
		}}
	}
	for _, n := range needs {
		for _, check := range []func(need) *misfit{q.nodesFor, q.coresFor, q.memoryFor, q.gpusFor} {
			if found := check(n); found != nil {
				found.queue, found.field = q, n.at+found.field
				return found
			}
		}
	}
	return nil
}

// takes is a sentence about another queue's limit.
func takes[T int | Duration](queue, format string, most T) string {
	if most == 0 {
		return fmt.Sprintf("Queue %s sets no limit.", queue)
	}
	return fmt.Sprintf("Queue %s takes "+format+".", queue, most)
}

// mostNodes is how many nodes a job can have; 0 is not told.
func (q Queue) mostNodes() int {
	if q.Nodes > 0 && q.MaxNodes > 0 {
		return min(q.Nodes, q.MaxNodes)
	}
	return max(q.Nodes, q.MaxNodes)
}

func (q Queue) nodesFor(n need) *misfit {
	most, asked := q.mostNodes(), n.Nodes()
	if most == 0 || asked <= most {
		return nil
	}
	better := func(b Queue) string { return takes(b.Name, "%d", b.mostNodes()) }
	if n.NodeCount > 0 {
		return &misfit{field: "node_count", text: fmt.Sprintf("%d exceeds %d", asked, most), better: better}
	}
	text := fmt.Sprintf("%d processes, %d on a node, need %d nodes, which exceeds the %d", n.ProcessCount, n.ProcessesPerNode, asked, most)
	return &misfit{field: "process_count", text: text, better: better}
}

// each is how many processes at least one node gets, whatever the batch system
// does: a number of nodes is exact, and so are processes per node alone.
func (n need) each() int {
	if n.NodeCount == 0 && n.ProcessCount > 0 {
		return 1
	}
	return (n.Processes() + n.Nodes() - 1) / n.Nodes()
}

func (q Queue) coresFor(n need) *misfit {
	if q.CoresPerNode == 0 {
		return nil
	}
	each, cores := n.each(), max(n.CPUCoresPerProcess, 1)
	better := func(b Queue) string {
		return haveMore(b.Name, fmt.Sprintf("%d cores", b.CoresPerNode), b.CoresPerNode == 0)
	}
	total, most := n.Processes()*cores, q.mostNodes()*q.CoresPerNode
	switch {
	case each*cores <= q.CoresPerNode && (most == 0 || total <= most):
		return nil
	case each*cores <= q.CoresPerNode:
		text := fmt.Sprintf("%s exceed the %d cores of all nodes", processes(n.Processes(), cores), most)
		return &misfit{field: "process_count", text: text, better: func(b Queue) string {
			return haveMore(b.Name, fmt.Sprintf("%d cores", b.mostNodes()*b.CoresPerNode), b.mostNodes()*b.CoresPerNode == 0)
		}}
	case cores > q.CoresPerNode:
		return &misfit{field: "cpu_cores_per_process", text: fmt.Sprintf("%d exceeds the %d cores of a node", cores, q.CoresPerNode), better: better}
	case n.ProcessesPerNode > 0:
		return &misfit{field: "processes_per_node", text: fmt.Sprintf("%s exceed the %d cores of a node", processes(each, cores), q.CoresPerNode), better: better}
	}
	text := fmt.Sprintf("of %d processes on %d nodes one gets %d, and %s exceed the %d cores of a node", n.Processes(), n.Nodes(), each, processes(each, cores), q.CoresPerNode)
	if n.Nodes() == 1 {
		text = fmt.Sprintf("%s exceed the %d cores of a node", processes(each, cores), q.CoresPerNode)
	}
	return &misfit{field: "process_count", text: text, better: better}
}

func processes(n, cores int) string {
	if cores == 1 {
		return fmt.Sprintf("%d processes", n)
	}
	return fmt.Sprintf("%d processes of %d cores", n, cores)
}

// memoryFor counts a job's memory as evenly spread over as many nodes as it
// can have.
func (q Queue) memoryFor(n need) *misfit {
	parts := n.Nodes()
	if n.NodeCount == 0 {
		parts = max(parts, n.Processes())
	}
	each := n.Memory / Bytes(parts)
	if q.MemoryPerNode == 0 || each <= q.MemoryPerNode {
		return nil
	}
	text := fmt.Sprintf("%v exceeds %s on each node", n.Memory, inMiB(q.MemoryPerNode))
	if parts > 1 {
		text = fmt.Sprintf("%v on %d nodes exceeds %s on each", n.Memory, parts, inMiB(q.MemoryPerNode))
	}
	return &misfit{field: "memory", text: text, better: func(b Queue) string {
		return haveMore(b.Name, inMiB(b.MemoryPerNode), b.MemoryPerNode == 0)
	}}
}

func (q Queue) gpusFor(n need) *misfit {
	asked := n.each() * n.GPUCoresPerProcess
	if q.GPUsPerNode == 0 || asked <= q.GPUsPerNode {
		return nil
	}
	return &misfit{field: "gpu_cores_per_process", text: fmt.Sprintf("%d on a node exceeds %d", asked, q.GPUsPerNode), better: func(b Queue) string {
		return haveMore(b.Name, fmt.Sprintf("%d GPUs", b.GPUsPerNode), b.GPUsPerNode == 0)
	}}
}

func haveMore(queue, what string, untold bool) string {
	if untold {
		return fmt.Sprintf("Queue %s sets no limit.", queue)
	}
	return fmt.Sprintf("Nodes of queue %s have %s.", queue, what)
}

// inMiB leaves out what nobody asks for.
func inMiB(b Bytes) string { return (b &^ (1<<20 - 1)).String() }
