package lsf

import (
	"fmt"
	"strconv"
	"time"

	"github.com/hpcsera/hpcsera"
)

// resources turns what a job needs into options. A slot is a core, so a
// process of several cores takes as many slots, which span keeps together on
// one node.
//
// The limit on memory (-M) is the whole job's, so that it ends no job that
// keeps to what it asked for; what is reserved on each node is its share.
func resources(r hpcsera.Resources) ([]string, error) {
	processes, cores := r.Processes(), max(r.CPUCoresPerProcess, 1)
	perNode, err := processesPerNode(r)
	if err != nil {
		return nil, err
	}
	slots := processes * cores
	var argv []string
	if r.ProcessCount > 0 || slots > 1 {
		argv = append(argv, "-n", strconv.Itoa(slots))
	}
	require := func(format string, args ...any) { argv = append(argv, "-R", fmt.Sprintf(format, args...)) }
	switch {
	case slots == 1:
	case perNode >= processes:
		require("span[hosts=1]")
	case perNode > 0:
		require("span[ptile=%d]", perNode*cores)
	case processes == 1:
		require("span[hosts=1]")
	case cores > 1:
		require("span[block=%d]", cores)
	}
	if r.Memory > 0 {
		whole, share := mebibytes(r.Memory, 1), mebibytes(r.Memory, r.Nodes())
		argv = append(argv, "-M", fmt.Sprintf("%dMB", whole))
		if slots == 1 {
			require("rusage[mem=%dMB]", share)
		} else { // the site may reserve for each task otherwise
			require("rusage[mem=%dMB/host]", share)
		}
	}
	if gpus := r.GPUCoresPerProcess; gpus > 0 {
		switch {
		case processes == 1:
			argv = append(argv, "-gpu", fmt.Sprintf("num=%d/host:j_exclusive=yes", gpus))
		case perNode > 0:
			argv = append(argv, "-gpu", fmt.Sprintf("num=%d/host:j_exclusive=yes", gpus*min(perNode, processes)))
		case cores == 1:
			argv = append(argv, "-gpu", fmt.Sprintf("num=%d/task:j_exclusive=yes", gpus))
		default:
			return nil, fmt.Errorf("resources.gpu_cores_per_process: LSF counts GPUs by node when a process has %d cores; say processes_per_node as well", cores)
		}
	}
	if r.ExclusiveNodeUse {
		argv = append(argv, "-x")
	}
	return argv, nil
}

// processesPerNode returns how many processes a node gets, 0 where LSF may
// choose. LSF fills one node after the other with that many (ptile), so some
// numbers of nodes cannot be had for a number of processes.
func processesPerNode(r hpcsera.Resources) (int, error) {
	perNode := r.ProcessesPerNode
	if r.NodeCount == 0 {
		return perNode, nil
	}
	processes := r.Processes()
	if perNode == 0 {
		perNode = (processes + r.NodeCount - 1) / r.NodeCount
	}
	if nodes := (processes + perNode - 1) / perNode; nodes != r.NodeCount {
		return 0, fmt.Errorf("resources.node_count: LSF spreads %d processes, %d on a node, over %d nodes and not over %d; ask for %d, or for %d processes",
			processes, perNode, nodes, r.NodeCount, nodes, perNode*r.NodeCount)
	}
	return perNode, nil
}

// mebibytes rounds up the share of one of n nodes.
func mebibytes(b hpcsera.Bytes, n int) int64 {
	share := int64(n) << 20
	return (int64(b) + share - 1) / share
}

// attributes turns queue, account, reservation and time limit into options. The
// account is LSF's project; its user groups are a custom attribute.
func attributes(a hpcsera.Attributes) ([]string, error) {
	var argv []string
	if a.Duration > 0 { // in whole minutes, rounded up
		minutes := (time.Duration(a.Duration) + time.Minute - 1) / time.Minute
		argv = append(argv, "-W", fmt.Sprintf("%d:%02d", minutes/60, minutes%60))
	}
	for _, o := range [][3]string{{"-q", a.QueueName, "queue_name"}, {"-P", a.Account, "account"}, {"-U", a.ReservationID, "reservation_id"}} {
		switch {
		case o[1] == "":
		case !plain(o[1]):
			return nil, fmt.Errorf("attributes.%s: %q is no name of LSF's; give one of printable characters that does not begin with a dash", o[2], o[1])
		default:
			argv = append(argv, o[0], o[1])
		}
	}
	return argv, nil
}
