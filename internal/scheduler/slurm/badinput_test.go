package slurm

import (
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	rows := [2]parsetest.Row{{ID: "1", Cluster: "c", State: "RUNNING"}, {ID: "2", Cluster: "c", State: "PENDING"}}
	ended := [2]parsetest.Row{{ID: "1", Cluster: "c", State: "COMPLETED"}, {ID: "2", Cluster: "c", State: "FAILED"}}
	parsetest.RunBadInput(t, parsetest.Recordings{
		Driver: Driver{}, Submitted: "4711;testbed\n",
		Listings: []parsetest.Listing{
			{
				Name: "squeue", Parse: parseQueue, Recorded: recorded(t, "squeue.txt"), Rows: rows,
				Foreign: &parsetest.Row{ID: "1", Cluster: "elsewhere", State: "COMPLETED"},
				Write: func(rows ...parsetest.Row) []byte {
					text := queueHead
					for _, r := range rows {
						text += row(r.ID, r.Cluster, r.State, "None", "0", "0", "1795346418", "N/A", "", r.Name)
					}
					return []byte(text)
				},
			},
			{
				Name: "sacct", Parse: parseHistory, Recorded: recorded(t, "sacct.txt"), Rows: ended,
				Foreign: &parsetest.Row{ID: "1", Cluster: "elsewhere", State: "COMPLETED"},
				Write: func(rows ...parsetest.Row) []byte {
					text := historyHead
					for _, r := range rows {
						text += row(r.ID, r.Cluster, r.State, "0:0", "1795346418", "0", "n1", r.Name)
					}
					return []byte(text)
				},
			},
		},
	})
}
