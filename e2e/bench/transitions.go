package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// transitions measures from a program's first and last act to the event at a
// client, while every command that asks Slurm fails.
func (b *bed) transitions(ctx context.Context) ([]result, error) {
	const n, asked = 60, "median under 1.5 s, no query"
	started, ended := "start of a program to the event at the client", "exit 0 of a program to the event at the client"
	if b.scheduler != "slurm" {
		return append(unmeasured(started, asked), unmeasured(ended, asked)...), nil
	}
	code, agent, err := b.ready("transitions", "date +%s%N >start\nsleep 3\ndate +%s%N >end")
	if err != nil {
		return nil, err
	}
	defer stopAgent(agent)
	refuse := filepath.Join(b.dir, "refuse")
	if err := os.WriteFile(refuse, nil, 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(refuse)
	watching, stop := context.WithCancel(ctx)
	seen, wait := b.watch(watching)
	defer wait()
	defer stop()
	var ids []string
	for range n {
		time.Sleep(370 * time.Millisecond) // at no fixed place in the agent's second
		more, _, err := b.bulkOf(ctx, code, 1)
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	if failed, err := b.ended(ctx, ids); err != nil || failed > 0 {
		return nil, errors.Join(err, fmt.Errorf("%d of %d jobs failed", failed, n))
	}
	var table []result
	for _, c := range []struct {
		what, file string
		state      hpcsera.State
	}{{started, "start", hpcsera.Running}, {ended, "end", hpcsera.Succeeded}} {
		var waits []float64
		for _, id := range ids {
			text, err := os.ReadFile(filepath.Join(b.dir, "agent", "work", id, c.file))
			if err != nil {
				return table, err
			}
			at, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err != nil {
				return table, err
			}
			if told := seen(id, c.state); !told.IsZero() {
				waits = append(waits, told.Sub(time.Unix(0, at)).Seconds())
			}
		}
		slices.Sort(waits)
		if len(waits) < n*9/10 {
			return table, fmt.Errorf("only %d of %d events %s came", len(waits), n, c.state)
		}
		table = append(table, result{c.what, asked, fmt.Sprintf("median %.2f s, at most %.2f s (%d jobs)", median(waits), waits[len(waits)-1], len(waits))})
	}
	return table, nil
}

// watch follows the stream of events. seen tells when a job's first event of a
// state came, zero before.
func (b *bed) watch(ctx context.Context) (seen func(string, hpcsera.State) time.Time, wait func()) {
	type key struct {
		job   string
		state hpcsera.State
	}
	var mu sync.Mutex
	came := map[key]time.Time{}
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := client.New(client.Options{Server: b.url, Token: client.NewSecret(b.token), AllowHTTP: true})
		if err == nil {
			err = c.StreamEvents(ctx, "", -1, func(e hpcsera.Event) error {
				now := time.Now()
				mu.Lock()
				defer mu.Unlock()
				if k := (key{e.Job, e.State}); came[k].IsZero() {
					came[k] = now
				}
				return nil
			})
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "bench: events:", err)
		}
	})
	return func(job string, s hpcsera.State) time.Time {
		mu.Lock()
		defer mu.Unlock()
		return came[key{job, s}]
	}, wg.Wait
}
