package slurm

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

var setting = regexp.MustCompile(`^(\w+) += (.*)$`)

var arrayTasks = regexp.MustCompile(`(?:^|,)max_array_tasks=(\d{1,9})(?:,|$)`)

// fewest returns the smaller limit; 0 is none.
func fewest(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b, 0)
	}
	return min(a, b)
}

// parseConfig reads version, cluster and the largest array from scontrol show
// config.
func parseConfig(out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	var f hpcsera.Facts
	for line := range bytes.Lines(out.Stdout) {
		m := setting.FindSubmatch(bytes.TrimSpace(line))
		if m == nil {
			continue
		}
		switch string(m[1]) {
		case "SLURM_VERSION":
			f.Version = string(m[2])
		case "ClusterName":
			f.Cluster = string(m[2])
		case "MaxArraySize": // one above the largest index, which counts from 0
			size, _ := strconv.Atoi(string(m[2]))
			f.LargestArray = fewest(f.LargestArray, size)
		case "SchedulerParameters":
			if tasks := arrayTasks.FindSubmatch(m[2]); tasks != nil {
				size, _ := strconv.Atoi(string(tasks[1]))
				f.LargestArray = fewest(f.LargestArray, size)
			}
		}
	}
	if f.Version == "" || f.Cluster == "" {
		return hpcsera.Facts{}, product.Garbled("without version and cluster", out.Stdout)
	}
	return f, nil
}

// parsePartitions reads scontrol --oneliner show partition: KEY=VALUE words. It
// adds what sinfo told of the partition's nodes.
func (p *probe) partitions(out scheduler.Output) (hpcsera.Facts, error) {
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	var f hpcsera.Facts
	for line := range bytes.Lines(out.Stdout) {
		values := map[string]string{}
		for _, word := range strings.Fields(string(line)) {
			key, value, _ := strings.Cut(word, "=")
			values[key] = value
		}
		if values["PartitionName"] == "" {
			continue
		}
		q := p.byName[values["PartitionName"]]
		q.Name, q.Default, q.State = values["PartitionName"], values["Default"] == "YES", strings.ToLower(values["State"])
		q.Closed = q.State != "up" && q.State != "down" // down takes jobs, and starts none
		q.Restricted = values["Hidden"] == "YES" || values["RootOnly"] == "YES" || restricts(values["AllowGroups"]) || restricts(values["AllowAccounts"]) || values["DenyAccounts"] != ""
		q.Nodes, _ = strconv.Atoi(values["TotalNodes"])
		q.MaxNodes, _ = strconv.Atoi(values["MaxNodes"]) // UNLIMITED is none
		if most, err := strconv.Atoi(values["MaxCPUsPerNode"]); err == nil {
			q.CoresPerNode = fewest(q.CoresPerNode, most)
		}
		if most, err := strconv.ParseInt(values["MaxMemPerNode"], 10, 40); err == nil && most > 0 && (q.MemoryPerNode == 0 || hpcsera.Bytes(most)<<20 < q.MemoryPerNode) {
			q.MemoryPerNode = hpcsera.Bytes(most) << 20
		}
		q.MaxDuration, q.DefaultDuration = timeLimit(values["MaxTime"]), timeLimit(values["DefaultTime"])
		f.Queues = append(f.Queues, q)
	}
	if len(f.Queues) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a partition", out.Stdout)
	}
	return f, nil
}

// restricts reports whether a list of groups or accounts leaves anybody out.
func restricts(list string) bool { return list != "" && list != "ALL" }

// probe is what one call tells the next. A node can be in several partitions,
// so sinfo is asked for each node, once, and told of each partition.
type probe struct {
	byName map[string]hpcsera.Queue
}

// sinfo's fields: partition, node, state, CPUs, memory in MiB, GRES.
const nodeFormat = "%R\x1f%N\x1f%T\x1f%c\x1f%m\x1f%G"

