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

// parseConfig reads version and cluster from scontrol show config.
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
		}
	}
	if f.Version == "" || f.Cluster == "" {
		return hpcsera.Facts{}, product.Garbled("without version and cluster", out.Stdout)
	}
	return f, nil
}

// parsePartitions reads scontrol --oneliner show partition: KEY=VALUE words.
func parsePartitions(out scheduler.Output) (hpcsera.Facts, error) {
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
		nodes, _ := strconv.Atoi(values["TotalNodes"])
		f.Queues = append(f.Queues, hpcsera.Queue{
			Name: values["PartitionName"], Default: values["Default"] == "YES", State: strings.ToLower(values["State"]),
			Nodes: nodes, MaxDuration: timeLimit(values["MaxTime"]),
		})
	}
	if len(f.Queues) == 0 {
		return hpcsera.Facts{}, product.Garbled("without a partition", out.Stdout)
	}
	return f, nil
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
