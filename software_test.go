package hpcsera_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestNamesOfSoftwareAreNothingElse(t *testing.T) {
	check := func(m hpcsera.Manifest, field string) {
		t.Helper()
		m.Name, m.Script = "a", "true"
		err := m.Validate()
		var e *hpcsera.Error
		if field == "" && err != nil || field != "" && (!errors.As(err, &e) || e.Field != field || e.Advice == "") {
			t.Errorf("%q %q: got %v, want an error at %q with advice", m.Modules, m.SpackEnvironment, err, field)
		}
	}
	for _, name := range []string{"gcc", "gcc/14", "openmpi/5.0.3-gcc-14", "GCCcore/13.2.0", "cdo/2.4.0@foss", "foss/2023b+cuda", "_x"} {
		check(hpcsera.Manifest{Modules: []string{name}}, "")
	}
	for _, name := range []string{
		"", "-x", "--help", "/home/mallory/evil", "./evil", "../evil", "a/../../evil", "gcc/", "gcc 14", "gcc;id", "$(id)", "`id`", "$HOME", "~/x", "a\nb", "a\x00b",
		"[exec id]", "{", `a"b`, "a'b", "*", "a|b", "a&b", "a>b", "\\x", "gcc\u202e", strings.Repeat("a", 257),
	} {
		check(hpcsera.Manifest{Modules: []string{"gcc", name}}, "modules[1]")
		check(hpcsera.Manifest{SpackEnvironment: name + "/"}, "spack_environment")
	}
	check(hpcsera.Manifest{SpackEnvironment: "cfd_2026-1"}, "")
	check(hpcsera.Manifest{SpackEnvironment: "cfd", Modules: []string{"gcc"}}, "spack_environment")
}

func TestSoftwareIsCode(t *testing.T) {
	digests := map[string]bool{}
	for _, m := range []hpcsera.Manifest{{}, {Modules: []string{"gcc/14"}}, {Modules: []string{"gcc/13"}}, {SpackEnvironment: "gcc"}} {
		m.Name, m.Script = "a", "true"
		d, err := m.Digest()
		if err != nil || digests[d] {
			t.Errorf("%+v: got %s (%v), want a digest of its own", m, d, err)
		}
		digests[d] = true
		if err := (hpcsera.JobSpec{Code: d, Manifest: hpcsera.Manifest{Modules: m.Modules, SpackEnvironment: m.SpackEnvironment}}).Validate(); (err != nil) != (len(m.Modules) > 0 || m.SpackEnvironment != "") {
			t.Errorf("%+v beside approved code: got %v", m, err)
		}
	}
}
