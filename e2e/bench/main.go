// Command bench measures what the project promises about speed and memory,
// against real programs on this machine: hpcserad on SQLite, hpcsera-agent,
// and Slurm where it answers (the table says which). `make bench` runs it.
// Ratios compare figures of one run, taken in turns, since machines differ
// and are noisy. It asserts nothing.
//
// The parts slurm and singles fill Slurm's tables, so they want one of their
// own, as `make bench` starts it. Every command of Slurm that the agent runs
// goes through a script that notes it. Accepted means: the agent's journal has
// sbatch's answer for the last job, which is written just after it came. The loop
// of sbatch hands in held jobs; for the bulk the partitions are down: neither
// side starts a job meanwhile. Transitions are measured while every command
// that asks Slurm fails, from what the program itself wrote down to the event
// on a client's stream. Of parsers the CPU time counts on a machine that does
// other things, too.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// result is one line of the table.
type result struct{ what, asked, measured string }

func run(ctx context.Context) error {
	seconds := flag.Int("seconds", 4, "length of each turn of a rate")
	only := flag.String("only", "", "measure some parts, with commas between: rates, share, verify, bulk, latency, slurm, singles, transitions, parsers, inflight, readiness")
	jobs := flag.Int("in-flight", 1000, "jobs of the agent's memory test")
	flag.Parse()
	b, err := newBed(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	var table []result
	for _, part := range []struct {
		name string
		run  func(context.Context) ([]result, error)
	}{
		{"rates", func(ctx context.Context) ([]result, error) { return b.rates(ctx, time.Duration(*seconds)*time.Second) }},
		{"share", func(ctx context.Context) ([]result, error) {
			return b.share(ctx, 3*time.Duration(*seconds)*time.Second)
		}}, // as long as a rate
		{"verify", b.verification},
		{"bulk", b.bulk},
		{"latency", b.latency},
		{"slurm", b.bulkToSlurm},
		{"singles", b.singles},
		{"transitions", b.transitions},
		{"parsers", b.parsers},
		{"inflight", func(ctx context.Context) ([]result, error) { return b.inFlight(ctx, *jobs) }},
		{"readiness", b.readiness},
	} {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), part.name) {
			continue
		}
		lines, err := part.run(ctx)
		table = append(table, lines...)
		if err != nil {
			show(b, table)
			return err
		}
	}
	show(b, table)
	return nil
}

func show(b *bed, table []result) {
	fmt.Printf("\n%s\n\n", facts(b))
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "what\tasked\tmeasured")
	for _, r := range table {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.what, r.asked, r.measured)
	}
	w.Flush()
}

// facts are what a reader needs to compare two tables.
func facts(b *bed) string {
	cpu := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.Trim(name, " \t:\n")
				break
			}
		}
	}
	kernel, _ := exec.Command("uname", "-r").Output()
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, batch system: %s, one fsync of 500 bytes in the data folder: %v",
		cpu, runtime.NumCPU(), strings.TrimSpace(string(kernel)), runtime.Version(), b.scheduler, fsync(b.dir).Round(10*time.Microsecond))
}

func fsync(dir string) time.Duration {
	f, err := os.CreateTemp(dir, "fsync")
	if err != nil {
		return 0
	}
	defer os.Remove(f.Name())
	defer f.Close()
	began := time.Now()
	for range 50 {
		_, _ = f.Write(make([]byte, 500))
		_ = f.Sync()
	}
	return time.Since(began) / 50
}
