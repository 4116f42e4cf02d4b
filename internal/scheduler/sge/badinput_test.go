package sge

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

func TestBadInputIsNotBelieved(t *testing.T) {
	parsetest.RunBadInput(t, parsetest.Recordings{
		Driver: Driver{User: "alice"}, Submitted: "4711\n",
		Listings: []parsetest.Listing{
			{
				Name: "qstat", Parse: parseQueue, Recorded: recorded(t, "qstat.xml"),
				Rows: [2]parsetest.Row{{ID: "1", State: "r"}, {ID: "2", State: "qw"}},
				Write: func(rows ...parsetest.Row) []byte {
					text := queueHead
					for _, r := range rows {
						var name bytes.Buffer
						_ = xml.EscapeText(&name, []byte(r.Name)) // into memory
						text += queueRow(r.ID, name.String(), r.State)
					}
					return []byte(text + queueTail)
				},
			},
			{
				Name: "qacct", Parse: parseHistory, Recorded: recorded(t, "qacct.txt"),
				Rows: [2]parsetest.Row{{ID: "1", State: "0"}, {ID: "2", State: "37"}}, // of failed
				Write: func(rows ...parsetest.Row) []byte {
					var text string
					for _, r := range rows {
						text += strings.Replace(historyRecord(r.ID, "undefined", r.State, "0", "0.000B", "NONE"), tagOf(1), r.Name, 1)
					}
					return []byte(text)
				},
			},
		},
	})
}
