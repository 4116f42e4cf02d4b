package local

import (
	"encoding/json"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	write := func(rows ...parsetest.Row) []byte {
		a := answer{Done: true}
		for _, r := range rows {
			a.Jobs = append(a.Jobs, entry{ID: r.ID, Tag: r.Name, State: r.State, Exit: &hpcsera.Exit{}})
		}
		text, _ := json.Marshal(a)
		return append(text, '\n')
	}
	rows := [2]parsetest.Row{{ID: "1", State: completed}, {ID: "2", State: queued}}
	named := rows
	for i := range named {
		named[i].Name = hpcsera.NewID("s")
	}
	parsetest.RunBadInput(t, parsetest.Recordings{
		Driver: Driver{Dir: "/nonexistent"}, Submitted: `{"id":"4711","done":true}` + "\n",
		Listings: []parsetest.Listing{{Name: "list", Parse: parseList, Recorded: write(named[:]...), Rows: rows, Write: write}},
	})
}
