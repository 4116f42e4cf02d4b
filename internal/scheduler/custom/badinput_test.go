package custom_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	t.Run("columns", func(t *testing.T) { parsetest.RunBadInput(t, columnsOfSlurm(t)) })
	t.Run("pattern", func(t *testing.T) { parsetest.RunBadInput(t, patternOfHTCondor(t)) })
	t.Run("json", func(t *testing.T) { parsetest.RunBadInput(t, pathsOfPBS(t)) })
}

func columnsOfSlurm(t *testing.T) parsetest.Recordings {
	slurm := load(t, "slurm.yaml")
	recorded, err := os.ReadFile("../slurm/testdata/squeue.txt")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(recorded), "\n")
	return parsetest.Recordings{
		Driver: slurm, Submitted: "4711;testbed\n",
		Listings: []parsetest.Listing{{
			Name: "squeue", Parse: slurm.Queue().Parse, Recorded: recorded,
			Rows:    [2]parsetest.Row{{ID: "1", Cluster: "c", State: "RUNNING"}, {ID: "2", Cluster: "c", State: "COMPLETED"}},
			Foreign: &parsetest.Row{ID: "1", Cluster: "elsewhere", State: "COMPLETED"},
			Write: func(rows ...parsetest.Row) []byte {
				text := head + "\n"
				for _, r := range rows {
					text += strings.Join([]string{r.ID, r.Cluster, r.State, "None", "0", "0", "1795346418", "N/A", "", r.Name}, "\x1f") + "\x1f\n"
				}
				return []byte(text)
			},
		}},
	}
}

func patternOfHTCondor(t *testing.T) parsetest.Recordings {
	condor := load(t, "htcondor.yaml")
	write := func(rows ...parsetest.Row) []byte {
		text := "<?xml version=\"1.0\"?>\n<!DOCTYPE classads SYSTEM \"classads.dtd\">\n<classads>\n"
		for _, r := range rows {
			var name bytes.Buffer
			_ = xml.EscapeText(&name, []byte(r.Name)) // into memory
			text += fmt.Sprintf("<c>\n    <a n=\"ClusterId\"><i>%s</i></a>\n    <a n=\"ExitCode\"><i>0</i></a>\n    <a n=\"JobBatchName\"><s>%s</s></a>\n    <a n=\"JobStatus\"><i>%s</i></a>\n</c>\n", r.ID, name.String(), r.State)
		}
		return []byte(text + "</classads>\n")
	}
	past, _ := condor.History([]scheduler.Ref{{ID: "1"}})
	return parsetest.Recordings{
		Driver: condor, Submitted: "4711.0 - 4711.0\n",
		Listings: []parsetest.Listing{
			{
				Name: "condor_q", Parse: condor.Queue().Parse, Recorded: written(t, "condor_q.xml"), Write: write,
				Rows: [2]parsetest.Row{{ID: "1", State: "2"}, {ID: "2", State: "1"}},
			},
			{
				Name: "condor_history", Parse: past.Parse, Recorded: written(t, "condor_history.xml"), Write: write,
				Rows: [2]parsetest.Row{{ID: "1", State: "4"}, {ID: "2", State: "3"}},
			},
		},
	}
}

func pathsOfPBS(t *testing.T) parsetest.Recordings {
	pbs := parse(t, small)
	recorded, err := os.ReadFile("../pbs/testdata/live.json")
	if err != nil {
		t.Fatal(err)
	}
	return parsetest.Recordings{
		Driver: pbs, Submitted: "4711\n",
		Listings: []parsetest.Listing{{
			Name: "qstat", Parse: pbs.Queue().Parse, Recorded: recorded,
			Rows:    [2]parsetest.Row{{ID: "1.vm", State: "F"}, {ID: "2.vm", State: "Q"}},
			Foreign: &parsetest.Row{ID: "1.elsewhere", State: "F"},
			Write: func(rows ...parsetest.Row) []byte {
				jobs := map[string]any{}
				for _, r := range rows {
					jobs[r.ID] = map[string]any{"Job_Name": r.Name, "job_state": r.State, "Exit_status": 0}
				}
				text, _ := json.Marshal(map[string]any{"Jobs": jobs})
				return append(text, '\n')
			},
		}},
	}
}
