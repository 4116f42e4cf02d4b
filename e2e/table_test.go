package e2e

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"

	"github.com/hpcsera/hpcsera"
)

// killRow is a line of the table that the kill tests print.
type killRow struct{ point, victim, runs, state string }

func (r killRow) key() string { return r.point + " / " + r.victim }

// The points that are not found by a failpoint.
const (
	lateQueue     = "sbatch hangs and queues 20 s after the deadline"
	killedWrapper = "between start claim and user code"
	otherHost     = "100 jobs in flight, restarted on another host"
	reusedID      = "controller killed, id reused: the job that got the id"
	forgottenID   = "controller killed, id reused: the job that was forgotten"
)

var lateQueueVictims = []string{"none", "agent", "server"}

// wrapperPoints are where a wrapper stands while agent or server is killed.
var wrapperPoints = []killPoint{
	{"the wrapper stands between start claim and user code", "wrapper.after-claim", false},
	{"the wrapper stands between end and end record", "wrapper.before-end", false},
}

// postgresCommits are those of the commits that are tried on the other
// database, too.
var postgresCommits = []killPoint{commits[1]}

func onPostgres(name string) string { return name + " (PostgreSQL)" }

// promisedRows is the table as it is to be, without what the tests find. A
// point that no test reports is a point that nobody tested.
func promisedRows() []killRow {
	var rows []killRow
	add := func(point string, victims ...string) {
		for _, v := range victims {
			rows = append(rows, killRow{point: point, victim: v})
		}
	}
	for _, p := range agentPoints {
		add(p.name, "agent", "server")
	}
	for _, p := range lostAnswers {
		add(p.name, "agent")
	}
	for _, p := range commits {
		add(commitName("before", p.name), "server")
		add(commitName("after", p.name), "server")
	}
	for _, p := range postgresCommits {
		add(onPostgres(commitName("before", p.name)), "server")
		add(onPostgres(commitName("after", p.name)), "server")
	}
	add(lateQueue, lateQueueVictims...)
	for _, p := range wrapperPoints {
		add(p.name, "agent", "server")
	}
	add(killedWrapper, "wrapper")
	add(otherHost, "agent")
	add(reusedID, "slurmctld")
	add(forgottenID, "slurmctld")
	return rows
}

// killTable collects what the kill tests found.
var killTable struct {
	mu   sync.Mutex
	rows []killRow
}

// row adds what became of one job.
func row(point, victim string, runs int, j hpcsera.Job) {
	state := string(j.State)
	if j.Reason != "" {
		state += " " + string(j.Reason)
	}
	addRow(killRow{point, victim, strconv.Itoa(runs), state})
}

func addRow(r killRow) {
	killTable.mu.Lock()
	defer killTable.mu.Unlock()
	killTable.rows = append(killTable.rows, r)
}

// showKillTable prints the table, in the order in which it was promised and
// with the mark that test/verdict shows, and returns what is wrong with it.
// Rows of tests that were not asked for are missed by nobody.
func showKillTable(out io.Writer) (faults []string) {
	killTable.mu.Lock()
	defer killTable.mu.Unlock()
	found := map[string]killRow{}
	for _, r := range killTable.rows {
		if _, twice := found[r.key()]; twice {
			faults = append(faults, "two rows of the kill table are called "+r.key())
		}
		found[r.key()] = r
	}
	rows := []killRow{{"point", "victim", "runs", "final state"}, {"-----", "------", "----", "-----------"}}
	for _, r := range promisedRows() {
		switch f, ok := found[r.key()]; {
		case ok:
			rows = append(rows, f)
			delete(found, r.key())
		case everything():
			faults = append(faults, "the kill table lacks "+r.key())
		}
	}
	for key := range found {
		faults = append(faults, "the kill table promises no row "+key)
	}
	slices.Sort(faults)
	if len(rows) > 2 {
		for _, r := range rows {
			fmt.Fprintf(out, "| %-71s | %-9s | %4s | %-26s |\n", r.point, r.victim, r.runs, r.state)
		}
	}
	return faults
}

// everything reports whether all tests were asked for.
func everything() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}
