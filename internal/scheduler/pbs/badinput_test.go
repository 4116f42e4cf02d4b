package pbs

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	live := [2]parsetest.Row{{ID: "1.vm", State: "R"}, {ID: "2.vm", State: "Q"}}
	ended := [2]parsetest.Row{{ID: "1.vm", State: "F"}, {ID: "2.vm", State: "F"}}
	d := Driver{User: "alice"}
	asJSON := func(rows ...parsetest.Row) []byte {
		jobs := map[string]any{}
		for _, r := range rows {
			jobs[r.ID] = map[string]any{"Job_Name": r.Name, "Job_Owner": "alice@vm", "job_state": r.State, "server": "vm", "Exit_status": 0}
		}
		text, _ := json.Marshal(map[string]any{"timestamp": 1, "pbs_version": "23.06.06", "pbs_server": "vm", "Jobs": jobs})
		return append(text, '\n')
	}
	// PBS writes what it may not write raw, separator and newline, as ^_ and the like.
	raw := strings.NewReplacer(separator, "^_", "\n", "^J")
	asRows := func(rows ...parsetest.Row) []byte {
		var text string
		for _, r := range rows {
			text += strings.Join([]string{"Job Id: " + r.ID, "Job_Name=" + raw.Replace(r.Name), "Job_Owner=alice@vm", "job_state=" + r.State, "Exit_status=0"}, separator) + "\n"
		}
		return []byte(text)
	}
	foreignLive, foreignEnded := parsetest.Row{ID: "1.elsewhere", State: "R"}, parsetest.Row{ID: "1.elsewhere", State: "F"}
	parsetest.RunBadInput(t, parsetest.Recordings{
		Driver: d, Submitted: "18.vm\n",
		Listings: []parsetest.Listing{
			{Name: "all live jobs", Parse: d.parseListing, Recorded: recorded(t, "live.json"), Rows: live, Write: asJSON, Foreign: &foreignLive},
			{Name: "all jobs", Parse: d.parseListing, Recorded: recorded(t, "history.json"), Rows: ended, Write: asJSON, Foreign: &foreignEnded},
			{
				Name: "some jobs", Recorded: dsv(t), Rows: live, Write: asRows, Foreign: &foreignLive,
				Parse: func(out scheduler.Output) ([]scheduler.Status, error) {
					ask := recordedLive
					if strings.Contains(string(out.Stdout), "Job Id: 1.") { // written, not recorded
						ask = nil
					}
					return d.parseNamed(out, ask, nil)
				},
			},
		},
	})
}
