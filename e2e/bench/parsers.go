package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// parsers runs the drivers' own benchmark of a listing of 10 000 jobs.
func (b *bed) parsers(ctx context.Context) ([]result, error) {
	test := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkListingOf10000Jobs$", "-benchtime", "20x", "-cpu", "1", "-p", "1", "./internal/scheduler/...")
	test.Stderr = os.Stderr
	out, err := test.Output()
	if err != nil {
		return nil, fmt.Errorf("benchmark the drivers: %w: %s", err, out)
	}
	var table []result
	driver := ""
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 2 && f[0] == "pkg:":
			driver = path.Base(f[1])
		case strings.HasPrefix(line, "BenchmarkListing"):
			took := map[string]float64{} // by unit
			for i := 2; i+1 < len(f); i += 2 {
				took[f[i+1]], _ = strconv.ParseFloat(f[i], 64)
			}
			table = append(table, result{"reading a listing of 10 000 jobs, " + driver, "under 100 ms",
				fmt.Sprintf("%.0f ms of CPU, %.0f ms by the clock", took["cpu-ns/op"]/1e6, took["ns/op"]/1e6)})
		}
	}
	if len(table) == 0 {
		return nil, fmt.Errorf("no driver has a benchmark: %s", out)
	}
	return table, nil
}
