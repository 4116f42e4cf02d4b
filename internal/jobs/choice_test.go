package jobs_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

// come lets an agent of a site with a queue of so many nodes poll once.
func (w *world) come(a *agentWorld, nodes int) {
	w.t.Helper()
	r := a.request(0)
	r.Facts.Queues = []hpcsera.Queue{{Name: "medium", Default: true, Nodes: nodes}, {Name: "large", Nodes: 512}}
	answer, err := a.jobs.Work(w.t.Context(), a.principal(), a.id, r)
	if err != nil {
		w.t.Fatal(err)
	}
	a.term, a.epoch = answer.Term, answer.Epoch
}

func (w *world) drain(site string) {
	w.write(func(tx store.Tx) error { return tx.UpdateSite(hpcsera.Site{Name: site, Disabled: true}) })
}

func TestAJobGoesToTheFirstSiteThatCanTakeIt(t *testing.T) {
	come := func(user, site, project string, nodes int) func(*world) {
		return func(w *world) { w.come(w.agentOf(user, site, project), nodes) }
	}
	at := func(site string, nodes int) func(*world) { return come("alice", site, "cfd", nodes) }
	anHour := func(w *world) { w.pass(time.Hour) }
	two := func(r *hpcsera.RunPart) { r.Resources.NodeCount = 2 }
	for _, c := range []struct {
		name  string
		world []func(*world)
		site  hpcsera.Sites
		edit  func(*hpcsera.RunPart)
		want  string
	}{
		{"the first of two", []func(*world){at("gwdg", 4), at("hlrs", 4)}, "hlrs,gwdg", nil, "hlrs"},
		{"without an agent at the first", []func(*world){at("gwdg", 4)}, "hlrs,gwdg", nil, "gwdg"},
		{"another user's agent does not count", []func(*world){come("bob", "hlrs", "cfd", 4), at("gwdg", 4)}, "hlrs,gwdg", nil, "gwdg"},
		{"nor one for another project", []func(*world){come("alice", "hlrs", "melt", 4), at("gwdg", 4)}, "hlrs,gwdg", nil, "gwdg"},
		{"the first is silent", []func(*world){at("hlrs", 4), anHour, at("gwdg", 4)}, "hlrs,gwdg", nil, "gwdg"},
		{"the first is drained", []func(*world){at("hlrs", 4), at("gwdg", 4), func(w *world) { w.drain("hlrs") }}, "hlrs,gwdg", nil, "gwdg"},
		{"the first is too small", []func(*world){at("hlrs", 1), at("gwdg", 4)}, "hlrs,gwdg", two, "gwdg"},
		{"the first is too small, the second silent", []func(*world){at("gwdg", 4), anHour, at("hlrs", 1)}, "hlrs,gwdg", two, "gwdg"},
		{"nobody is connected: the first with an agent", []func(*world){func(w *world) { w.agentOf("alice", "gwdg", "cfd") }}, "hlrs,gwdg", nil, "gwdg"},
		{"nobody has an agent: the first", nil, "hlrs,gwdg", nil, "hlrs"},
		{"no site is named: the first by name", []func(*world){at("hlrs", 4), at("gwdg", 4)}, "", nil, "gwdg"},
		{"no site is named: the first that is large enough", []func(*world){at("gwdg", 1), at("hlrs", 4)}, "", two, "hlrs"},
		{"one site is named and has no agent", []func(*world){at("gwdg", 4)}, "hlrs", nil, "hlrs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.token("alice")
			digest := w.file(alice, hello(), true)
			for _, happens := range c.world {
				happens(w)
			}
			run := hpcsera.RunPart{Site: c.site}
			if c.edit != nil {
				c.edit(&run)
			}
			job := w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: run})
			if row := w.row(job.ID); job.Site != c.want || string(row.Run.Site) != c.want {
				t.Errorf("it went to %s (run part: %s), want %s", job.Site, row.Run.Site, c.want)
			}
		})
	}
}

func TestATokenForOneSiteReachesNoOther(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	w.come(w.agentOf("alice", "gwdg", "cfd"), 4)
	bound := w.token("alice", atSite("hlrs"))
	if job := w.submit(bound, hpcsera.JobSpec{Code: digest}); job.Site != "hlrs" {
		t.Errorf("a job without a site went to %s", job.Site)
	}
	_, err := w.try(bound, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "hlrs,gwdg"}})
	expect(t, "another site in a list", err, hpcsera.Forbidden)
	_, err = w.try(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg,mars"}})
	expect(t, "an unknown site in a list", err, hpcsera.UnknownSite)
}

// try submits one job.
func (w *world) try(p *auth.Principal, spec hpcsera.JobSpec) (store.Answer, error) {
	return w.jobs.Submit(w.t.Context(), p, []hpcsera.JobSpec{spec}, false, jobs.Idempotency{})
}

func TestWhatNoSiteCanHonourLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	w.come(w.agentOf("alice", "gwdg", "cfd"), 128)
	w.come(w.agentOf("alice", "hlrs", "cfd"), 64)
	for _, c := range []struct {
		name, field, say string
		spec             hpcsera.JobSpec
	}{
		{"one site", "resources.node_count", "resources.node_count: 400 exceeds 128 of queue medium at gwdg. Queue large takes 512. Nothing was submitted.",
			hpcsera.JobSpec{RunPart: hpcsera.RunPart{Site: "gwdg", Resources: hpcsera.Resources{NodeCount: 400}}}},
		{"a queue that is not there", "attributes.queue_name", "attributes.queue_name: there is no queue nosuch at gwdg. Its queues are medium, large. Nothing was submitted.",
			hpcsera.JobSpec{RunPart: hpcsera.RunPart{Site: "gwdg", Attributes: hpcsera.Attributes{QueueName: "nosuch"}}}},
		{"two sites", "resources.node_count", "at gwdg. Queue large takes 512. resources.node_count: 400 exceeds 64 of queue medium at hlrs.",
			hpcsera.JobSpec{RunPart: hpcsera.RunPart{Site: "gwdg,hlrs", Resources: hpcsera.Resources{NodeCount: 400}}}},
		{"any site", "resources.node_count", "none of the sites can take the job", hpcsera.JobSpec{RunPart: hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 400}}}},
		{"an overlay", "sites.hlrs.resources.node_count", "65 exceeds 64", hpcsera.JobSpec{
			RunPart: hpcsera.RunPart{Site: "hlrs"}, Overlays: map[string]hpcsera.Overlay{"hlrs": {Resources: hpcsera.Resources{NodeCount: 65}}}}},
	} {
		c.spec.Code = digest
		_, err := w.try(alice, c.spec)
		expect(t, c.name, err, hpcsera.NotSupportedBySite)
		var e *hpcsera.Error
		if !errors.As(err, &e) || e.Field != c.field || !strings.Contains(err.Error(), c.say) || !strings.HasSuffix(err.Error(), " Nothing was submitted.") {
			t.Errorf("%s: got  %v\nwant %s at %s", c.name, err, c.say, c.field)
		}
	}
	_, err := w.jobs.Submit(t.Context(), alice, []hpcsera.JobSpec{
		{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}, {Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg", Resources: hpcsera.Resources{NodeCount: 400}}},
	}, true, jobs.Idempotency{})
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Index != 1 || e.Field != "jobs[1].resources.node_count" {
		t.Errorf("in a bulk: got %+v", e)
	}
	page, err := w.jobs.List(t.Context(), alice, jobs.ListQuery{})
	if err != nil || len(page.Jobs) != 0 {
		t.Errorf("something was submitted: %+v, %v", page.Jobs, err)
	}
}

func TestAnOverlayIsTheRunPartAtItsSite(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	w.come(w.agentOf("alice", "hlrs", "cfd"), 4)
	spec := hpcsera.JobSpec{
		Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg,hlrs", Values: hpcsera.Values{"n": json.RawMessage("1")}},
		Overlays: map[string]hpcsera.Overlay{"hlrs": {Resources: hpcsera.Resources{NodeCount: 2}, Values: hpcsera.Values{"n": json.RawMessage("2")}, Labels: map[string]string{"a": "b"}}},
	}
	job := w.submit(alice, spec)
	if job.Site != "hlrs" || job.Resources.NodeCount != 2 || string(job.Values["n"]) != "2" || job.Labels["a"] != "b" {
		t.Errorf("got %+v", job)
	}
	spec.Overlays["hlrs"] = hpcsera.Overlay{Values: hpcsera.Values{"n": json.RawMessage("-1")}}
	_, err := w.try(alice, spec)
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Code != hpcsera.InvalidValue || e.Field != "sites.hlrs.values.n" {
		t.Errorf("a wrong value of an overlay: got %v", err)
	}
}

// A request that comes again meets the job that it made, wherever a new one
// would go by now.
func TestARepeatedRequestMeetsItsJobAtTheSiteOfThen(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	spec := hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg,hlrs"},
		Overlays: map[string]hpcsera.Overlay{"gwdg": {Labels: map[string]string{"at": "gwdg"}}}}
	key := jobs.Idempotency{Key: "k", Path: "/api/v1/jobs", BodySHA256: "x"}
	submit := func() (store.Answer, error) {
		return w.jobs.Submit(t.Context(), alice, []hpcsera.JobSpec{spec}, false, key)
	}
	first, err := submit()
	if err != nil {
		t.Fatal(err)
	}
	w.come(w.agentOf("alice", "hlrs", "cfd"), 4)
	w.dropAnswers()
	again, err := submit()
	var a, b hpcsera.Job
	if err != nil || json.Unmarshal(first.Body, &a) != nil || json.Unmarshal(again.Body, &b) != nil || a.ID != b.ID || b.Site != "gwdg" {
		t.Errorf("got %s at %s, then %s at %s (%v)", a.ID, a.Site, b.ID, b.Site, err)
	}
	w.dropAnswers()
	spec.Site = "hlrs"
	_, err = submit()
	expect(t, "a request that does not name the site of then", err, hpcsera.IdempotencyKeyReused)
}

func TestAChangeThatTheSiteCannotHonourIsRefused(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	code := hello()
	digest := w.file(alice, code, false)
	w.approve(alice, code, hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 999}})
	job := w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}})
	w.come(w.agentOf("alice", "gwdg", "cfd"), 128)
	_, err := w.jobs.Patch(t.Context(), alice, job.ID, hpcsera.JobPatch{Resources: &hpcsera.Resources{NodeCount: 400}})
	expect(t, "400 nodes", err, hpcsera.NotSupportedBySite)
	if _, err := w.jobs.Patch(t.Context(), alice, job.ID, hpcsera.JobPatch{Resources: &hpcsera.Resources{NodeCount: 128}}); err != nil {
		t.Errorf("128 nodes: %v", err)
	}
}
