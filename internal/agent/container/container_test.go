package container

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/container/registrytest"
)

func contained(r *registrytest.Registry, mounts ...string) hpcsera.Container {
	return hpcsera.Container{Image: r.Image(), Mounts: mounts}
}

var alice = Login{registrytest.User, registrytest.Password}

// charliecloud is the one preset whose tool is in Debian.
func charliecloud(t *testing.T) (*Store, Runtime) {
	t.Helper()
	r := Runtime{Runtime: "charliecloud"}
	return NewStore(filepath.Join(t.TempDir(), "images"), r), r
}

func get(t *testing.T, s *Store, c hpcsera.Container) Image {
	t.Helper()
	image, err := s.Get(context.Background(), c, alice)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestAProgramRunsInItsImage: registry, image and runtime are the real ones.
func TestAProgramRunsInItsImage(t *testing.T) {
	r := registrytest.New(t)
	s, runtime := charliecloud(t)
	job, step, data := t.TempDir(), t.TempDir(), t.TempDir()
	for name, text := range map[string]string{filepath.Join(job, "in.txt"): "input\n", filepath.Join(step, "script"): "cat in.txt /data/x /lab/y/x /etc/issue; ls /etc; echo out > out.txt; echo $greeting\n", filepath.Join(data, "x"): "data\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := contained(r, data+":/data", data+":/lab/y") // one that the image has, one that it has not
	image := get(t, s, c)
	argv := append(runtime.Command(image, c, job, step), "/bin/sh", StepDir+"/script")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "USER=alice", "greeting=hello world")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	if text := string(out); !strings.HasPrefix(text, "input\ndata\ndata\nHPCSerA test image\n") || !strings.HasSuffix(text, "hello world\n") || strings.Contains(text, "gone") {
		t.Errorf("got %q", text)
	}
	if b, err := os.ReadFile(filepath.Join(job, "out.txt")); err != nil || string(b) != "out\n" {
		t.Errorf("out.txt: got %q, %v, want it in the job's folder", b, err)
	}
	cmd = exec.Command(argv[0], append(argv[1:len(argv)-2:len(argv)-2], "/bin/touch", "/etc/changed")...)
	cmd.Env = append(os.Environ(), "USER=alice")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Read-only file system") {
		t.Errorf("a program changed the image, or did not run: %v: %s", err, out)
	}
}

func TestAnImageIsFetchedOnce(t *testing.T) {
	r := registrytest.New(t)
	s, _ := charliecloud(t)
	var wg sync.WaitGroup
	for range 8 { // also at once
		wg.Go(func() {
			if _, err := s.Get(context.Background(), contained(r), alice); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.Stop()
	image := get(t, s, contained(r))
	if _, err := os.Stat(filepath.Join(image.Path, "bin/busybox")); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want one folder and nothing half-made", entries, err)
	}
}

// Images that are being fetched for long keep nobody from one that is here, and
// nobody waits for them who need not any more.
func TestASlowFetchKeepsNobodyElse(t *testing.T) {
	r := registrytest.New(t)
	s, _ := charliecloud(t)
	get(t, s, contained(r))
	for range cap(s.fetches) {
		s.fetches <- struct{}{}
	}
	get(t, s, contained(r))
	other := contained(r)
	other.Image = other.Image[:strings.Index(other.Image, "@")] + "@sha256:" + strings.Repeat("0", 64)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, other, alice)
	if _, ok := errors.AsType[*HostTrouble](err); !ok || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want no more waiting", err)
	}
}

