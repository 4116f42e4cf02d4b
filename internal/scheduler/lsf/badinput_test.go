package lsf

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	write := func(rows ...parsetest.Row) []byte {
		var records []string
		for _, r := range rows {
			text, _ := json.Marshal(map[string]string{"JOBID": r.ID, "JOBINDEX": "0", "STAT": r.State, "JOB_NAME": r.Name, "EXIT_CODE": "0"})
			records = append(records, string(text))
		}
		return []byte(listing(records...))
	}
	live := [2]parsetest.Row{{ID: "1", State: "RUN"}, {ID: "2", State: "PEND"}}
	events := map[string]string{
		"done":    "Sun Nov 22 09:43:00 2026: Done successfully. The CPU time used is 0.1 seconds;",
		"exited":  "Sun Nov 22 09:43:00 2026: Exited with exit code 3. The CPU time used is 0.1 seconds;",
		"started": "Sun Nov 22 09:43:00 2026: Starting (Pid 1);",
	}
	parsetest.RunBadInput(t, parsetest.Recordings{
		Driver: Driver{}, Submitted: "Job <4711> is submitted to default queue <normal>.\n",
		Listings: []parsetest.Listing{
			{Name: "bjobs", Parse: parseQueue, Recorded: recorded(t, "bjobs.json"), Rows: live, Write: write},
			{Name: "a relative's bjobs", Parse: parseQueue, Recorded: recorded(t, "volclava-bjobs.json"), Rows: live, Write: write},
			{
				Name: "bhist", Parse: parseHistory, Recorded: recorded(t, "volclava-bhist.txt"), Events: true,
				Rows: [2]parsetest.Row{{ID: "1", State: "done"}, {ID: "2", State: "exited"}},
				Write: func(rows ...parsetest.Row) []byte {
					var text string
					for _, r := range rows {
						event := events[r.State]
						if event == "" {
							event = "Sun Nov 22 09:43:00 2026: " + r.State + ";"
						}
						text += strings.NewReplacer("<6>", "<"+r.ID+">", tag(6), r.Name).Replace(block(event))
					}
					return []byte(text + "\n")
				},
			},
		},
	})
}
