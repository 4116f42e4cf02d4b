package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
)

// The parts of this file fill a Slurm to the brim and close its partitions, so
// they want one of their own.

// own reports whether Slurm is the test bed's.
func (b *bed) own() bool { return b.scheduler == "slurm" && os.Getenv("HPCSERA_TEST_SLURM") != "" }

func unmeasured(what, asked string) []result {
	return []result{{what, asked, "not measured: there is no Slurm here that is the bench's own"}}
}

// slurm runs a command of Slurm that counts for nobody.
func slurm(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", name, err, exit.Stderr)
	}
	return string(out), err
}

// partitions lets waiting jobs start, or keeps them waiting.
func partitions(state string) error {
	for _, name := range []string{"debug", "batch"} {
		if _, err := slurm("scontrol", "update", "partition="+name, "state="+state); err != nil {
			return err
		}
	}
	return nil
}

// forgotten waits until Slurm's list is empty of ended jobs, too: they count
// for MaxJobCount.
func forgotten(ctx context.Context) error {
	for deadline := time.Now().Add(5 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		if out, err := slurm("squeue", "--noheader", "--states=all"); err != nil || out == "" || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
	return errors.New("Slurm does not forget the jobs that have ended")
}

// recorded are the commands of Slurm that the agent may run.
var recorded = []string{"sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo"}

// recorder stands in for a command: it notes which, when it was started and for
// which tag, and becomes it. A file named refuse beside it makes all of them
// fail but sbatch. The agent hands no strange variable to a command, so paths
// are written into it.
const recorder = `#!/bin/sh
tag=-
for a; do case $a in --job-name=*) tag=${a#--job-name=} ;; esac; done
echo "%[1]s $(date +%%s%%N) $tag" >>'%[2]s/commands'
[ %[1]s = sbatch ] || [ ! -e '%[2]s/refuse' ] || exit 1
exec /usr/bin/%[1]s "$@"
`

// recorders writes a recorder for each command and returns the agent's setting
// that names them.
func (b *bed) recorders() (setting string, err error) {
	setting = "commands:\n"
	for _, name := range recorded {
		path := filepath.Join(b.dir, name)
		if err := os.WriteFile(path, fmt.Appendf(nil, recorder, name, b.dir), 0o700); err != nil {
			return "", err
		}
		setting += "  " + name + ": " + path + "\n"
	}
	return setting, nil
}

// command is one that the agent ran.
type command struct {
	name, tag string
	at        int64 // nanoseconds
}

// commands lists what the agent ran since then.
func (b *bed) commands(since time.Time) ([]command, error) {
	text, err := os.ReadFile(filepath.Join(b.dir, "commands"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []command
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), " ")
		if len(f) != 3 {
			return nil, fmt.Errorf("a record of a command: %q", line)
		}
		at, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return nil, err
		}
		if since.IsZero() || at >= since.UnixNano() {
			list = append(list, command{f[0], f[2], at})
		}
	}
	return list, nil
}

// told counts commands by name.
func told(list []command) string {
	n := map[string]int{}
	for _, c := range list {
		n[c.name]++
	}
	var words []string
	for _, name := range recorded {
		if n[name] > 0 {
			words = append(words, fmt.Sprintf("%d %s", n[name], name))
		}
	}
	return fmt.Sprintf("%d (%s)", len(list), strings.Join(words, ", "))
}

// like returns the request for n jobs of one code.
func like(code string, n int) map[string]any {
	list := make([]map[string]any, n)
	for i := range list {
		list[i] = map[string]any{"code": code, "site": "lab"}
	}
	return map[string]any{"jobs": list}
}

// bulkOf sends n jobs as one request and returns when Slurm took the last of
// them, by the agent's journal: the first line of each submission is written just
// after sbatch's answer.
func (b *bed) bulkOf(ctx context.Context, code string, n int) (ids []string, took time.Duration, err error) {
	body, err := json.Marshal(like(code, n))
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	text, err := b.send("POST", "/jobs", body)
	if err != nil {
		return nil, 0, err
	}
	var answer struct{ Jobs []struct{ ID string } }
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, 0, err
	}
	wanted := map[string]bool{}
	for _, j := range answer.Jobs {
		ids = append(ids, j.ID)
		wanted[j.ID] = true
	}
	for deadline := began.Add(5 * time.Minute); ; {
		time.Sleep(2 * time.Second) // reading a journal takes what is measured from it: a core
		entries, err := b.journal("submitted")
		if err != nil {
			return ids, 0, err
		}
		in, tags := map[string]bool{}, map[string]bool{}
		var last time.Time
		for _, e := range entries {
			if !wanted[e.Job] {
				continue
			}
			if !tags[e.Tag] && e.At.After(last) {
				last = e.At
			}
			in[e.Job], tags[e.Tag] = true, true
		}
		if len(in) == n {
			return ids, last.Sub(began), nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return ids, 0, fmt.Errorf("only %d of %d jobs were submitted in five minutes", len(in), n)
		}
	}
}

// ended waits for the end of jobs and counts those that did not succeed.
func (b *bed) ended(ctx context.Context, ids []string) (failed int, err error) {
	deadline := time.Now().Add(15 * time.Minute)
	for _, id := range ids {
		var j hpcsera.Job
		for !j.State.Final() {
			text, err := b.call("GET", fmt.Sprintf("/jobs/%s?wait=20&since=%d", id, j.Version), nil)
			if err = errors.Join(err, ctx.Err()); err == nil {
				err = json.Unmarshal(text, &j)
			}
			if err != nil {
				return 0, err
			}
			if time.Now().After(deadline) {
				return 0, fmt.Errorf("job %s is %s after 15 minutes", id, j.State)
			}
		}
		if j.State != hpcsera.Succeeded {
			failed++
		}
	}
	return failed, nil
}

