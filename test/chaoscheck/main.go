// Command chaoscheck judges what a fault campaign left behind:
//
//	chaoscheck FOLDER...
//
// A folder is the evidence of one deployment: what was asked of it and what
// was done to it (asked.json, hits.json), what the jobs wrote themselves
// (markers), what the API tells (jobs.json, events.json, artifacts/JOB), and
// the batch system's accounting (accounting.slurm or accounting.sge). The
// campaign of e2e calls it; so may a person, as often as wanted, with the
// evidence of a run that has failed.
//
// It links nothing of the server or the agent and takes no word of theirs for
// what ran: that only the jobs and the batch system can tell. It prints a table
// and each breach with its evidence, and ends 0 only when there is none.
package main

import (
	"fmt"
	"io"
	"os"
)

func main() {
	if err := check(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaoscheck:", err)
		os.Exit(1)
	}
}

func check(folders []string, out io.Writer) error {
	if len(folders) == 0 {
		return fmt.Errorf("name the folders with the evidence, such as test/artifacts/chaos-1/slurm")
	}
	total := newTally()
	for _, folder := range folders {
		e, err := read(folder)
		if err != nil {
			return err
		}
		v := judge(e)
		total.add(e, v)
		for _, b := range v.breaches {
			fmt.Fprintf(out, "BREACH %s: %s\n", folder, b)
		}
	}
	total.print(out)
	if total.breaches > 0 {
		return fmt.Errorf("%d breaches", total.breaches)
	}
	return nil
}
