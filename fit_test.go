package hpcsera_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// gwdg is a site with a queue for most jobs and one each for what is larger.
func gwdg() hpcsera.Facts {
	return hpcsera.Facts{System: "slurm", Queues: []hpcsera.Queue{
		{Name: "medium", Default: true, Nodes: 600, MaxNodes: 128, CoresPerNode: 96, MemoryPerNode: 384 << 30, MaxDuration: hpcsera.Duration(24 * time.Hour)},
		{Name: "vip", Restricted: true, Nodes: 600},
		{Name: "large", Nodes: 600, MaxNodes: 512, CoresPerNode: 96, MemoryPerNode: 384 << 30, MaxDuration: hpcsera.Duration(12 * time.Hour)},
		{Name: "fat", Nodes: 2, CoresPerNode: 192, MemoryPerNode: 2 << 40, GPUsPerNode: 4, MaxDuration: hpcsera.Duration(48 * time.Hour)},
	}}
}

func TestWhatASiteCannotHonourIsRefusedWithTheNearestThingThatWorks(t *testing.T) {
	type run = func(*hpcsera.RunPart)
	for _, c := range []struct {
		name, field, say string
		edit             run
	}{
		{"too many nodes", "resources.node_count", "400 exceeds 128 of queue medium at gwdg. Queue large takes 512.", func(r *hpcsera.RunPart) { r.Resources.NodeCount = 400 }},
		{"more nodes than there are", "resources.node_count", "601 exceeds 128 of queue medium at gwdg. No queue there takes all of it; ask for less, or name another site.",
			func(r *hpcsera.RunPart) { r.Resources.NodeCount = 601 }},
		{"more nodes than the queue has", "resources.node_count", "3 exceeds 2 of queue fat at gwdg. Queue medium takes 128.",
			func(r *hpcsera.RunPart) { r.Resources.NodeCount, r.Attributes.QueueName = 3, "fat" }},
		{"too many processes for the nodes", "resources.process_count", "12800 processes, 64 on a node, need 200 nodes, which exceeds the 128 of queue medium at gwdg. Queue large takes 512.",
			func(r *hpcsera.RunPart) { r.Resources = hpcsera.Resources{ProcessCount: 12800, ProcessesPerNode: 64} }},
		{"too many processes for all cores", "resources.process_count", "20000 processes exceed the 12288 cores of all nodes of queue medium at gwdg. Nodes of queue large have 49152 cores.",
			func(r *hpcsera.RunPart) { r.Resources.ProcessCount = 20000 }},
		{"too many processes on a node", "resources.processes_per_node", "100 processes exceed the 96 cores of a node of queue medium at gwdg. Nodes of queue fat have 192 cores.",
			func(r *hpcsera.RunPart) { r.Resources.ProcessesPerNode = 100 }},
		{"too many processes on two nodes", "resources.process_count", "of 200 processes on 2 nodes one gets 100, and 100 processes exceed the 96 cores of a node of queue medium at gwdg. Nodes of queue fat have 192 cores.",
			func(r *hpcsera.RunPart) { r.Resources = hpcsera.Resources{NodeCount: 2, ProcessCount: 200} }},
		{"a process with too many cores", "resources.cpu_cores_per_process", "97 exceeds the 96 cores of a node of queue medium at gwdg. Nodes of queue fat have 192 cores.",
			func(r *hpcsera.RunPart) { r.Resources.CPUCoresPerProcess = 97 }},
		{"too much memory", "resources.memory", "1TiB exceeds 384GiB on each node of queue medium at gwdg. Nodes of queue fat have 2TiB.", func(r *hpcsera.RunPart) { r.Resources.Memory = 1 << 40 }},
		{"too much memory on each of two nodes", "resources.memory", "1TiB on 2 nodes exceeds 384GiB on each of queue medium at gwdg. Nodes of queue fat have 2TiB.",
			func(r *hpcsera.RunPart) { r.Resources.Memory, r.Resources.NodeCount = 1<<40, 2 }},
		{"too many GPUs", "resources.gpu_cores_per_process", "5 on a node exceeds 4 of queue fat at gwdg. Queue medium sets no limit.",
			func(r *hpcsera.RunPart) { r.Resources.GPUCoresPerProcess, r.Attributes.QueueName = 5, "fat" }},
		{"too long", "attributes.duration", "30h exceeds 24h of queue medium at gwdg. Queue fat takes 48h.", func(r *hpcsera.RunPart) { r.Attributes.Duration = hpcsera.Duration(30 * time.Hour) }},
		{"a queue that is not there", "attributes.queue_name", "there is no queue nosuch at gwdg. Its queues are medium, large, fat.", func(r *hpcsera.RunPart) { r.Attributes.QueueName = "nosuch" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r hpcsera.RunPart
			c.edit(&r)
			err := gwdg().Takes("gwdg", r, hpcsera.Manifest{})
			expectField(t, c.name, err, hpcsera.NotSupportedBySite, c.field)
			var e *hpcsera.Error
			if errors.As(err, &e); err == nil || e.Message+" "+e.Advice != c.say {
				t.Errorf("got  %v\nwant %s", err, c.say)
			}
		})
	}
}

