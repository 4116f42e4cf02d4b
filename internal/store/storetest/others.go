package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

var answerTests = map[string]func(*testing.T, Database){
	"an answer comes back under its scope and key only": testAnswer,
	"old answers are forgotten":                         testDropAnswers,
}

func testAnswer(t *testing.T, d Database) {
	s := d.Open(t)
	want := store.Answer{User: "alice", BodySHA256: strings.Repeat("ab", 32), Status: 201, Body: []byte("{\"id\":\"j_1\"}\n\x00\xff"), Created: day.Add(5 * time.Microsecond)}
	empty := store.Answer{Status: 204, Created: day}
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.KeepAnswer("s", "k", want), tx.KeepAnswer("s", "empty", empty))
	})
	read(t, s, func(r store.Reader) error {
		got, err := r.Idempotent("s", "k")
		if diff := cmp.Diff(&want, got); err != nil || diff != "" {
			t.Errorf("the answer: %v (-want +got):\n%s", err, diff)
		}
		got, err = r.Idempotent("s", "empty")
		if diff := cmp.Diff(&empty, got); err != nil || diff != "" {
			t.Errorf("the empty answer: %v (-want +got):\n%s", err, diff)
		}
		_, err = r.Idempotent("s", "K")
		wantErr(t, "another key", err, store.ErrNotFound)
		_, err = r.Idempotent("S", "k")
		wantErr(t, "another scope", err, store.ErrNotFound)
		return nil
	})
}

func testDropAnswers(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.KeepAnswer("s", "old", store.Answer{Created: day}), tx.KeepAnswer("s", "new", store.Answer{Created: day.Add(time.Hour)}),
			tx.DropAnswers(day.Add(time.Hour)))
	})
	read(t, s, func(r store.Reader) error {
		_, err := r.Idempotent("s", "old")
		wantErr(t, "the old one", err, store.ErrNotFound)
		_, err = r.Idempotent("s", "new")
		wantErr(t, "the new one", err, nil)
		return nil
	})
}

var codeTests = map[string]func(*testing.T, Database){
	"code belongs to its project and keeps its first owner": testCode,
	"code lists narrow by user and client, newest first":    testCodeList,
	"bytes belong to who handed them in":                    testBlobs,
	"approvals narrow by code and name, newest first":       testApprovals,
}

func digest(seed string) string { return hpcsera.DigestOf([]byte(seed)) }

func codeRow(project, seed string, at time.Duration) store.Code {
	c := store.Code{User: "alice", Client: "ci"}
	c.Project, c.Digest, c.Name, c.Created = project, digest(seed), "name-"+seed, day.Add(at)
	c.Manifest = hpcsera.Manifest{
		Name: c.Name, Program: hpcsera.Program{Script: "#!/bin/sh\necho ä\n"},
		Files: []hpcsera.File{{Path: "a/b", Mode: "0644", Size: 3, SHA256: strings.Repeat("0", 64)}},
	}
	return c
}

func testCode(t *testing.T, d Database) {
	s := d.Open(t)
	want := codeRow("cfd", "a", 0)
	thief := want
	thief.User, thief.Client = "bob", "flowable"
	write(t, s, func(tx store.Tx) error { return tx.PutCode(want) })
	write(t, s, func(tx store.Tx) error { return errors.Join(tx.PutCode(thief), tx.PutCode(want)) })
	lookUp := func(r store.Reader) {
		got, err := r.Code("cfd", want.Digest)
		if diff := cmp.Diff(&want, got); err != nil || diff != "" {
			t.Errorf("the code: %v (-want +got):\n%s", err, diff)
		}
		_, err = r.Code("bio", want.Digest)
		wantErr(t, "another project's code", err, store.ErrNotFound)
		_, err = r.Code("cfd", digest("b"))
		wantErr(t, "unknown code", err, store.ErrNotFound)
	}
	read(t, s, func(r store.Reader) error { lookUp(r); return nil })
	write(t, s, func(tx store.Tx) error {
		lookUp(tx)
		lookUp(tx) // the second time from memory
		if err := tx.DeleteCode("cfd", want.Digest); err != nil {
			return err
		}
		_, err := tx.Code("cfd", want.Digest)
		wantErr(t, "deleted code", err, store.ErrNotFound)
		wantErr(t, "deleting it again", tx.DeleteCode("cfd", want.Digest), store.ErrNotFound)
		return nil
	})
}

