package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

var listTests = map[string]func(*testing.T, Database){
	"every filter selects and all together narrow": testFilters,
	"labels are found as they are now":             testLabels,
	"a cursor goes through all, newest first":      testCursor,
	"events are selected by every filter":          testEvents,
}

func testFilters(t *testing.T, d Database) {
	s := d.Open(t)
	long := strings.Repeat("long value ", 400)
	insert(t, s, named("a", func(j *store.Job) { j.Labels = map[string]string{"case": "1", "x": "y"} }))
	insert(t, s, named("b", func(j *store.Job) { j.User, j.Labels = "bob", map[string]string{"case": "2"} }))
	insert(t, s, named("c", func(j *store.Job) { j.Client, j.Annotation = "flowable", map[string]string{"case": "1"} }))
	insert(t, s, named("d", func(j *store.Job) { j.Project, j.Labels = "bio", map[string]string{"case": "1"} }))
	insert(t, s, named("e", func(j *store.Job) { j.Site, j.Annotation = "hlrs", map[string]string{"note": long} }))
	f := insert(t, s, named("f", func(j *store.Job) { j.State = hpcsera.Running }))
	insert(t, s, named("g", func(j *store.Job) { j.State, j.Labels = hpcsera.Succeeded, map[string]string{"case": "1"} }))
	for what, c := range map[string]struct {
		filter store.JobFilter
		want   string
	}{
		"nothing":              {store.JobFilter{}, "g f e d c b a"},
		"a project":            {store.JobFilter{Projects: []string{"cfd"}}, "g f e c b a"},
		"two projects":         {store.JobFilter{Projects: []string{"bio", "cfd"}}, "g f e d c b a"},
		"a project of nobody":  {store.JobFilter{Projects: []string{"none"}}, ""},
		"a user":               {store.JobFilter{User: "bob"}, "b"},
		"a client":             {store.JobFilter{Client: "ci"}, "g f e d b a"},
		"project and client":   {store.JobFilter{Projects: []string{"cfd"}, Client: "flowable"}, "c"},
		"a site":               {store.JobFilter{Site: "hlrs"}, "e"},
		"a state":              {store.JobFilter{State: hpcsera.Running}, "f"},
		"a final state":        {store.JobFilter{State: hpcsera.Succeeded}, "g"},
		"a state of a project": {store.JobFilter{State: hpcsera.Pending, Projects: []string{"cfd"}}, "e c b a"},
		"a name":               {store.JobFilter{Name: "c"}, "c"},
		"a label":              {store.JobFilter{Label: [2]string{"case", "1"}}, "g d a"},
		"a label of a project": {store.JobFilter{Label: [2]string{"case", "1"}, Projects: []string{"cfd"}}, "g a"},
		"a label's other half": {store.JobFilter{Label: [2]string{"case", ""}}, ""},
		"an annotation":        {store.JobFilter{Note: [2]string{"case", "1"}}, "c"},
		"a long annotation":    {store.JobFilter{Note: [2]string{"note", long}}, "e"},
		"after":                {store.JobFilter{After: f.Times.Created}, "g f"},
		"before":               {store.JobFilter{Before: f.Times.Created}, "e d c b a"},
		"a limit":              {store.JobFilter{Limit: 2}, "g f"},
		"all together": {store.JobFilter{
			Projects: []string{"cfd"}, User: "alice", Client: "ci", Site: "gwdg", State: hpcsera.Succeeded, Name: "g",
			Label: [2]string{"case", "1"}, After: day, Before: day.Add(time.Hour), Limit: 5, Older: 100,
		}, "g"},
		"label and annotation that no job has both": {store.JobFilter{Label: [2]string{"case", "1"}, Note: [2]string{"case", "1"}}, ""},
	} {
		list := get(t, s, func(r store.Reader) ([]store.Listed, error) { return r.Jobs(c.filter) })
		wantNames(t, what, listed(list), strings.Fields(c.want))
	}
}

func listed(list []store.Listed) []string {
	names := []string{}
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names
}