// nodes reads sinfo -N, a line for each node of each partition.
func (p *probe) nodes(out scheduler.Output) (hpcsera.Facts, error) {
	p.byName = map[string]hpcsera.Queue{}
	if out.Exit != 0 {
		return hpcsera.Facts{}, product.Failed(out)
	}
	counted, all := map[string]bool{}, hpcsera.Nodes{}
	for line := range strings.Lines(string(out.Stdout)) {
		words := strings.Split(strings.TrimRight(line, "\n"), "\x1f")
		if len(words) != 6 {
			continue // a warning, or a partition without nodes
		}
		up, idle := standing(words[2])
		q := p.byName[words[0]]
		if q.Idle == nil {
			q.Idle = new(int)
		}
		if idle {
			*q.Idle++
		}
		cores, _ := strconv.Atoi(words[3])
		memory, _ := strconv.ParseInt(words[4], 10, 40)
		q.CoresPerNode, q.GPUsPerNode = max(q.CoresPerNode, cores), max(q.GPUsPerNode, gpus(words[5]))
		if memory > 1 { // 1 is a site that configured none
			q.MemoryPerNode = max(q.MemoryPerNode, hpcsera.Bytes(memory)<<20)
		}
		p.byName[words[0]] = q
		if counted[words[1]] {
			continue
		}
		counted[words[1]] = true
		all.Total++
		if up {
			all.Up++
		}
		if idle {
			all.Idle++
		}
	}
	if all.Total == 0 {
		return hpcsera.Facts{}, nil
	}
	return hpcsera.Facts{Nodes: &all}, nil
}

// standing reads a node's state, such as mixed, idle* or drained. The letters
// behind it say that it does not answer (*), or sleeps until it is needed (~).
func standing(state string) (up, idle bool) {
	word := strings.TrimRight(state, "*~#!%$@^-+")
	if strings.Contains(state, "*") {
		return false, false
	}
	switch word {
	case "idle":
		return true, true
	case "allocated", "mixed", "completing", "draining", "planned", "reserved":
		return true, false
	}
	return false, false
}

var gres = regexp.MustCompile(`(?:^|,)gpu(?::[^:,(]*)?:(\d{1,6})`)

// gpus adds up a node's GPUs: gpu:4, gpu:a100:4(S:0-1),gpu:v100:2.
func gpus(text string) (n int) {
	for _, m := range gres.FindAllStringSubmatch(text, -1) {
		one, _ := strconv.Atoi(m[1])
		n += one
	}
	return n
}

var jobsPending, jobsRunning = regexp.MustCompile(`(?m)^Jobs pending:\s+(\d{1,9})$`), regexp.MustCompile(`(?m)^Jobs running:\s+(\d{1,9})$`)

// parseLoad reads sdiag, which costs the controller nothing: it counted
// already. Sites may forbid it.
func parseLoad(out scheduler.Output) (hpcsera.Facts, error) {
	p, r := jobsPending.FindSubmatch(out.Stdout), jobsRunning.FindSubmatch(out.Stdout)
	if out.Exit != 0 || p == nil || r == nil {
		return hpcsera.Facts{}, nil
	}
	load := &hpcsera.Load{}
	load.Queued, _ = strconv.Atoi(string(p[1]))
	load.Running, _ = strconv.Atoi(string(r[1]))
	return hpcsera.Facts{Jobs: load}, nil
}

var dayTime = regexp.MustCompile(`^(?:(\d{1,5})-)?(\d{1,5}):(\d{2}):(\d{2})$`)

// timeLimit reads D-HH:MM:SS or HH:MM:SS. UNLIMITED, and what it cannot read,
// is 0: no limit known.
func timeLimit(s string) hpcsera.Duration {
	m := dayTime.FindStringSubmatch(s)
	if m == nil {
		return 0
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1])
	}
	return hpcsera.Duration(time.Duration(((n[0]*24+n[1])*60+n[2])*60+n[3]) * time.Second)
}