func testCodeList(t *testing.T, d Database) {
	s := d.Open(t)
	bob, flow := codeRow("cfd", "b", time.Hour), codeRow("cfd", "c", time.Minute)
	bob.User, flow.Client = "bob", "flowable"
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.PutCode(codeRow("cfd", "a", 0)), tx.PutCode(bob), tx.PutCode(flow), tx.PutCode(codeRow("bio", "d", 0)))
	})
	for what, c := range map[string]struct {
		user, client string
		limit        int
		want         []string
	}{
		"all":      {"", "", 0, []string{"name-b", "name-c", "name-a"}},
		"a user":   {"alice", "", 10, []string{"name-c", "name-a"}},
		"a client": {"", "ci", 10, []string{"name-b", "name-a"}},
		"both":     {"alice", "ci", 10, []string{"name-a"}},
		"a limit":  {"", "", 1, []string{"name-b"}},
		"nobody":   {"none", "", 1, nil},
	} {
		var got []string
		for _, row := range get(t, s, func(r store.Reader) ([]*store.Code, error) { return r.CodeList("cfd", c.user, c.client, c.limit) }) {
			got = append(got, row.Name)
		}
		wantNames(t, what, got, c.want)
	}
}

func testBlobs(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.PutBlob("cfd", digest("a"), 7), tx.PutBlob("cfd", digest("a"), 7))
	})
	for key, want := range map[[2]string]bool{{"cfd", "a"}: true, {"bio", "a"}: false, {"cfd", "b"}: false} {
		got := get(t, s, func(r store.Reader) (bool, error) { return r.HasBlob(key[0], digest(key[1])) })
		if got != want {
			t.Errorf("HasBlob(%v) is %v, want %v", key, got, want)
		}
	}
}

func testApprovals(t *testing.T, d Database) {
	s := d.Open(t)
	row := func(id, user, project, code, name string, at time.Duration) store.Approval {
		return store.Approval{Approval: hpcsera.Approval{
			ID: id, User: user, Project: project, Digest: digest(code), Name: name, NotBefore: day, NotAfter: day.Add(time.Hour),
			Statement: []byte(`{"type":"x"}`), Signature: "-----BEGIN SSH SIGNATURE-----", Filed: day.Add(at),
		}}
	}
	a := row("ap_1", "alice", "cfd", "1", "cavity", 0)
	changed := a
	own := row("ap_6", "alice", "cfd", "3", "cavity", 2*time.Hour)
	own.Client = "gitlab"
	changed.Statement = []byte("other")
	brought, kept := row("ap_7", "alice", "cfd", "9", "pipe", 0), row("ap_8", "carol", "cfd", "1", "cavity", 0)
	brought.Client, kept.Client = store.NoClient, store.NoClient
	filed := row("ap_7", "carol", "bio", "1", "cavity", 0)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.PutApproval(a), tx.PutApproval(row("ap_2", "alice", "cfd", "2", "cavity", time.Hour)),
			tx.PutApproval(row("ap_3", "alice", "cfd", "1", "pipe", time.Minute)), tx.PutApproval(row("ap_4", "bob", "cfd", "1", "cavity", 0)),
			tx.PutApproval(row("ap_5", "alice", "bio", "1", "cavity", 0)), tx.PutApproval(changed), tx.PutApproval(own),
			tx.PutApproval(brought), tx.PutApproval(kept), tx.PutApproval(filed))
	})
	got := get(t, s, func(r store.Reader) (*store.Approval, error) { return r.Approval("ap_1") })
	if diff := cmp.Diff(&a, got); diff != "" {
		t.Errorf("the approval (-want +got):\n%s", diff)
	}
	for client, want := range map[string]int{"gitlab": 0, store.EveryClient: 1} {
		list := get(t, s, func(r store.Reader) ([]*store.Approval, error) {
			return r.Approvals("carol", "cfd", client, "", "", 10)
		})
		if len(list) != want {
			t.Errorf("of no client, for %s: got %d, want %d", client, len(list), want)
		}
	}
	if list := get(t, s, func(r store.Reader) ([]*store.Approval, error) { return r.Approvals("carol", "bio", "", "", "", 10) }); len(list) != 1 {
		t.Errorf("filed in the place of one of no client: got %d", len(list))
	}
	wantErr(t, "an unknown one", s.Read(t.Context(), func(r store.Reader) error { _, err := r.Approval("ap_9"); return err }), store.ErrNotFound)
	for what, c := range map[string]struct {
		client, code, name string
		limit              int
		want               []string
	}{
		"all":              {store.EveryClient, "", "", 10, []string{"ap_6", "ap_2", "ap_3", "ap_1"}},
		"a client's":       {"gitlab", "", "", 10, []string{"ap_6", "ap_2", "ap_3", "ap_1"}},
		"another client's": {"flowable", "", "", 10, []string{"ap_2", "ap_3", "ap_1"}},
		"for all":          {"", "", "", 10, []string{"ap_2", "ap_3", "ap_1"}},
		"a code":           {"", digest("1"), "", 10, []string{"ap_3", "ap_1"}},
		"a name":           {"", "", "cavity", 10, []string{"ap_2", "ap_1"}},
		"both":             {"", digest("1"), "cavity", 10, []string{"ap_1"}},
		"a limit":          {"", "", "", 1, []string{"ap_2"}},
	} {
		var ids []string
		for _, a := range get(t, s, func(r store.Reader) ([]*store.Approval, error) {
			return r.Approvals("alice", "cfd", c.client, c.code, c.name, c.limit)
		}) {
			ids = append(ids, a.ID)
		}
		if !slices.Equal(ids, c.want) {
			t.Errorf("%s: got %v, want %v", what, ids, c.want)
		}
	}
}

