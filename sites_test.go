package hpcsera_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
)

func TestSitesAreANameOrAList(t *testing.T) {
	for text, want := range map[string][]string{`{"site":"gwdg"}`: {"gwdg"}, `{"site":["gwdg","hlrs"]}`: {"gwdg", "hlrs"}, `{}`: nil} {
		var r hpcsera.RunPart
		if err := hpcsera.Decode([]byte(text), &r); err != nil || !slices.Equal(r.Site.Names(), want) || r.Validate() != nil {
			t.Errorf("%s: got %q, %v", text, r.Site.Names(), err)
		}
		if again, err := json.Marshal(r); err != nil || string(again) != text {
			t.Errorf("%s is written as %s, %v", text, again, err)
		}
	}
	for _, text := range []string{`{"site":[]}`, `{"site":["a",""]}`, `{"site":[1]}`, `{"site":["a","a"]}`, `{"site":["a","B"]}`, `{"site":"a,"}`, `{"site":["a,b","c d"]}`, `{"site":{}}`} {
		var r hpcsera.RunPart
		err := hpcsera.Decode([]byte(text), &r)
		if err == nil {
			err = r.Validate()
		}
		expectField(t, text, err, hpcsera.InvalidField, "site")
	}
}

func overlaid() hpcsera.JobSpec {
	return hpcsera.JobSpec{
		Code: "cavity",
		RunPart: hpcsera.RunPart{
			Site: "gwdg,hlrs", Resources: hpcsera.Resources{NodeCount: 2, Memory: 1 << 30}, Attributes: hpcsera.Attributes{QueueName: "medium", Duration: hpcsera.Duration(time.Hour)},
			Values: hpcsera.Values{"a": []byte("1"), "b": []byte("1")}, Labels: map[string]string{"x": "1"},
		},
		Overlays: map[string]hpcsera.Overlay{"hlrs": {
			Resources: hpcsera.Resources{NodeCount: 4}, Attributes: hpcsera.Attributes{QueueName: "normal"}, Values: hpcsera.Values{"b": []byte("2")}, Labels: map[string]string{"y": "2"},
		}},
	}
}

func TestAnOverlayHoldsAtItsSiteAlone(t *testing.T) {
	s := overlaid()
	elsewhere := s.RunPart
	elsewhere.Site = "gwdg"
	if diff := cmp.Diff(elsewhere, s.At("gwdg")); diff != "" {
		t.Errorf("at gwdg, want -, got +:\n%s", diff)
	}
	want := hpcsera.RunPart{
		Site: "hlrs", Resources: hpcsera.Resources{NodeCount: 4, Memory: 1 << 30}, Attributes: hpcsera.Attributes{QueueName: "normal", Duration: hpcsera.Duration(time.Hour)},
		Values: hpcsera.Values{"a": []byte("1"), "b": []byte("2")}, Labels: map[string]string{"x": "1", "y": "2"},
	}
	if diff := cmp.Diff(want, s.At("hlrs")); diff != "" {
		t.Errorf("at hlrs, want -, got +:\n%s", diff)
	}
	if string(s.Values["b"]) != "1" || len(s.Labels) != 1 {
		t.Errorf("the spec itself was changed: %+v", s.RunPart)
	}
	if all := s.Everywhere(); len(all) != 2 || all[0].Site != "gwdg" || all[1].Resources.NodeCount != 4 {
		t.Errorf("everywhere: got %+v", all)
	}
	s.Site = ""
	if all := s.Everywhere(); len(all) != 2 || all[0].Site != "" || all[1].Site != "hlrs" {
		t.Errorf("anywhere: got %+v", all)
	}
}

