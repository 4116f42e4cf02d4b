package hpcsera_test

import (
	"encoding/json"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestRolesKeepTheirNumbersAndNames(t *testing.T) {
	want := []string{
		"GET_JobStatus", "UPDATE_JobStatus", "GET_Job", "POST_Code", "GET_Code", "POST_Job", "UPDATE_Job", "DELETE_Job",
	}
	for i, name := range want {
		if got := hpcsera.Role(i + 1).String(); got != name {
			t.Errorf("role %d: got %s, want %s", i+1, got, name)
		}
	}
}

func TestEverySetOfRolesSurvivesJSONAndText(t *testing.T) {
	for n := range 256 {
		set := hpcsera.Roles(n)
		text, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		var got hpcsera.Roles
		if err := json.Unmarshal(text, &got); err != nil || got != set {
			t.Errorf("%s: got %v (%v), want %v", text, got, err, set)
		}
		if n == 0 {
			continue
		}
		if got, err := hpcsera.ParseRoles(set.String()); err != nil || got != set {
			t.Errorf("%s: got %v (%v), want %v", set, got, err, set)
		}
	}
}

func TestUnknownRolesAreRefused(t *testing.T) {
	for _, list := range []string{"", "0", "9", "1,,2", "GET_jobstatus", "operator", "1;2"} {
		if set, err := hpcsera.ParseRoles(list); hpcsera.CodeOf(err) != hpcsera.InvalidField || set != 0 {
			t.Errorf("%q: got %v, %v, want invalid_field", list, set, err)
		}
	}
	if hpcsera.Roles(255).Has(0) || hpcsera.Roles(255).Has(9) {
		t.Error("a set has roles that do not exist")
	}
}

func TestNoPresetHandsInMoreThanItsNameSays(t *testing.T) {
	want := map[string]hpcsera.Roles{
		"ci":      hpcsera.RolesOf(1, 6, 8),
		"ci-code": hpcsera.RolesOf(1, 4, 6, 8),
		"engine":  hpcsera.RolesOf(1, 6, 7, 8),
		"viewer":  hpcsera.RolesOf(1),
	}
	if len(hpcsera.Presets) != len(want) {
		t.Errorf("got %d presets, want %d", len(hpcsera.Presets), len(want))
	}
	for name, set := range want {
		if got := hpcsera.Presets[name]; got != set {
			t.Errorf("%s: got %v, want %v", name, got, set)
		}
	}
	if got, want := hpcsera.AgentRoles, hpcsera.RolesOf(2, 3, 5); got != want {
		t.Errorf("an agent's roles: got %v, want %v", got, want)
	}
}
