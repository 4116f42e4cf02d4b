package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// explored waits until the agent at a site told what there is.
func (d *deployment) explored(site string) hpcsera.Facts {
	d.t.Helper()
	var facts hpcsera.Facts
	eventually(d.t, 2*time.Minute, "what there is at "+site, func() bool {
		var s hpcsera.Site
		d.call("GET", "/sites/"+site, nil, &s)
		if len(s.Agents) != 1 || s.Agents[0].Facts == nil || len(s.Agents[0].Facts.Queues) == 0 {
			return false
		}
		facts = *s.Agents[0].Facts
		return true
	})
	return facts
}

// declined submits a job that is to be refused, and returns what was said.
func (d *deployment) declined(spec hpcsera.JobSpec) (status int, problem struct{ Code, Field, Detail, Hint string }) {
	d.t.Helper()
	body, err := json.Marshal(jobBody(d.t, spec))
	if err != nil {
		d.t.Fatal(err)
	}
	res, text, err := d.try("POST", "/jobs", body, nil)
	if err == nil {
		err = json.Unmarshal(text, &problem)
	}
	if err != nil {
		d.t.Fatalf("%v in %s", err, text)
	}
	return res.StatusCode, problem
}

// twoSites is a deployment whose user has an agent on Slurm at lab and one on
// Grid Engine at far, which trust the same key.
func twoSites(t *testing.T) (d *deployment, lab, far *login) {
	t.Helper()
	d = newDeployment(t, "", "")
	d.admin("site", "add", "far")
	settings, env := batchSystems["sge"](t)
	far = newLoginAt(t, d, "far", "sge", openDir(t), settings...)
	far.env = append(far.env, env...)
	lab = newLogin(t, d, "slurm")
	far.trust(t, "the-other-key", lab.signer.PublicKey())
	far.signer = lab.signer
	return d, lab, far
}

func TestTwoSitesWithDifferentBatchSystems(t *testing.T) {
	t.Parallel()
	d, lab, far := twoSites(t)
	m := manifest("anywhere", marking(`echo "at $WHERE" > where`))
	m.Environment = map[string]string{"WHERE": "nobody knows"}
	m.Sites = map[string]hpcsera.SiteCode{"lab": {Environment: map[string]string{"WHERE": "lab"}}, "far": {Environment: map[string]string{"WHERE": "far"}}}
	m.Limits = &hpcsera.Limits{NodeCount: 9, Duration: hpcsera.Duration(48 * time.Hour), QueueNames: []string{"batch"}}
	code := lab.approve(t, m, func(o *approval.Options) {
		o.Sites, o.Agents = []string{"lab", "far"}, []string{lab.thumbprint, far.thumbprint}
	})
	at := func(site hpcsera.Sites, change ...func(*hpcsera.JobSpec)) string {
		return lab.submit(t, code, append([]func(*hpcsera.JobSpec){withRun(func(r *hpcsera.RunPart) { r.Site = site })}, change...)...)
	}
	waiting := at("far,lab") // nobody is connected yet: the first with an agent
	lab.startAgent(t, "")
	far.startAgent(t, "")
	if f := d.explored("lab"); f.System != "slurm" || f.SystemVersion == "" || f.Nodes == nil || f.Nodes.Total != 4 || f.LargestArray != 1001 {
		t.Errorf("lab tells %+v", f)
	}
	if f := d.explored("far"); f.System != "sge" || f.SystemVersion == "" || f.Nodes == nil || f.LargestArray != 75000 {
		t.Errorf("far tells %+v", f)
	}
	long := withRun(func(r *hpcsera.RunPart) {
		r.Attributes = hpcsera.Attributes{Duration: hpcsera.Duration(30 * time.Hour), QueueName: "batch"}
	})
	overlay := func(s *hpcsera.JobSpec) {
		s.Overlays = map[string]hpcsera.Overlay{"far": {Labels: map[string]string{"at": "far"}}, "lab": {Attributes: hpcsera.Attributes{QueueName: "batch"}}}
	}
	for name, c := range map[string]struct {
		id, site string
		queue    string
	}{
		"before anybody came":          {waiting, "far", ""},
		"the first of two":             {at("far,lab", overlay), "far", ""},
		"the first of two, reversed":   {at("lab,far", overlay), "lab", "batch"},
		"none is named":                {at(""), "far", ""},
		"what it needs is at one only": {at("", long), "lab", "batch"},
		"the first cannot take it":     {at("far,lab", long), "lab", "batch"},
	} {
		j := d.await(c.id, 3*time.Minute)
		here, there := lab, far
		if c.site == "far" {
			here, there = far, lab
		}
		if j.Site != c.site || j.State != hpcsera.Succeeded || here.runs(t, c.id) != 1 || there.runs(t, c.id) != 0 || j.Attributes.QueueName != c.queue {
			t.Errorf("%s: the job is %s (%s: %s) at %s, queue %q, and ran there %d times and elsewhere %d times, want it once at %s", name,
				j.State, j.Reason, j.Message, j.Site, j.Attributes.QueueName, here.runs(t, c.id), there.runs(t, c.id), c.site)
		}
		if said, err := os.ReadFile(filepath.Join(here.jobDir(c.id), "where")); err != nil || string(said) != "at "+c.site+"\n" {
			t.Errorf("%s: at %s it was %q (%v)", name, c.site, said, err)
		}
		if want := map[bool]string{true: "slurm", false: "sge"}[c.site == "lab"]; j.Native == nil || j.Native.System != want {
			t.Errorf("%s: it ran as %+v", name, j.Native)
		}
	}
	d.refusesWhatNoSiteHas(code)
	d.admin("site", "drain", "far")
	if j := d.await(at("far,lab"), 3*time.Minute); j.Site != "lab" || j.State != hpcsera.Succeeded {
		t.Errorf("with the first drained it is %s at %s", j.State, j.Site)
	}
}