func TestTheBlameIsTheOverlaysForWhatItDecides(t *testing.T) {
	s := overlaid()
	for field, want := range map[string]string{
		"resources.node_count": "sites.hlrs.resources.node_count", "resources.memory": "resources.memory", "values.b": "sites.hlrs.values.b", "values.a": "values.a", "": "", "resources": "sites.hlrs.resources",
	} {
		expectField(t, field, s.In("hlrs", hpcsera.Errorf(hpcsera.InvalidField, "x").At(field)), hpcsera.InvalidField, want)
		expectField(t, field, s.In("gwdg", hpcsera.Errorf(hpcsera.InvalidField, "x").At(field)), hpcsera.InvalidField, field)
	}
	s.Overlays["hlrs"] = hpcsera.Overlay{Attributes: hpcsera.Attributes{QueueName: "a b"}}
	expectField(t, "a bad queue", s.Validate(), hpcsera.InvalidField, "sites.hlrs.attributes.queue_name")
	s.Overlays = map[string]hpcsera.Overlay{"No": {}}
	expectField(t, "a bad name", s.Validate(), hpcsera.InvalidField, "sites.No")
}

func TestOneStatementCoversTheJobAtAllItsSites(t *testing.T) {
	s, m := overlaid(), parameterised()
	limits := m.SignedLimits(s.Everywhere()...)
	for _, r := range s.Everywhere() {
		if err := limits.Within(r, nil); err != nil {
			t.Errorf("at %s: %v", r.Site, err)
		}
	}
	if limits.NodeCount != 4 || !slices.Equal(limits.QueueNames, []string{"medium", "normal"}) {
		t.Errorf("got %+v", limits)
	}
}

// solver is code that is another program, with other software, at each site.
func solver() hpcsera.Manifest {
	return hpcsera.Manifest{
		Name: "solver", Program: hpcsera.Program{Executable: "/opt/solver", Launcher: "mpi"}, Modules: []string{"gcc"}, Environment: map[string]string{"A": "1", "B": "1"},
		Sites: map[string]hpcsera.SiteCode{
			"gwdg": {Modules: []string{"gcc/14", "openmpi"}, Environment: map[string]string{"B": "2"}},
			"hlrs": {Executable: "/sw/solver", Launcher: "none", SpackEnvironment: "cfd", Container: &hpcsera.Container{Image: image}},
		},
	}
}

const image = "docker://host.example/x@sha256:9f2c000000000000000000000000000000000000000000000000000000000000"

func TestCodeMayDifferFromSiteToSite(t *testing.T) {
	m := solver()
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	for site, want := range map[string]hpcsera.Manifest{
		"elsewhere": {Name: "solver", Program: m.Program, Modules: m.Modules, Environment: m.Environment},
		"gwdg":      {Name: "solver", Program: m.Program, Modules: []string{"gcc/14", "openmpi"}, Environment: map[string]string{"A": "1", "B": "2"}},
		"hlrs": {
			Name: "solver", Program: hpcsera.Program{Executable: "/sw/solver", Launcher: "none"}, SpackEnvironment: "cfd", Container: &hpcsera.Container{Image: image}, Environment: m.Environment,
		},
	} {
		if diff := cmp.Diff(want, m.At(site)); diff != "" {
			t.Errorf("at %s, want -, got +:\n%s", site, diff)
		}
	}
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	m.Sites["hlrs"] = hpcsera.SiteCode{Executable: "/sw/solver"}
	if other, err := m.Digest(); err != nil || other == digest {
		t.Errorf("what differs at a site is not digested: %s, %v", other, err)
	}
}

