package hpcsera_test

import (
	"encoding/json"
	"slices"
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