// TestWhatWasNotSignedIsRefused: one changed byte anywhere, in manifest,
// configuration or layer, and bytes behind the end of a layer's archive.
func TestWhatWasNotSignedIsRefused(t *testing.T) {
	r := registrytest.New(t)
	for i, digest := range r.Parts() {
		whole, err := os.ReadFile(r.Blob(digest))
		if err != nil {
			t.Fatal(err)
		}
		changed := slices.Clone(whole)
		changed[len(changed)/2] ^= 1
		for name, bytes := range map[string][]byte{"changed": changed, "longer": append(slices.Clone(whole), "\n \n"...), "another": []byte("{}")} {
			if err := os.WriteFile(r.Blob(digest), bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			s, _ := charliecloud(t)
			_, err := s.Get(context.Background(), contained(r), alice)
			if err == nil {
				t.Errorf("part %d %s: it was taken", i, name)
			}
			if name == "changed" && hpcsera.CodeOf(err) != hpcsera.DigestMismatch {
				t.Errorf("part %d %s: got %v, want digest_mismatch", i, name, err)
			}
			if left, _ := os.ReadDir(s.dir); len(left) > 0 {
				t.Errorf("part %d %s: %v was left", i, name, left)
			}
		}
		if err := os.WriteFile(r.Blob(digest), whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := charliecloud(t)
	get(t, s, contained(r)) // and so the rest was right
}

func TestErrorsOfARegistryAreToldApart(t *testing.T) {
	r := registrytest.New(t)
	s, _ := charliecloud(t)
	other := contained(r)
	other.Image = other.Image[:len(other.Image)-64] + strings.Repeat("0", 64)
	remote := contained(r)
	remote.Image = strings.Replace(remote.Image, r.Addr, "10.255.255.1:5000", 1)
	for name, c := range map[string]struct {
		container hpcsera.Container
		login     Login
		code      hpcsera.Code
		say       string
	}{
		"no credential":    {contained(r), Login{}, hpcsera.InvalidField, "container.credential"},
		"a wrong password": {contained(r), Login{registrytest.User, "wrong-password"}, hpcsera.InvalidField, "container.credential"},
		"another digest":   {other, alice, hpcsera.InvalidField, "has no lab/tools"},
	} {
		_, err := s.Get(context.Background(), c.container, c.login)
		if hpcsera.CodeOf(err) != c.code || !strings.Contains(err.Error()+hint(err), c.say) {
			t.Errorf("%s: got %v, want %s with %q", name, err, c.code, c.say)
		}
		if err != nil && (strings.Contains(err.Error(), registrytest.Password) || strings.Contains(err.Error(), "wrong-password")) {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	r.Stop()
	if _, err := s.Get(context.Background(), contained(r), alice); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("registry down: got %v, want unavailable, so that it is tried again", err)
	}
	r.Start()
	get(t, s, contained(r))
}

func hint(err error) string {
	var e *hpcsera.Error
	if errors.As(err, &e) {
		return e.Advice
	}
	return ""
}

// TestNothingIsSentInTheClear: the library would use plain HTTP in private
// networks as well.
func TestNothingIsSentInTheClear(t *testing.T) {
	for url, want := range map[string]bool{
		"http://10.0.0.1/v2/": true, "http://registry.local/v2/": true, "http://registry.example.org/v2/": true,
		"http://127.0.0.1:1/v2/": false, "http://localhost:1/v2/": false, "http://[::1]:1/v2/": false, "https://127.0.0.1:1/v2/": false,
	} {
		req, err := newRequest(url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = unreadable{refusing{}}.RoundTrip(req)
		if errors.Is(err, errReadable) != want {
			t.Errorf("%s: got %v, want it refused: %v", url, err, want)
		}
	}
}

func TestAToolThatFailsIsHeard(t *testing.T) {
	r := registrytest.New(t)
	for name, c := range map[string]struct {
		command []string
		say     string
	}{
		"at length":  {[]string{"/bin/sh", "-c", "yes | head -c 100000000 >&2; echo no space; exit 3", "{rootfs}"}, "no space"},
		"it fails":   {[]string{"/bin/sh", "-c", "echo no space for {name} >&2; exit 3", "{rootfs}"}, "no space for hpcsera-"},
		"no program": {[]string{"/nowhere/tool", "{archive}"}, "/nowhere/tool"},
	} {
		s := NewStore(filepath.Join(t.TempDir(), "images"), Runtime{Runtime: own, Prepare: [][]string{c.command}, Run: []string{"{mounts}"}, Mount: []string{"{source}:{target}"}})
		_, err := s.Get(context.Background(), contained(r), alice)
		if err == nil || !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), "container.image") {
			t.Errorf("%s: got %v, want %q", name, err, c.say)
		}
		if left, _ := os.ReadDir(s.dir); len(left) > 0 {
			t.Errorf("%s: %v was left", name, left)
		}
	}
}

// TestNoSecretAndNoShell: what other tools get is the archive that was checked.
func TestNoSecretAndNoShell(t *testing.T) {
	r := registrytest.New(t)
	seen := filepath.Join(t.TempDir(), "seen")
	script := "tar tf \"$1\" > " + seen + "; printf '%s\\n' \"$@\" >> " + seen + "; env >> " + seen + "; touch \"$2\""
	s := NewStore(filepath.Join(t.TempDir(), "images"), Runtime{Runtime: own, Prepare: [][]string{{"/bin/sh", "-c", script, "tool", "{archive}", "{image}"}}, Run: []string{"{mounts}"}, Mount: []string{"{source}:{target}"}})
	get(t, s, contained(r))
	b, err := os.ReadFile(seen)
	if err != nil || !strings.Contains(string(b), "manifest.json\n") || strings.Contains(string(b), registrytest.Password) {
		t.Errorf("got %s, %v, want the archive's files and no secret", b, err)
	}
}

func TestLinksOfAnImageLeadNowhere(t *testing.T) {
	outside, image := t.TempDir(), t.TempDir()
	for name, to := range map[string]string{"absolute": outside, "relative": "../../../../../.." + outside} {
		if err := os.Symlink(to, filepath.Join(image, name)); err != nil {
			t.Fatal(err)
		}
		err := makeRoom(image, hpcsera.Container{Mounts: []string{"/a:/" + name + "/made"}})
		if hpcsera.CodeOf(err) != hpcsera.NotSupportedBySite || !strings.Contains(err.Error(), "container.mounts[0]") {
			t.Errorf("%s: got %v, want it refused by its field", name, err)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("%v was made outside of the image", left)
	}
}

func TestOldImagesGo(t *testing.T) {
	r := registrytest.New(t)
	s, _ := charliecloud(t)
	image := get(t, s, contained(r))
	if err := s.Clean(t.Context(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(image.Path); err != nil {
		t.Errorf("one of today went: %v", err)
	}
	if err := s.Clean(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(image.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an old one stayed: %v", err)
	}
	get(t, s, contained(r))
}