func TestWhatDiffersAtASiteHasTheSameRules(t *testing.T) {
	for field, change := range map[string]func(m *hpcsera.Manifest){
		"sites.hlrs.executable":        func(m *hpcsera.Manifest) { m.Sites["hlrs"] = hpcsera.SiteCode{Executable: "solver"} },
		"sites.hlrs.launcher":          func(m *hpcsera.Manifest) { m.Sites["hlrs"] = hpcsera.SiteCode{Launcher: "srun"} },
		"sites.hlrs.modules[0]":        func(m *hpcsera.Manifest) { m.Sites["hlrs"] = hpcsera.SiteCode{Modules: []string{"-x"}} },
		"sites.hlrs.spack_environment": func(m *hpcsera.Manifest) { m.Sites["hlrs"] = hpcsera.SiteCode{SpackEnvironment: "a;b"} },
		"sites.hlrs.container.image": func(m *hpcsera.Manifest) {
			m.Sites["hlrs"] = hpcsera.SiteCode{Container: &hpcsera.Container{Image: "x"}}
		},
		"sites.hlrs.environment": func(m *hpcsera.Manifest) { m.Sites["hlrs"] = hpcsera.SiteCode{Environment: map[string]string{"1": ""}} },
		"sites.hlrs.environment.C": func(m *hpcsera.Manifest) {
			m.Sites["hlrs"] = hpcsera.SiteCode{Environment: map[string]string{"C": "\x00"}}
		},
		"sites.HLRS":             func(m *hpcsera.Manifest) { m.Sites["HLRS"] = hpcsera.SiteCode{Launcher: "none"} },
		"sites.hlrs.executable ": func(m *hpcsera.Manifest) { m.Program = hpcsera.Program{Script: "true"} },
		"sites.gwdg.spack_environment": func(m *hpcsera.Manifest) {
			m.Sites["gwdg"] = hpcsera.SiteCode{Modules: []string{"a"}, SpackEnvironment: "b"}
		},
	} {
		m := solver()
		change(&m)
		expectField(t, field, m.Validate(), hpcsera.InvalidField, strings.TrimSpace(field))
	}
	m := solver()
	for i := range 65 {
		m.Sites[fmt.Sprintf("s%d", i)] = hpcsera.SiteCode{Launcher: "none"}
	}
	expectField(t, "65 sites", m.Validate(), hpcsera.InvalidField, "sites")
}

// In a job file what differs at a site stands together; each key keeps its part.
func TestOverlaysAreGivenToTheirParts(t *testing.T) {
	const text = `{"name":"solver","executable":"/opt/solver","site":["gwdg","hlrs"],"sites":{` +
		`"gwdg":{"modules":["gcc/14"]},"hlrs":{"executable":"/sw/solver","attributes":{"queue_name":"normal"}},"other":{"labels":{"a":"b"}}}}`
	var s hpcsera.JobSpec
	if err := hpcsera.Decode([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	s.Part()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	want := map[string]hpcsera.SiteCode{"gwdg": {Modules: []string{"gcc/14"}}, "hlrs": {Executable: "/sw/solver"}}
	if diff := cmp.Diff(want, s.Sites); diff != "" {
		t.Errorf("the code part, want -, got +:\n%s", diff)
	}
	if s.At("hlrs").Attributes.QueueName != "normal" || s.At("other").Labels["a"] != "b" {
		t.Errorf("the run part: %+v", s.Overlays)
	}
	again, err := json.Marshal(s)
	if err != nil || string(again) != text {
		t.Errorf("it is written as %s, %v", again, err)
	}
	expectField(t, "beside code that exists", hpcsera.JobSpec{Code: "solver", Manifest: hpcsera.Manifest{Sites: s.Sites}}.Validate(), hpcsera.InvalidField, "code")
	expectField(t, "never parted", hpcsera.JobSpec{Code: "solver", Overlays: map[string]hpcsera.Overlay{"gwdg": {SiteCode: want["gwdg"]}}}.Validate(), hpcsera.InvalidField, "sites.gwdg")
}

func TestASiteTakesWhatTheCodeIsThere(t *testing.T) {
	facts := hpcsera.Facts{Software: &hpcsera.Software{MPI: true}}
	if err := facts.Takes("gwdg", hpcsera.RunPart{}, solver()); err != nil {
		t.Errorf("at gwdg, where no container is needed: %v", err)
	}
	expectField(t, "at hlrs", facts.Takes("hlrs", hpcsera.RunPart{}, solver()), hpcsera.NotSupportedBySite, "container")
}