// cancel ends jobs that wait and returns what that cost.
func (b *bed) cancel(ctx context.Context, ids []string) (cost string, err error) {
	began := time.Now()
	if err := each(ids, func(id string) error { _, err := b.call("DELETE", "/jobs/"+id, nil); return err }); err != nil {
		return "", err
	}
	if _, err := b.ended(ctx, ids); err != nil {
		return "", err
	}
	list, err := b.commands(began)
	return told(list), err
}

// each calls ask for all of list, from all connections, until one fails.
func each[T any](list []T, ask func(T) error) error {
	next := make(chan T)
	failed := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			for v := range next {
				if failed[i] == nil {
					failed[i] = ask(v)
				}
			}
		})
	}
	for _, v := range list {
		next <- v
	}
	close(next)
	wg.Wait()
	return errors.Join(failed...)
}

// bulkToSlurm compares a bulk request with a loop of sbatch, and counts what a
// full queue costs. Nothing starts meanwhile.
func (b *bed) bulkToSlurm(ctx context.Context) (table []result, err error) {
	const compared, asked = "1 000 jobs in one request, accepted by Slurm", "under 1/20 of a loop of sbatch"
	const many, few = "9 000 jobs in one request: commands until Slurm took the last", "at most 30"
	if !b.own() {
		return append(unmeasured(compared, asked), unmeasured(many, few)...), nil
	}
	if err := errors.Join(forgotten(ctx), partitions("down")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, partitions("up")) }()
	code, agent, err := b.ready("bulk", "true")
	if err != nil {
		return nil, err
	}
	defer stopAgent(agent)
	if table, err = b.bulkAgainstLoop(ctx, code, compared, asked); err != nil {
		return table, err
	}
	if err := forgotten(ctx); err != nil {
		return table, err
	}
	began := time.Now()
	ids, took, err := b.bulkOf(ctx, code, 9000)
	if err != nil {
		return table, err
	}
	list, err := b.commands(began)
	if err != nil {
		return table, err
	}
	for i, c := range list {
		if c.at > began.Add(took).UnixNano() {
			list = list[:i]
			break
		}
	}
	table = append(table, result{many, few, fmt.Sprintf("%s, after %.1f s", told(list), took.Seconds())})
	cost, err := b.cancel(ctx, ids)
	table = append(table, result{"cancelling these 9 000, one DELETE each: commands until the last has ended", "", cost})
	return table, errors.Join(err, forgotten(ctx))
}

// bulkAgainstLoop takes turns at handing in the same number of jobs both ways.
func (b *bed) bulkAgainstLoop(ctx context.Context, code, compared, asked string) ([]result, error) {
	const turns = 3
	var loops, bulks []float64
	for range turns {
		time.Sleep(5 * time.Second) // Slurm and the server have done what was left to do
		loop, err := b.loop(ctx, 1000)
		if err != nil {
			return nil, err
		}
		time.Sleep(5 * time.Second)
		ids, bulk, err := b.bulkOf(ctx, code, 1000)
		if err != nil {
			return nil, err
		}
		loops, bulks = append(loops, loop.Seconds()), append(bulks, bulk.Seconds())
		if _, err := b.cancel(ctx, ids); err != nil {
			return nil, err
		}
	}
	loop, bulk := median(loops), median(bulks)
	return []result{{compared, asked, fmt.Sprintf("%.2f s, the loop %.2f s: 1/%.0f (medians of %d in turns)", bulk, loop, loop/bulk, turns)}}, nil
}

// loop hands in held jobs as a shell script would, and removes them.
func (b *bed) loop(ctx context.Context, n int) (time.Duration, error) {
	script := filepath.Join(b.dir, "loop.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\ntrue\n"), 0o700); err != nil {
		return 0, err
	}
	began := time.Now()
	for range n {
		if out, err := exec.CommandContext(ctx, "sbatch", "--hold", "--parsable", "--job-name=loop", "--output=/dev/null", script).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("sbatch: %w: %s", err, out)
		}
	}
	took := time.Since(began)
	_, err := slurm("scancel", "--name=loop")
	return took, err
}

// singles sends jobs one by one and lets them run.
func (b *bed) singles(ctx context.Context) ([]result, error) {
	const n, what, asked = 1000, "1 000 single POST /jobs of one code: commands until the last has ended", "at most 10 submit commands, 30 of any kind"
	if !b.own() {
		return unmeasured(what, asked), nil
	}
	if err := forgotten(ctx); err != nil {
		return nil, err
	}
	code, agent, err := b.ready("singles", "true")
	if err != nil {
		return nil, err
	}
	defer stopAgent(agent)
	ids := make([]string, n)
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	began := time.Now()
	err = each(numbers, func(i int) error {
		text, err := b.call("POST", "/jobs", map[string]any{"code": code, "site": "lab"})
		var j hpcsera.Job
		if err = errors.Join(err, json.Unmarshal(text, &j)); err == nil {
			ids[i] = j.ID
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	sent := time.Since(began)
	failed, err := b.ended(ctx, ids)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	list, err := b.commands(began)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %d jobs failed", failed, n)
	}
	return []result{{what, asked, fmt.Sprintf("%s; sent in %.1f s, all ended after %.0f s", told(list), sent.Seconds(), took.Seconds())}}, err
}