func TestOnlyWhatIsToldAndClearIsRefused(t *testing.T) {
	huge := hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 10_000, Memory: 1 << 50}, Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(9000 * time.Hour)}}
	at := func(edit func(*hpcsera.RunPart)) hpcsera.RunPart {
		r := huge
		edit(&r)
		return r
	}
	noDefault := hpcsera.Facts{System: "sge", Queues: []hpcsera.Queue{{Name: "a", Nodes: 1, CoresPerNode: 2, MaxDuration: hpcsera.Duration(time.Hour)}, {Name: "b", Nodes: 2, CoresPerNode: 2}}}
	for name, c := range map[string]struct {
		facts hpcsera.Facts
		run   hpcsera.RunPart
		m     hpcsera.Manifest
	}{
		"no facts at all":               {hpcsera.Facts{}, huge, hpcsera.Manifest{}},
		"a queue without limits":        {gwdg(), at(func(r *hpcsera.RunPart) { r.Attributes.QueueName = "vip"; r.Resources.NodeCount = 600 }), hpcsera.Manifest{}},
		"a reservation":                 {gwdg(), at(func(r *hpcsera.RunPart) { r.Attributes.ReservationID = "r1" }), hpcsera.Manifest{}},
		"a quality of service":          {gwdg(), huge, hpcsera.Manifest{CustomAttributes: map[string]string{"slurm.qos": "long"}}},
		"login steps":                   {gwdg(), huge, hpcsera.Manifest{Steps: []hpcsera.Step{{Name: "a", Type: hpcsera.LoginStep}}}},
		"a queue at another server":     {gwdg(), hpcsera.RunPart{Attributes: hpcsera.Attributes{QueueName: "q@other"}}, hpcsera.Manifest{}},
		"queues that are not all told":  {hpcsera.Facts{OtherQueues: true, Queues: gwdg().Queues}, hpcsera.RunPart{Attributes: hpcsera.Attributes{QueueName: "q"}}, hpcsera.Manifest{}},
		"any queue, and one takes it":   {noDefault, hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 2}, Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(2 * time.Hour)}}, hpcsera.Manifest{}},
		"cores of several queues":       {noDefault, hpcsera.RunPart{Resources: hpcsera.Resources{ProcessCount: 4}}, hpcsera.Manifest{}},
		"memory that processes share":   {gwdg(), hpcsera.RunPart{Resources: hpcsera.Resources{ProcessCount: 4, Memory: 1 << 40}}, hpcsera.Manifest{}},
		"processes that may be spread":  {gwdg(), hpcsera.RunPart{Resources: hpcsera.Resources{ProcessCount: 200}}, hpcsera.Manifest{}},
		"exactly what there is":         {gwdg(), hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 128, ProcessesPerNode: 96}, Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(24 * time.Hour)}}, hpcsera.Manifest{}},
		"a queue that is closed to day": {hpcsera.Facts{Queues: []hpcsera.Queue{{Name: "a", Closed: true}}}, hpcsera.RunPart{Attributes: hpcsera.Attributes{QueueName: "a"}}, hpcsera.Manifest{}},
	} {
		if err := c.facts.Takes("gwdg", c.run, c.m); err != nil {
			t.Errorf("%s: got %v, want it left to the batch system", name, err)
		}
	}
	custom := hpcsera.Manifest{CustomAttributes: map[string]string{"pbs.group": "x"}}
	if gwdg().Takes("gwdg", huge, custom) == nil {
		t.Error("another system's custom attributes lift no limit")
	}
	steps := hpcsera.Manifest{Steps: []hpcsera.Step{{Name: "a", Type: hpcsera.LoginStep}, {Name: "b", Type: hpcsera.BatchStep, Resources: &hpcsera.Resources{NodeCount: 200}}}}
	expectField(t, "a step's own", gwdg().Takes("gwdg", hpcsera.RunPart{}, steps), hpcsera.NotSupportedBySite, "steps[1].resources.node_count")
}

