package oar

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	write := func(rows ...parsetest.Row) []byte {
		var list []string
		for _, r := range rows {
			name, _ := json.Marshal(r.Name)
			state, _ := json.Marshal(r.State)
			list = append(list, fmt.Sprintf(`   "%s" : {"Job_Id" : %s, "name" : %s, "owner" : "alice", "submissionTime" : 5, "array_id" : %s, "array_index" : 1, "state" : %s, "exit_code" : 0}`,
				r.ID, r.ID, name, r.ID, state))
		}
		return listingOf(list...).Stdout
	}
	parsetest.RunBadInput(t, parsetest.Recordings{
		Driver: Driver{User: "alice"}, Submitted: "[ADMISSION RULE] Set default walltime to 7200.\nOAR_JOB_ID=4711\n",
		Listings: []parsetest.Listing{
			{
				Name: "the queue", Parse: parseQueue, Recorded: recorded(t, "live.json"), Write: write,
				Rows: [2]parsetest.Row{{ID: "1", State: "Running"}, {ID: "2", State: "Waiting"}},
			},
			{
				Name: "the history", Parse: parseListing, Recorded: recorded(t, "oarstat.json"), Write: write,
				Rows: [2]parsetest.Row{{ID: "1", State: "Terminated"}, {ID: "2", State: "Terminated"}},
			},
		},
	})
}
