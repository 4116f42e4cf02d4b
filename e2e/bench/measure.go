package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// connections is how many clients ask at once.
const connections = 64

// rate counts how often ask succeeds per second, from all connections.
func rate(length time.Duration, ask func() error) (float64, error) {
	var count atomic.Int64
	var failed atomic.Pointer[error]
	stop := time.Now().Add(length)
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			for time.Now().Before(stop) && failed.Load() == nil {
				if err := ask(); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(count.Load()) / length.Seconds(), nil
}

func median[T interface{ ~int64 | ~float64 }](list []T) T {
	slices.Sort(list)
	if len(list) == 0 {
		return 0
	}
	return list[len(list)/2]
}

// rates measures no-op, POST /jobs and GET /jobs/{id} in turns.
func (b *bed) rates(ctx context.Context, turn time.Duration) ([]result, error) {
	code, err := b.approve(hpcsera.Manifest{Name: "rates", Program: hpcsera.Program{Script: "#!/bin/sh\ntrue\n"}})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(map[string]any{"code": code, "site": "nobody"})
	if err != nil {
		return nil, err
	}
	text, err := b.send("POST", "/jobs", body)
	if err != nil {
		return nil, err
	}
	var job hpcsera.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return nil, err
	}
	asks := []func() error{
		func() error { _, err := b.send("GET", "/tokens/self", nil); return err },
		func() error { _, err := b.send("POST", "/jobs", body); return err },
		func() error { _, err := b.send("GET", "/jobs/"+job.ID, nil); return err },
	}
	var found [3][]float64
	var commits, accepted float64
	for range 3 {
		for i, ask := range asks {
			before, _ := b.metric("hpcsera_db_commits_total")
			r, err := rate(turn, ask)
			if err != nil {
				return nil, err
			}
			if after, err := b.metric("hpcsera_db_commits_total"); err == nil && i == 1 {
				commits += after - before
				accepted += r * turn.Seconds()
			}
			found[i] = append(found[i], r)
		}
	}
	noop, post, get := median(found[0]), median(found[1]), median(found[2])
	return []result{
		{"no-op: GET /tokens/self, 64 connections", "", fmt.Sprintf("%.0f/s", noop)},
		{"POST /jobs, one each, 64 connections", "at least 15 % of no-op", fmt.Sprintf("%.0f/s, %.0f %%", post, 100*post/noop)},
		{"commits per accepted job", "at most 0.1", fmt.Sprintf("%.3f", commits/accepted)},
		{"GET /jobs/{id}, 64 connections", "at least 50 % of no-op", fmt.Sprintf("%.0f/s, %.0f %%", get, 100*get/noop)},
	}, nil
}

// metric reads one counter of the server.
func (b *bed) metric(name string) (float64, error) {
	res, err := b.http.Get(b.metrics + "/metrics")
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return 0, fmt.Errorf("no metric %s", name)
}

// bulk sends 10 000 jobs in one request.
func (b *bed) bulk(context.Context) ([]result, error) {
	code, err := b.approve(hpcsera.Manifest{Name: "rates", Program: hpcsera.Program{Script: "#!/bin/sh\ntrue\n"}})
	if err != nil {
		return nil, err
	}
	list := make([]map[string]any, 10_000)
	for i := range list {
		list[i] = map[string]any{"code": code, "site": "nobody", "labels": map[string]string{"n": strconv.Itoa(i)}}
	}
	body, err := json.Marshal(map[string]any{"jobs": list})
	if err != nil {
		return nil, err
	}
	var took []float64
	for range 3 {
		began := time.Now()
		if _, err := b.send("POST", "/jobs", body); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began).Seconds())
	}
	return []result{{"10 000 jobs in one request", "under 2 s", fmt.Sprintf("%.2f s (median of 3)", median(took))}}, nil
}

// ready approves code of a few lines of shell and starts the agent.
func (b *bed) ready(name, lines string) (code string, agent *exec.Cmd, err error) {
	if code, err = b.approve(hpcsera.Manifest{Name: name, Program: hpcsera.Program{Script: "#!/bin/sh\n" + lines + "\n"}}); err != nil {
		return "", nil, err
	}
	if agent, err = b.startAgent(); err != nil && agent != nil {
		stopAgent(agent)
	}
	return code, agent, err
}

