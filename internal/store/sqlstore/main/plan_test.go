package sqlstore

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// What a request reads must not grow with the history: every query starts at
// an index that leads to its rows in their order.
func TestQueriesUseTheirIndex(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "plan.db"))
	one := []string{"cfd"}
	jobs := func(f store.JobFilter) func(store.Reader) error {
		return func(r store.Reader) error { _, err := r.Jobs(f); return err }
	}
	for name, c := range map[string]struct {
		query func(store.Reader) error
		index string
	}{
		"all jobs":             {jobs(store.JobFilter{}), "jobs_created"},
		"a project":            {jobs(store.JobFilter{Projects: one}), "jobs_project"},
		"a project, continued": {jobs(store.JobFilter{Projects: one, Older: 7}), "jobs_project (project=? AND created_seq<?)"},
		"a client":             {jobs(store.JobFilter{Projects: one, Client: "ci", Older: 7}), "jobs_client (project=? AND client=? AND created_seq<?)"},
		"running":              {jobs(store.JobFilter{Projects: one, State: hpcsera.Running}), "jobs_unfinished"},
		"a client's running":   {jobs(store.JobFilter{Projects: one, Client: "ci", State: hpcsera.Running}), "jobs_unfinished"},
		"a label":              {jobs(store.JobFilter{Projects: one, Client: "ci", Label: [2]string{"k", "v"}, Older: 7}), "(tag=? AND project=? AND created_seq<?)"},
		"an annotation, all":   {jobs(store.JobFilter{Projects: one, Note: [2]string{"k", "v"}}), "(tag=? AND project=?)"},
		"label and annotation": {
			jobs(store.JobFilter{Projects: one, Label: [2]string{"k", "v"}, Note: [2]string{"k", "v"}}), "(tag=? AND project=? AND created_seq=? AND job=?)",
		},
		"orders":             {func(r store.Reader) error { _, err := r.Orders("ag", 1, 1); return err }, "jobs_agent (agent=? AND order_seq>?)"},
		"ready":              {func(r store.Reader) error { _, err := r.Ready("u", "s", one, 1); return err }, "jobs_takeable (user=? AND site=?)"},
		"awaiting":           {func(r store.Reader) error { _, err := r.AwaitingApproval("u", "p", "d"); return err }, "jobs_awaits (user=? AND project=? AND awaits=?)"},
		"awaited":            {func(r store.Reader) error { _, err := r.Awaited(store.Awaited{User: "u"}, 1); return err }, "jobs_awaits"},
		"unfinished":         {func(r store.Reader) error { _, err := r.UnfinishedByAgent("ag"); return err }, "jobs_agent (agent=?)"},
		"a job's events":     {func(r store.Reader) error { _, err := r.Events(store.EventFilter{Job: "j"}); return err }, "events_job (job=? AND seq>?)"},
		"a project's events": {func(r store.Reader) error { _, err := r.Events(store.EventFilter{Projects: one}); return err }, "events_project (project=? AND seq>?)"},
		"all events":         {func(r store.Reader) error { _, err := r.Events(store.EventFilter{}); return err }, "(seq>?)"},
		"code":               {func(r store.Reader) error { _, err := r.CodeList("p", "u", "c", 1); return err }, "code_project (project=?)"},
		"a code's approvals": {func(r store.Reader) error { _, err := r.Approvals("u", "p", "c", "d", "", 1); return err }, "approvals_code (user=? AND project=? AND digest=?)"},
		"approvals":          {func(r store.Reader) error { _, err := r.Approvals("u", "p", "c", "", "n", 1); return err }, "approvals_user (user=? AND project=?)"},
	} {
		t.Run(name, func(t *testing.T) {
			plan := planOf(t, s, c.query)
			if !strings.Contains(plan, c.index) {
				t.Errorf("the plan does not use %s:\n%s", c.index, plan)
			}
			if strings.Contains(plan, "B-TREE FOR ORDER BY") || strings.Contains(plan, "SCAN") && name != "all jobs" && name != "awaited" { // the index holds nothing but the awaited
				t.Errorf("the plan reads or sorts everything:\n%s", plan)
			}
		})
	}
}

// planOf returns SQLite's plan of the statement that query runs.
func planOf(t *testing.T, s *Store, query func(store.Reader) error) string {
	t.Helper()
	db, err := openSession(t.Context(), s.readDB) // its statements are the query's
	if err != nil {
		t.Fatal(err)
	}
	defer db.discard()
	if err := query(&reader{ctx: context.Background(), db: db, q: gen.New(db)}); err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	for text := range db.statements {
		rows, err := db.conn.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+text, "", "", "", "", "", "", "", "", "")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan.WriteString(detail + "\n")
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
	return plan.String()
}