func (d *deployment) refusesWhatNoSiteHas(code string) {
	d.t.Helper()
	before := d.get("/jobs?limit=1")
	for name, c := range map[string]struct {
		run         hpcsera.RunPart
		field, says string
	}{
		"too long for the default queue": {hpcsera.RunPart{Site: "lab", Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(2 * time.Hour)}},
			"attributes.duration", "2h exceeds 1h of queue debug at lab. Queue batch takes 168h. Nothing was submitted."},
		"too many nodes everywhere": {hpcsera.RunPart{Site: "lab,far", Resources: hpcsera.Resources{NodeCount: 9}}, "resources.node_count", "9 exceeds 4 of queue debug at lab."},
		"a queue that is not there": {hpcsera.RunPart{Site: "far", Attributes: hpcsera.Attributes{QueueName: "batch"}}, "attributes.queue_name", "there is no queue batch at far. Its queues are "},
	} {
		status, p := d.declined(hpcsera.JobSpec{Code: code, RunPart: c.run})
		if said := p.Detail + " " + p.Hint; status != http.StatusConflict || p.Code != string(hpcsera.NotSupportedBySite) || p.Field != c.field ||
			!strings.Contains(said, c.says) || !strings.HasSuffix(said, " Nothing was submitted.") {
			d.t.Errorf("%s: got %d %+v, want %s at %s", name, status, p, c.says, c.field)
		}
	}
	if after := d.get("/jobs?limit=1"); after != before {
		d.t.Errorf("something was submitted: %s", after)
	}
}