// startAgent starts the daemon and waits until the server saw it.
func (b *bed) startAgent() (*exec.Cmd, error) {
	cmd := b.agentCmd("run")
	log, err := os.OpenFile(filepath.Join(b.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	before, err := os.ReadFile(log.Name()) // of earlier agents
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text, _ := os.ReadFile(log.Name()); strings.Contains(string(text[min(len(before), len(text)):]), "connected") {
			return cmd, nil
		}
	}
	text, _ := os.ReadFile(log.Name())
	return cmd, fmt.Errorf("the agent does not connect:\n%s", text)
}

func stopAgent(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
}

// latency measures from the answer of POST /jobs to the start of sbatch, with
// five jobs a second whatever happens (open loop).
func (b *bed) latency(ctx context.Context) ([]result, error) {
	const what, asked = "POST /jobs accepted to sbatch started, 5/s", "median < 20 ms, p99 < 100 ms"
	if b.scheduler != "slurm" {
		return unmeasured(what, asked), nil
	}
	code, agent, err := b.ready("latency", "true")
	if err != nil {
		return nil, err
	}
	defer stopAgent(agent)
	accepted := map[string]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for range 205 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		wg.Go(func() {
			text, err := b.call("POST", "/jobs", map[string]any{"code": code, "site": "lab"})
			now := time.Now().UnixNano()
			var j hpcsera.Job
			mu.Lock()
			defer mu.Unlock()
			if err = errors.Join(err, json.Unmarshal(text, &j)); err != nil {
				failed = err
				return
			}
			accepted[j.ID] = now
		})
	}
	wg.Wait()
	time.Sleep(2 * time.Second)
	if failed != nil {
		return nil, failed
	}
	tags, err := b.submissions()
	if err != nil {
		return nil, err
	}
	var waits []float64
	list, err := b.commands(time.Time{})
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		for _, job := range tags[c.tag] {
			if accepted[job] != 0 {
				waits = append(waits, float64(c.at-accepted[job])/1e6)
			}
		}
	}
	if len(waits) < 200 {
		return nil, fmt.Errorf("only %d of 205 jobs were submitted", len(waits))
	}
	slices.Sort(waits)
	return []result{{what, asked,
		fmt.Sprintf("median %.1f ms, p99 %.1f ms (%d jobs)", waits[len(waits)/2], waits[len(waits)*99/100], len(waits))}}, nil
}

// journal reads the agent's journal: its entries of one kind, submit before the
// command, submitted after it.
func (b *bed) journal(kind journal.Kind) (list []journal.Entry, err error) {
	_, err = journal.Replay(filepath.Join(b.dir, "agent", "journal"), func(e journal.Entry) {
		if e.Kind == kind {
			list = append(list, e)
		}
	})
	return list, err
}

// submissions tells which jobs a tag was for.
func (b *bed) submissions() (map[string][]string, error) {
	tags := map[string][]string{}
	entries, err := b.journal(journal.KindSubmit)
	for _, e := range entries {
		tags[e.Tag] = append(tags[e.Tag], e.Job)
	}
	return tags, err
}

// inFlight measures an agent that has many jobs waiting in the queue.
func (b *bed) inFlight(ctx context.Context, jobs int) ([]result, error) {
	code, agent, err := b.ready("inflight", "sleep 600")
	if err != nil {
		return nil, err
	}
	defer stopAgent(agent)
	ids, _, err := b.bulkOf(ctx, code, jobs)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = b.cancel(ctx, ids) }()
	time.Sleep(20 * time.Second) // the queries that follow a submission are over
	cpu0, _, err := usage(agent.Process.Pid)
	if err != nil {
		return nil, err
	}
	queries0 := b.queries()
	const window = 60 * time.Second
	time.Sleep(window)
	cpu1, rss, err := usage(agent.Process.Pid)
	if err != nil {
		return nil, err
	}
	return []result{
		{fmt.Sprintf("agent with %d jobs in flight: resident", jobs), "under 40 MiB", fmt.Sprintf("%.1f MiB", rss)},
		{fmt.Sprintf("agent with %d jobs in flight: CPU", jobs), "under 2 % of a core", fmt.Sprintf("%.2f %%", 100*(cpu1-cpu0).Seconds()/window.Seconds())},
		{"scheduler queries in 60 s (poll interval 15 s)", "one per cycle", strconv.Itoa(b.queries() - queries0)},
	}, nil
}

// queries is how many listings the agent says it asked for.
func (b *bed) queries() int {
	text, err := os.ReadFile(filepath.Join(b.dir, "agent", "status.json"))
	var s struct {
		Commands struct{ Queue, History struct{ Runs int } }
	}
	if err != nil || json.Unmarshal(text, &s) != nil {
		return -1
	}
	return s.Commands.Queue.Runs + s.Commands.History.Runs
}

// usage returns a process's CPU time and resident memory in MiB (proc(5)).
func usage(pid int) (time.Duration, float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 22 {
		return 0, 0, errors.New("/proc: too few fields")
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	pages, _ := strconv.ParseInt(fields[21], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, float64(pages*int64(os.Getpagesize())) / (1 << 20), nil
}

// readiness restarts the server on its database, which is large by now.
func (b *bed) readiness(context.Context) ([]result, error) {
	var took []float64
	for range 5 {
		if err := b.server.Process.Signal(syscall.SIGTERM); err != nil {
			return nil, err
		}
		_ = b.server.Wait()
		began := time.Now()
		if err := b.startServer(); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(began).Milliseconds()))
	}
	return []result{{"hpcserad start to ready, existing database", "under 300 ms", fmt.Sprintf("%.0f ms (median of 5)", median(took))}}, nil
}