var agentTests = map[string]func(*testing.T, Database){
	"an agent comes back and a removed one is not listed": testAgents,
	"last-seen times never go back":                       testSeen,
}

func testAgents(t *testing.T, d Database) {
	s := d.Open(t)
	seen := day.Add(time.Minute)
	a := store.Agent{
		Agent: hpcsera.Agent{
			ID: "ag_1", User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: "thumb", Created: day, Expires: day.Add(time.Hour), LastSeen: &seen,
			Facts: &hpcsera.Facts{Version: "1", Host: "login1", System: "slurm", Queues: []hpcsera.Queue{{Name: "medium", Default: true, Nodes: 3}}},
		},
		Hash: []byte{1, 2}, Instance: "i_1", Term: 3, Stopped: true, AppliedSeq: 17, Epoch: 5,
	}
	b := store.Agent{Agent: hpcsera.Agent{ID: "ag_2", User: "alice", Site: "hlrs", Created: day, Expires: day}}
	write(t, s, func(tx store.Tx) error { return errors.Join(tx.InsertAgent(a), tx.InsertAgent(b)) })
	got := get(t, s, func(r store.Reader) (*store.Agent, error) { return r.Agent("ag_1") })
	if diff := cmp.Diff(&a, got); diff != "" {
		t.Errorf("the agent (-want +got):\n%s", diff)
	}
	list := func(user, site string) (ids []string) {
		for _, a := range get(t, s, func(r store.Reader) ([]*store.Agent, error) { return r.Agents(user, site) }) {
			ids = append(ids, a.ID)
		}
		return ids
	}
	wantNames(t, "all", list("", ""), []string{"ag_1", "ag_2"})
	wantNames(t, "a user's", list("alice", ""), []string{"ag_1", "ag_2"})
	wantNames(t, "a site's", list("", "hlrs"), []string{"ag_2"})
	wantNames(t, "a user's at a site", list("alice", "gwdg"), []string{"ag_1"})
	wantNames(t, "a stranger's", list("bob", ""), nil)
	later := day.Add(time.Hour)
	a.Term, a.Removed, a.LastSeen, a.Facts = 4, true, &later, nil
	write(t, s, func(tx store.Tx) error { return tx.UpdateAgent(a) })
	a.LastSeen = &seen // UpdateAgent leaves it
	got = get(t, s, func(r store.Reader) (*store.Agent, error) { return r.Agent("ag_1") })
	if diff := cmp.Diff(&a, got); diff != "" {
		t.Errorf("the changed agent (-want +got):\n%s", diff)
	}
	wantNames(t, "after one was removed", list("", ""), []string{"ag_2"})
}

func testSeen(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.InsertAgent(store.Agent{Agent: hpcsera.Agent{ID: "ag_1"}}), tx.InsertAgent(store.Agent{Agent: hpcsera.Agent{ID: "ag_2"}}))
	})
	before := get(t, s, func(r store.Reader) (int64, error) { return r.LastSeq() })
	for _, step := range []struct{ at, want time.Time }{{day, day}, {day.Add(time.Hour), day.Add(time.Hour)}, {day, day.Add(time.Hour)}} {
		write(t, s, func(tx store.Tx) error {
			return tx.SeenAgents(map[string]time.Time{"ag_1": step.at, "ag_2": step.at, "ag_none": step.at})
		})
		for _, id := range []string{"ag_1", "ag_2"} {
			a := get(t, s, func(r store.Reader) (*store.Agent, error) { return r.Agent(id) })
			if a.LastSeen == nil || !a.LastSeen.Equal(step.want) {
				t.Errorf("%s was last seen at %v, want %v", id, a.LastSeen, step.want)
			}
		}
	}
	write(t, s, func(tx store.Tx) error { return tx.SeenAgents(nil) })
	if after := get(t, s, func(r store.Reader) (int64, error) { return r.LastSeq() }); after != before {
		t.Errorf("last-seen times took numbers: %d, want %d", after, before)
	}
}