// TestASecondDeploymentIsAWorldOfItsOwn: two servers with an agent each, of the
// same user on the same Slurm. What belongs to one is nothing at the other, and
// each sees to its own jobs alone.
func TestASecondDeploymentIsAWorldOfItsOwn(t *testing.T) {
	t.Parallel()
	var ds [2]*deployment
	var ls [2]*login
	var codes, sleeping [2]string
	var ids [2][]string
	for i := range ds {
		ds[i] = newDeployment(t, "", "")
		ls[i] = newLogin(t, ds[i], "slurm")
		codes[i] = ls[i].approveWide(t, "same", marking("exit 0"))
	}
	strangers(t, ds, ls)
	for i := range ds {
		ls[i].startAgent(t, "")
		sleeping[i] = ls[i].submit(t, ls[i].approveWide(t, "sleep", marking("while [ ! -e end ]; do sleep 1; done")))
	}
	for range 6 {
		for i := range ds {
			ids[i] = append(ids[i], ls[i].submit(t, codes[i]))
		}
	}
	for i := range ds {
		ds[i].await(sleeping[i], 3*time.Minute, hpcsera.Running)
	}
	ds[0].call("DELETE", "/jobs/"+sleeping[0], nil, nil)
	if j := ds[0].await(sleeping[0], 2*time.Minute); j.Reason != hpcsera.CancelledByUser {
		t.Errorf("the cancelled job is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	native := map[string]string{}
	for i, d := range ds {
		for _, id := range ids[i] {
			j := d.await(id, 3*time.Minute)
			if runs, elsewhere := ls[i].runs(t, id), ls[1-i].runs(t, id); j.State != hpcsera.Succeeded || runs != 1 || elsewhere != 0 {
				t.Errorf("a job of deployment %d is %s (%s: %s), ran %d times, and %d times at the other", i, j.State, j.Reason, j.Message, runs, elsewhere)
			}
			if other := native[j.Native.ID]; other != "" {
				t.Errorf("the jobs %s and %s are both %s at Slurm", other, id, j.Native.ID)
			}
			native[j.Native.ID] = id
			if res := ds[1-i].call("GET", "/jobs/"+id, nil, nil); res.StatusCode != http.StatusNotFound {
				t.Errorf("the other deployment answers %s for a job that is not its own", res.Status)
			}
		}
	}
	// The job beside it was cancelled, and this one goes on.
	if j := ds[1].job(sleeping[1]); j.State != hpcsera.Running {
		t.Errorf("the other deployment's job is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	write(t, filepath.Join(ls[1].jobDir(sleeping[1]), "end"), "", 0o644)
	if j := ds[1].await(sleeping[1], 2*time.Minute); j.State != hpcsera.Succeeded {
		t.Errorf("the other deployment's job ended %s (%s: %s)", j.State, j.Reason, j.Message)
	}
}

// strangers tries what belongs to one deployment at the other.
func strangers(t *testing.T, ds [2]*deployment, ls [2]*login) {
	t.Helper()
	for i, d := range ds {
		other := *d
		other.token = ds[1-i].token
		if res := other.call("GET", "/jobs", nil, nil); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("the other deployment's token: got %s", res.Status)
		}
		m := manifest("stranger", marking("exit 0"))
		s := ls[1-i].statement(t, m)
		text, err := s.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		signature, err := approval.SignSSH(ls[1-i].signer, s)
		if err != nil {
			t.Fatal(err)
		}
		d.call("POST", "/code", m, nil)
		if res := d.call("POST", "/approvals", map[string]any{"statement": text, "signature": signature}, nil); res.StatusCode/100 == 2 {
			t.Errorf("the other deployment's approval was filed")
		}
		// An agent that is sent to the other server has nothing to show there.
		l := ls[i]
		config := filepath.Join(l.home, "agent.yaml")
		own := read(t, config)
		write(t, config, strings.Replace(own, "server: "+d.url, "server: "+ds[1-i].url, 1), 0o600)
		l.own(t)
		if said, err := l.try(t, "once"); err == nil {
			t.Errorf("an agent of the other deployment was served: %s", said)
		}
		write(t, config, own, 0o600)
		l.own(t)
		var site hpcsera.Site
		ds[1-i].call("GET", "/sites/lab", nil, &site)
		if len(site.Agents) != 1 || site.Agents[0].LastSeen != nil {
			t.Errorf("the other deployment has seen %+v", site.Agents)
		}
	}
}
