package custom

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Submit fills in the file's command.
func (d Driver) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	refuse := func(why string) scheduler.Call[[]scheduler.Ref] {
		return scheduler.Call[[]scheduler.Ref]{Refusal: &scheduler.Refused{Message: why}}
	}
	job := asked(s)
	if why := d.unmet(job); why != "" {
		return refuse(why)
	}
	for _, name := range slices.Sorted(maps.Keys(job)) {
		text, ok := job[name].(string)
		if !ok || text == "" || d.mayBe(name, text) {
			continue
		}
		if name == "comment" { // says the same to people, and must not stop the job
			delete(job, name)
			continue
		}
		return refuse(fmt.Sprintf("%s: %s cannot pass on %q. Use letters, digits and . _ - only, or widen allowed.%s in that file", fieldName(name), d.name, text, name))
	}
	attributes, why := d.attributes(s.Custom)
	if why != "" {
		return refuse(why)
	}
	maps.Copy(job, d.common(nil))
	job["attributes"] = attributes
	argv, refusal := d.file.Submit.Command.build(job)
	return scheduler.Call[[]scheduler.Ref]{Argv: argv, Env: d.file.Variables, Refusal: refusal, Parse: d.submitted}
}

// asked are the values of a job's placeholders.
func asked(s scheduler.Submission) values {
	r, a := s.Resources, s.Attributes
	share := func(n int) hpcsera.Bytes { return (r.Memory + hpcsera.Bytes(n) - 1) / hpcsera.Bytes(n) }
	cores := r.Processes() * max(1, r.CPUCoresPerProcess)
	return values{
		"tag": s.Tag, "script": s.Script, "directory": s.Directory, "output": s.Output, "comment": scheduler.Printable(s.Comment, ""),
		"held": s.Held, "requeue": s.Requeue,
		"node_count": r.NodeCount, "process_count": r.ProcessCount, "processes_per_node": r.ProcessesPerNode,
		"cpu_cores_per_process": r.CPUCoresPerProcess, "gpu_cores_per_process": r.GPUCoresPerProcess, "exclusive_node_use": r.ExclusiveNodeUse,
		"nodes": r.Nodes(), "processes": r.Processes(), "cores": cores, "gpus": r.Processes() * r.GPUCoresPerProcess,
		"memory": r.Memory, "memory_per_node": share(r.Nodes()), "memory_per_process": share(r.Processes()), "memory_per_core": share(cores),
		"duration": a.Duration, "queue_name": a.QueueName, "account": a.Account, "reservation_id": a.ReservationID,
	}
}

// serves are the fields that a placeholder passes on, where they are not its own
// name. The fields that may be asked for are all of wanted.
var (
	serves = map[string][]string{
		"nodes": {"node_count"}, "processes": {"process_count", "processes_per_node"}, "cores": {"process_count", "processes_per_node", "cpu_cores_per_process"},
		"gpus": {"gpu_cores_per_process"}, "memory_per_node": {"memory"}, "memory_per_process": {"memory"}, "memory_per_core": {"memory"},
	}
	wanted = []string{
		"held", "requeue", "node_count", "process_count", "processes_per_node", "cpu_cores_per_process", "gpu_cores_per_process", "exclusive_node_use",
		"memory", "duration", "queue_name", "account", "reservation_id",
	}
)

// fieldName is how a job's file calls it.
func fieldName(name string) string {
	switch name {
	case "duration", "queue_name", "account", "reservation_id":
		return "attributes." + name
	case "held", "requeue", "script", "directory", "output", "tag":
		return name
	}
	return "resources." + name
}

