package hpcsera_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

const imageDigest = "sha256:9f2c000000000000000000000000000000000000000000000000000000000000"

func TestAnImageIsNamedByItsDigest(t *testing.T) {
	for image, want := range map[string][2]string{
		"docker://registry.example.org/clim/regrid@" + imageDigest:     {"registry.example.org", "clim/regrid"},
		"docker://registry.example.org:5000/regrid@" + imageDigest:     {"registry.example.org:5000", "regrid"},
		"docker://localhost:5000/a/b/c_d@" + imageDigest:               {"localhost:5000", "a/b/c_d"},
		"docker://127.0.0.1:5000/a@" + imageDigest:                     {"127.0.0.1:5000", "a"},
		"docker://registry.example.org/clim/regrid:1.2@" + imageDigest: {"registry.example.org", "clim/regrid"},
		"docker://registry.example.org/clim/regrid":                    {},
		"docker://registry.example.org/clim/regrid:latest":             {},
		"docker://registry.example.org/clim@sha256:9f2c":               {},
		"docker://regrid@" + imageDigest:                               {}, // whose registry?
		"docker://library/regrid@" + imageDigest:                       {},
		"registry.example.org/regrid@" + imageDigest:                   {},
		"docker://u:p@registry.example.org/regrid@" + imageDigest:      {},
		"docker://registry.example.org/../x@" + imageDigest:            {},
		"docker://registry.example.org/X@" + imageDigest:               {},
		"docker://registry.example.org/x@" + imageDigest + "\n":        {},
		"docker://registry.example.org/x?a=b@" + imageDigest:           {},
		"oci-archive:///etc/passwd@" + imageDigest:                     {},
		"docker://registry.example.org/x@sha512:" + imageDigest[7:]:    {},
		"": {},
	} {
		m := hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}, Container: &hpcsera.Container{Image: image}}
		err := m.Validate()
		var e *hpcsera.Error
		switch ok := want[0] != ""; {
		case ok != (err == nil) || !ok && (!errors.As(err, &e) || e.Field != "container.image" || e.Advice == ""):
			t.Errorf("%s: got %v, want it accepted: %v, or the field and advice", image, err, ok)
		case ok:
			if host, repository, digest := m.Container.Parts(); host != want[0] || repository != want[1] || digest != imageDigest {
				t.Errorf("%s: got %s %s %s, want %v", image, host, repository, digest, want)
			}
		}
	}
}

func TestMountsAreAbsoluteAndTakeNothingFromTheAgent(t *testing.T) {
	for mount, ok := range map[string]bool{
		"/scratch/era5:/data:ro": true, "/scratch/a b:/data": true, "/a:/b/c": true,
		"": false, "/a": false, "a:/b": false, "/a:b": false, "/a:/b:rw": false, "/a:/b:ro:ro": false, "/a/../etc:/b": false, "/a:/b/": false, "/a:/": false,
		"/a:/proc": false, "/a:/dev/shm": false, "/a:/hpcsera/job": false, "/a:/hpcsera": false, "/a,b:/c": false, "/a\n:/c": false, "/a'b:/c": false, "{job}:/x": false,
		"/{image}:/x": false, "/a:/x:ro,rw": false, "$HOME:/x": false, "~/x:/x": false,
	} {
		m := hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}}
		m.Container = &hpcsera.Container{Image: "docker://registry.example.org/x@" + imageDigest, Mounts: []string{"/first:/first", mount}}
		err := m.Validate()
		var e *hpcsera.Error
		if ok != (err == nil) || !ok && (!errors.As(err, &e) || e.Field != "container.mounts[1]") {
			t.Errorf("%q: got %v, want it accepted: %v", mount, err, ok)
		}
	}
	m := hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}}
	m.Container = &hpcsera.Container{Image: "docker://registry.example.org/x@" + imageDigest, Mounts: []string{"/a:/x", "/b:/x"}}
	if err := m.Validate(); err == nil || !strings.Contains(err.Error(), "container.mounts[1]") {
		t.Errorf("a target twice: got %v", err)
	}
	want := hpcsera.Bind{Source: "/s", Target: "/t", ReadOnly: true}
	if got := (hpcsera.Container{Mounts: []string{"/s:/t:ro"}}).Binds(); len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAContainerIsCode(t *testing.T) {
	m := hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}, Container: &hpcsera.Container{Image: "docker://registry.example.org/x@" + imageDigest}}
	first, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	m.Container = &hpcsera.Container{Image: m.Container.Image, Mounts: []string{"/etc:/etc2"}}
	if second, err := m.Digest(); err != nil || second == first {
		t.Errorf("got %s (%v) with another mount, want another digest", second, err)
	}
	if err := (hpcsera.JobSpec{Code: first, Manifest: hpcsera.Manifest{Container: m.Container}}).Validate(); err == nil {
		t.Error("a container beside approved code: got no error")
	}
	var later hpcsera.Manifest
	err = hpcsera.Decode([]byte(`{"name":"a","script":"true","container":{"image":"x","keep":true}}`), &later)
	if hpcsera.CodeOf(err) != hpcsera.NotSupportedYet {
		t.Errorf("keep: got %v, want it refused by name", err)
	}
}