func testLabels(t *testing.T, d Database) {
	s := d.Open(t)
	j := insert(t, s, func(j *store.Job) { j.Labels = map[string]string{"a": "1", "b": "1"} })
	find := func(key, value string) int {
		return len(get(t, s, func(r store.Reader) ([]store.Listed, error) {
			return r.Jobs(store.JobFilter{Projects: []string{"cfd"}, Label: [2]string{key, value}})
		}))
	}
	update(t, s, j.ID, func(j *store.Job) { j.Labels = map[string]string{"a": "2", "c": "1"} })
	for label, want := range map[[2]string]int{{"a", "1"}: 0, {"a", "2"}: 1, {"b", "1"}: 0, {"c", "1"}: 1} {
		if got := find(label[0], label[1]); got != want {
			t.Errorf("after a change %v finds %d jobs, want %d", label, got, want)
		}
	}
	// A change by who has not read the job in the same transaction.
	write(t, s, func(tx store.Tx) error {
		j.Labels = map[string]string{"d": "1"}
		return tx.UpdateJobs(j)
	})
	for label, want := range map[[2]string]int{{"a", "2"}: 0, {"c", "1"}: 0, {"d", "1"}: 1} {
		if got := find(label[0], label[1]); got != want {
			t.Errorf("after a blind change %v finds %d jobs, want %d", label, got, want)
		}
	}
	// A failed change is not remembered by those after it.
	errs := inOneTransaction(t, s,
		func(tx store.Tx) error {
			_, err := file(tx)
			return err
		},
		func(tx store.Tx) error {
			j, err := tx.Job(j.ID)
			if err != nil {
				return err
			}
			j.Labels = map[string]string{"e": "1"}
			if err := tx.UpdateJobs(j); err != nil {
				return err
			}
			return errOwn
		},
		func(tx store.Tx) error {
			j.Labels = map[string]string{"e": "1"}
			return tx.UpdateJobs(j)
		})
	wantErr(t, "the failing closure", errs[1], errOwn)
	wantErr(t, "the one after it", errs[2], nil)
	if got := find("e", "1"); got != 1 {
		t.Errorf("after a failed and a good change the label finds %d jobs, want 1", got)
	}
}

func testCursor(t *testing.T, d Database) {
	s := d.Open(t)
	var want []string
	for i := range 25 {
		j := insert(t, s, named(fmt.Sprintf("job-%02d", i)))
		want = append(want, j.Name)
	}
	slices.Reverse(want)
	var got []string
	f := store.JobFilter{Projects: []string{"cfd"}, Limit: 7}
	for range 4 {
		page := get(t, s, func(r store.Reader) ([]store.Listed, error) { return r.Jobs(f) })
		got = append(got, listed(page)...)
		f.Older = page[len(page)-1].Cursor
		insert(t, s, named("newer")) // does not disturb
	}
	wantNames(t, "four pages", got, want)
	// A job that changes keeps its place.
	page := get(t, s, func(r store.Reader) ([]store.Listed, error) { return r.Jobs(store.JobFilter{Name: "job-03"}) })
	update(t, s, page[0].ID, func(j *store.Job) { j.State = hpcsera.Queued })
	again := get(t, s, func(r store.Reader) ([]store.Listed, error) { return r.Jobs(store.JobFilter{Name: "job-03"}) })
	if again[0].Cursor != page[0].Cursor {
		t.Errorf("the cursor of a changed job is %d, want %d", again[0].Cursor, page[0].Cursor)
	}
}

func testEvents(t *testing.T, d Database) {
	s := d.Open(t)
	a := insert(t, s)
	insert(t, s, func(j *store.Job) { j.User = "bob" })
	insert(t, s, func(j *store.Job) { j.Client = "flowable" })
	insert(t, s, func(j *store.Job) { j.Project = "bio" })
	update(t, s, a.ID, func(j *store.Job) { j.State = hpcsera.Queued })
	for what, c := range map[string]struct {
		filter store.EventFilter
		want   []int64
	}{
		"nothing":      {store.EventFilter{}, []int64{1, 2, 3, 4, 5}},
		"a job":        {store.EventFilter{Job: a.ID}, []int64{1, 5}},
		"a project":    {store.EventFilter{Projects: []string{"cfd"}}, []int64{1, 2, 3, 5}},
		"two projects": {store.EventFilter{Projects: []string{"cfd", "bio"}}, []int64{1, 2, 3, 4, 5}},
		"a user":       {store.EventFilter{User: "bob"}, []int64{2}},
		"a client":     {store.EventFilter{Client: "flowable"}, []int64{3}},
		"after":        {store.EventFilter{After: 3}, []int64{4, 5}},
		"a limit":      {store.EventFilter{After: 1, Limit: 2}, []int64{2, 3}},
		"all together": {store.EventFilter{Job: a.ID, Projects: []string{"cfd"}, User: "alice", Client: "ci", After: 1, Limit: 9}, []int64{5}},
	} {
		got := seqs(get(t, s, func(r store.Reader) ([]store.Change, error) { return r.Events(c.filter) }))
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", what, got, c.want)
		}
	}
}