// unmet returns why the job cannot have what it asks for.
func (d Driver) unmet(job values) string {
	served := d.file.Submit.Command.fields()
	for _, name := range wanted {
		if !job.set(name) || slices.Contains(served, name) {
			continue
		}
		if n, ok := d.file.Assumed[name]; ok {
			if job[name] != n {
				return fmt.Sprintf("%s: %s has %d and nothing else. Ask for that, or leave it out", fieldName(name), d.file.Product, n)
			}
			continue
		}
		return fmt.Sprintf("%s: %s has no argument for it, so %s would not hear of it. Leave it out, or add it to submit.command of that file", fieldName(name), d.name, d.file.Product)
	}
	return ""
}

// fields are what a command passes on.
func (c command) fields() (list []string) {
	for name := range c.names() {
		list = append(list, name)
		list = append(list, serves[name]...)
	}
	return list
}

// ordinary is what a value may be where the file does not say more.
var ordinary = regexp.MustCompile(`\A[A-Za-z0-9/_.@%+:,=-]+\z`)

// mayBe reports whether a text may stand in an argument. What begins with - never
// may: it would be an option where it is an argument of its own.
func (d Driver) mayBe(name, text string) bool {
	if text[0] == '-' || scheduler.Unprintable(text) {
		return false
	}
	if own, ok := d.file.Allowed[name]; ok {
		return own.is(text)
	}
	return ordinary.MatchString(text)
}

// attributes returns the arguments of custom attributes, or why there are none.
func (d Driver) attributes(custom map[string]string) (argv []string, why string) {
	for _, name := range slices.Sorted(maps.Keys(custom)) {
		a, ok := d.file.Attributes[name]
		if !ok {
			known := slices.Sorted(maps.Keys(d.file.Attributes))
			return nil, fmt.Sprintf("custom_attributes %s.%s is not among those of %s: %s", d.file.System, name, d.name, strings.Join(known, ", "))
		}
		value := custom[name]
		if value == "" || !a.Allowed.is(value) || a.Allowed.Regexp == nil && !ordinary.MatchString(value) || value[0] == '-' {
			return nil, fmt.Sprintf("custom_attributes %s.%s: %s does not allow %q", d.file.System, name, d.name, value)
		}
		for _, t := range a.Arguments {
			argv = append(argv, t.text(values{"value": value}))
		}
	}
	return argv, ""
}

// submitted reads the job's id. Nothing but one clear id is a success, and
// nothing is a refusal once there is an id.
func (d Driver) submitted(out scheduler.Output) ([]scheduler.Ref, error) {
	s, p := d.file.Submit, d.file.Product
	var refs []scheduler.Ref
	for line := range bytes.Lines(out.Stdout) {
		m := s.ID.FindSubmatch(bytes.TrimSpace(line))
		if m == nil {
			continue
		}
		ref := scheduler.Ref{ID: string(m[s.ID.SubexpIndex("id")])}
		if i := s.ID.SubexpIndex("cluster"); i > 0 {
			ref.Cluster = string(m[i])
		}
		if ref.ID == "" || !validID(ref.ID) {
			return nil, p.Garbled("with an id that is none", line)
		}
		refs = append(refs, ref)
	}
	switch {
	case len(refs) == 0 && out.Exit != 0:
		return nil, d.refusal(out)
	case out.Exit != 0:
		return nil, p.Failed(out)
	case len(refs) != 1:
		return nil, p.Garbled(fmt.Sprintf("with %d job ids", len(refs)), out.Stdout)
	}
	return refs, nil
}

// refusal sorts a failed submission by the file's patterns.
func (d Driver) refusal(out scheduler.Output) error {
	s := d.file.Submit
	text := slices.Concat(out.Stderr, []byte("\n"), out.Stdout)
	said := scheduler.Sentences(text, func(line string) string { return line })
	switch {
	case s.Unreached.in(text):
		return &scheduler.Refused{Message: said, Throttled: true, Unreached: true}
	case s.Unsure.in(text):
		return d.file.Product.Failed(out)
	case s.Throttled.in(text):
		return &scheduler.Refused{Message: said, Throttled: true}
	case s.Refused.in(text):
		return &scheduler.Refused{Message: said}
	}
	return d.file.Product.Failed(out)
}