func TestFactsCanAlwaysBeTold(t *testing.T) {
	f := hpcsera.Facts{Queues: []hpcsera.Queue{{Name: "q", MaxDuration: hpcsera.Duration(20 * 365 * 24 * time.Hour), DefaultDuration: -1, MemoryPerNode: 1<<30 + 1}}}
	if q := f.Usable().Queues[0]; q.MaxDuration != 0 || q.DefaultDuration != 0 || q.MemoryPerNode != 1<<30 {
		t.Errorf("got %+v", q)
	}
	if q := f.Queues[0]; q.MemoryPerNode != 1<<30+1 {
		t.Errorf("the facts themselves were changed: %+v", q)
	}
	long := strings.Repeat("ä", 300)
	f = hpcsera.Facts{Version: long, SystemVersion: long, Cluster: long, System: long, Queues: []hpcsera.Queue{{Name: long}, {Name: "q", State: long}}}
	for i := range 3000 {
		f.Queues = append(f.Queues, hpcsera.Queue{Name: fmt.Sprint("q", i)})
	}
	f = f.Usable()
	for _, text := range []string{f.Version, f.SystemVersion, f.Cluster, f.System, f.Queues[0].State} {
		if len(text) > 255 || !strings.HasPrefix(long, text) {
			t.Errorf("a text of %d bytes is told: %q", len(text), text)
		}
	}
	if len(f.Queues) != 2000 || f.Queues[0].Name != "q" || !f.OtherQueues || len(f.System) > 64 {
		t.Errorf("%d queues are told, the first is %s; others are said to be there: %t", len(f.Queues), f.Queues[0].Name, f.OtherQueues)
	}
}

func TestWhatTheAgentDoesNotProvideIsRefused(t *testing.T) {
	image := hpcsera.Manifest{Container: &hpcsera.Container{}}
	spack := hpcsera.Manifest{SpackEnvironment: "cfd"}
	mpi := hpcsera.Manifest{Steps: []hpcsera.Step{{Name: "a", Type: hpcsera.BatchStep, Program: hpcsera.Program{Launcher: "mpi"}}}}
	all := hpcsera.Software{Containers: true, Spack: true, MPI: true}
	for field, c := range map[string]struct {
		m    hpcsera.Manifest
		take func(*hpcsera.Software)
	}{
		"container":         {image, func(s *hpcsera.Software) { s.Containers = false }},
		"spack_environment": {spack, func(s *hpcsera.Software) { s.Spack = false }},
		"launcher":          {mpi, func(s *hpcsera.Software) { s.MPI = false }},
	} {
		less := all
		c.take(&less)
		for told, f := range map[string]hpcsera.Facts{"nothing": {}, "all": {Software: &all}} {
			if err := f.Takes("gwdg", hpcsera.RunPart{}, c.m); err != nil {
				t.Errorf("%s, where %s is told: got %v, want it taken", field, told, err)
			}
		}
		expectField(t, field, hpcsera.Facts{Software: &less}.Takes("gwdg", hpcsera.RunPart{}, c.m), hpcsera.NotSupportedBySite, field)
		if err := (hpcsera.Facts{Software: &less}).Takes("gwdg", hpcsera.RunPart{}, hpcsera.Manifest{}); err != nil {
			t.Errorf("%s is not asked for: got %v", field, err)
		}
	}
}
