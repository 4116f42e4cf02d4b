package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/hpcsera/hpcsera"
)

// runFlags are the flags that change a job's run part: they win over job.yaml
// and over a script's directives. None touches the code part, so none asks
// for consent.
type runFlags struct {
	flags *pflag.FlagSet

	site, queue, account, reservation, duration, memory string
	nodes, processes, perNode, cores, gpus              int
	exclusive, requeue, hold                            bool
	values, labels, annotations, after                  []string
}

// addRunFlags adds the flags to a command.
func addRunFlags(f *pflag.FlagSet) *runFlags {
	r := &runFlags{flags: f}
	f.StringArrayVarP(&r.values, "value", "p", nil, "NAME=VALUE of a parameter; may be repeated")
	f.StringVar(&r.site, "site", "", "site to run at, or SITE,SITE: the first that can take it (HPCSERA_SITE, or the context's)")
	f.StringVar(&r.queue, "queue", "", "queue (partition)")
	f.StringVar(&r.account, "account", "", "account to charge")
	f.StringVar(&r.reservation, "reservation", "", "reservation to use")
	f.StringVar(&r.duration, "duration", "", "time limit, such as 2h30m")
	f.IntVar(&r.nodes, "nodes", 0, "number of nodes")
	f.IntVar(&r.processes, "processes", 0, "number of processes (MPI ranks)")
	f.IntVar(&r.perNode, "processes-per-node", 0, "processes on each node")
	f.IntVar(&r.cores, "cores", 0, "CPU cores for each process")
	f.IntVar(&r.gpus, "gpus", 0, "GPUs for each process")
	f.StringVar(&r.memory, "memory", "", "memory of the whole job, such as 32GiB")
	f.BoolVar(&r.exclusive, "exclusive", false, "share the nodes with nobody")
	f.BoolVar(&r.requeue, "requeue", false, "let the site run it again after a node failure")
	f.BoolVar(&r.hold, "hold", false, "hold it until hpcsera release")
	f.StringArrayVar(&r.labels, "label", nil, "KEY=VALUE; may be repeated")
	f.StringArrayVar(&r.annotations, "annotation", nil, "KEY=VALUE; may be repeated")
	f.StringArrayVar(&r.after, "after", nil, "JOB[:STATE] that must be reached first (succeeded); may be repeated")
	return r
}

// apply puts the flags that were given over a job's run part. site is where
// jobs go that name none.
func (r *runFlags) apply(spec *hpcsera.JobSpec, site string) error {
	if err := r.applyTo(&spec.Resources, &spec.Attributes); err != nil {
		return err
	}
	for site, overlay := range spec.Overlays {
		if err := r.applyTo(&overlay.Resources, &overlay.Attributes); err != nil {
			return err
		}
		spec.Overlays[site] = overlay
	}
	r.flag("requeue", r.requeue, &spec.Requeue)
	r.flag("hold", r.hold, &spec.Hold)
	spec.Site = hpcsera.Sites(first(r.site, string(spec.Site), site))
	if err := pairs("--label", r.labels, &spec.Labels); err != nil {
		return err
	}
	if err := pairs("--annotation", r.annotations, &spec.Annotations); err != nil {
		return err
	}
	for _, text := range r.after {
		job, state, _ := strings.Cut(text, ":")
		if !hpcsera.ValidID("j", job) {
			return usageError{fmt.Errorf("--after takes JOB or JOB:STATE, not %q", text)}
		}
		spec.Dependencies = append(spec.Dependencies, hpcsera.Dependency{Job: job, State: hpcsera.State(first(state, string(hpcsera.Succeeded)))})
	}
	return nil
}

// applyTo puts the flags over resources and attributes: those that the job has
// everywhere, and those that it has at one site.
func (r *runFlags) applyTo(res *hpcsera.Resources, a *hpcsera.Attributes) error {
	a.QueueName, a.Account, a.ReservationID = first(r.queue, a.QueueName), first(r.account, a.Account), first(r.reservation, a.ReservationID)
	if r.duration != "" {
		d, err := hpcsera.ParseDuration(r.duration)
		if err != nil {
			return usageError{fmt.Errorf("--duration: %w", err)}
		}
		a.Duration = d
	}
	if r.memory != "" {
		m, err := hpcsera.ParseBytes(r.memory)
		if err != nil {
			return usageError{fmt.Errorf("--memory: %w", err)}
		}
		res.Memory = m
	}
	r.number("nodes", r.nodes, &res.NodeCount)
	r.number("processes", r.processes, &res.ProcessCount)
	r.number("processes-per-node", r.perNode, &res.ProcessesPerNode)
	r.number("cores", r.cores, &res.CPUCoresPerProcess)
	r.number("gpus", r.gpus, &res.GPUCoresPerProcess)
	r.flag("exclusive", r.exclusive, &res.ExclusiveNodeUse)
	return nil
}

// asked returns the flags that say what is asked for of a site, as they can be
// written again: what is approved depends on them.
func (r *runFlags) asked() string {
	text := ""
	r.flags.Visit(func(f *pflag.Flag) {
		switch {
		case flagOf[f.Name] == "":
		case f.Value.Type() == "bool":
			text += " --" + f.Name
		default:
			text += " --" + f.Name + " " + f.Value.String()
		}
	})
	return clean(text)
}

// flagOf is each flag's field of a job.
var flagOf = map[string]string{
	"site": "site", "queue": "attributes.queue_name", "account": "attributes.account", "reservation": "attributes.reservation_id",
	"duration": "attributes.duration", "nodes": "resources.node_count", "processes": "resources.process_count",
	"processes-per-node": "resources.processes_per_node", "cores": "resources.cpu_cores_per_process", "gpus": "resources.gpu_cores_per_process",
	"memory": "resources.memory", "exclusive": "resources.exclusive_node_use", "requeue": "requeue", "hold": "hold",
}

// given names the flag of each field that one was given for, so that the job
// file is not blamed for it.
func (r *runFlags) given() map[string]string {
	fields := map[string]string{}
	for flag, field := range flagOf {
		if r.flags.Changed(flag) {
			fields[field] = "--" + flag
		}
	}
	if fields["resources.node_count"] == "" && r.flags.Changed("processes") {
		fields["resources.node_count"] = "--processes" // which the number of nodes follows from
	}
	return fields
}

func (r *runFlags) number(name string, value int, target *int) {
	if r.flags.Changed(name) {
		*target = value
	}
}

func (r *runFlags) flag(name string, value bool, target *bool) {
	if r.flags.Changed(name) {
		*target = value
	}
}

// pairs adds KEY=VALUE words to a map.
func pairs(flag string, words []string, set *map[string]string) error {
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return usageError{fmt.Errorf("%s takes KEY=VALUE, not %q", flag, word)}
		}
		if *set == nil {
			*set = map[string]string{}
		}
		(*set)[key] = value
	}
	return nil
}
