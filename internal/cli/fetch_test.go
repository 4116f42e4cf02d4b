package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestArtifactsKeepToTheirDirectory(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"out/a.nc", "out/a.nc", true},
		{"a b.nc", "a b.nc", true},
		{"../up", "", false},
		{"a/../../up", "", false},
		{"/etc/passwd", "", false},
		{"a//b", "", false},
		{".", "", false},
		{"", "", false},
		{"a\x1b[31m.txt", "a%1B[31m.txt", true},
		{"a\nb", "a%0Ab", true},
		{"x\u202egnp.exe", "x%E2%80%AEgnp.exe", true},
		{"a\xff", "a%FF", true},
		{`a\b`, "a%5Cb", true},
	} {
		got, err := localName(tt.in)
		if (err == nil) != tt.ok || filepath.ToSlash(got) != tt.want {
			t.Errorf("localName(%q): got %q, %v; want %q, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

func artifact(path, content string) hpcsera.Artifact {
	return hpcsera.Artifact{Path: path, Size: int64(len(content)), Digest: hpcsera.DigestOf([]byte(content))}
}

func newFetcher(t *testing.T, dir string, force bool) *fetcher {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatalf("OpenRoot: %v", err)
	}
	t.Cleanup(func() { root.Close() })
	return &fetcher{root: root, dir: dir, force: force}
}

func TestFilesThatAreThereAreNotOverwrittenSilently(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		artifact hpcsera.Artifact
		force    bool
		wanted   int
		ok       bool
	}{
		{"other content", artifact("mine", "theirs"), false, 0, false},
		{"other content of the same size", artifact("mine", "abcd"), false, 0, false},
		{"other content, forced", artifact("mine", "theirs"), true, 1, true},
		{"the same content", artifact("mine", "mine"), false, 0, true},
		{"a new file", artifact("new", "x"), false, 1, true},
	} {
		wanted, err := newFetcher(t, dir, tt.force).plan([]hpcsera.Artifact{tt.artifact})
		if (err == nil) != tt.ok || len(wanted) != tt.wanted {
			t.Errorf("%s: got %d to fetch, %v; want %d, ok %v", tt.name, len(wanted), err, tt.wanted, tt.ok)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "mine")); err != nil || string(got) != "mine" {
		t.Errorf("the file is %q, %v now; want it untouched", got, err)
	}
}

func TestALinkLeadsNoArtifactOutside(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "file")); err != nil {
		t.Fatal(err)
	}
	f := newFetcher(t, dir, true)
	for _, path := range []string{"out/x", "file"} {
		_, err := f.plan([]hpcsera.Artifact{artifact(path, "x")})
		if err == nil {
			err = f.write(path, func(w io.Writer) error { _, err := io.WriteString(w, "x"); return err })
		}
		if err == nil {
			t.Errorf("%s was written through a link", path)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 0 {
		t.Errorf("outside there are %v now, %v; want nothing", left, err)
	}
}

func TestAFileAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("the network is gone")
	err := newFetcher(t, dir, false).write("sub/file", func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	left, err := os.ReadDir(filepath.Join(dir, "sub"))
	if err != nil || len(left) != 0 {
		t.Errorf("there are %v, %v; want nothing", left, err)
	}
}

func TestArtifactsAreChosenByPattern(t *testing.T) {
	list := []hpcsera.Artifact{{Path: "a.nc"}, {Path: "b.nc"}, {Path: "out/c.nc"}}
	for _, tt := range []struct {
		patterns []string
		want     int
		ok       bool
	}{{nil, 3, true}, {[]string{"*.nc"}, 2, true}, {[]string{"out/*"}, 1, true}, {[]string{"a.nc", "out/c.nc"}, 2, true}, {[]string{"x"}, 0, false}, {[]string{"["}, 0, false}} {
		got, err := choose(list, tt.patterns)
		if (err == nil) != tt.ok || len(got) != tt.want {
			t.Errorf("choose(%q): got %d, %v; want %d, ok %v", tt.patterns, len(got), err, tt.want, tt.ok)
		}
	}
}
