package local

import (
	"encoding/json"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	write := func(rows ...schedulertest.Row) []byte {
		a := answer{Done: true}
		for _, r := range rows {
			a.Jobs = append(a.Jobs, entry{ID: r.ID, Tag: r.Name, State: r.State, Exit: &hpcsera.Exit{}})
		}
		text, _ := json.Marshal(a)
		return append(text, '\n')
	}
	rows := [2]schedulertest.Row{{ID: "1", State: completed}, {ID: "2", State: queued}}
	named := rows
	for i := range named {
		named[i].Name = hpcsera.NewID("s")
	}
	schedulertest.RunBadInput(t, schedulertest.Recordings{
		Driver: Driver{Dir: "/nonexistent"}, Submitted: `{"id":"4711","done":true}` + "\n",
		Listings: []schedulertest.Listing{{Name: "list", Parse: parseList, Recorded: write(named[:]...), Rows: rows, Write: write}},
	})
}
