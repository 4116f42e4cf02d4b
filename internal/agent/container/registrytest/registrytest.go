// Package registrytest starts a real container registry, Debian's
// docker-registry, with an image that Debian's umoci made of a static busybox,
// for tests that fetch and run images. What it needs is installed by
// scripts/test; a missing program fails the test.
package registrytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"
)

// Registry is one that answers on this host, with one user and one image.
type Registry struct {
	Addr   string // host and port
	Digest string // of the image

	Stop func() // ends the registry's process

	t   *testing.T
	dir string
}

// Who may read and write the registry.
const (
	User     = "alice"
	Password = "correct-horse-battery"
)

// New starts a registry that ends with the test.
func New(t *testing.T) *Registry {
	t.Helper()
	// A Unix socket's path is short.
	dir, err := os.MkdirTemp("", "hpcsera-registry-")
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{t: t, dir: dir}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	hash, err := bcrypt.GenerateFromPassword([]byte(Password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	r.write("htpasswd", User+":"+string(hash)+"\n")
	r.write("config.yml", fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {net: unix, addr: %s}\nauth: {htpasswd: {realm: lab, path: %s}}\n",
		r.path("data"), r.path("socket"), r.path("htpasswd")))
	r.listen()
	r.Start()
	r.push()
	return r
}

func (r *Registry) path(name string) string { return filepath.Join(r.dir, name) }

func (r *Registry) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// listen opens the registry's port, which stays its own while it is stopped: its
// connections then end at once.
func (r *Registry) listen() {
	r.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	r.Addr = l.Addr().String()
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go r.relay(client)
		}
	}()
}

func (r *Registry) relay(client net.Conn) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(context.Background(), "unix", r.path("socket"))
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			done <- struct{}{}
		}()
	}
	<-done
}

// Start lets the registry answer, again after Stop.
func (r *Registry) Start() {
	r.t.Helper()
	said, err := os.OpenFile(r.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	defer said.Close()
	if err := os.Remove(r.path("socket")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "docker-registry", "serve", r.path("config.yml"))
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		r.t.Fatalf("docker-registry (Debian's package docker-registry): %v", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	r.Stop = sync.OnceFunc(func() { _ = cmd.Process.Kill(); <-ended })
	r.t.Cleanup(r.Stop)
	deadline, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !r.answers(deadline) {
		select {
		case <-ended:
		case <-tick.C:
			continue
		case <-deadline.Done():
		}
		log, _ := os.ReadFile(r.path("log"))
		r.t.Fatalf("docker-registry does not answer:\n%s", log)
	}
}

func (r *Registry) answers(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.Addr+"/v2/", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	res.Body.Close()
	return res.StatusCode == http.StatusUnauthorized
}

func (r *Registry) run(name string, args ...string) {
	r.t.Helper()
	if out, err := exec.CommandContext(r.t.Context(), name, args...).CombinedOutput(); err != nil {
		r.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// push makes the image: two layers, and a file of the first that the second
// takes away.
func (r *Registry) push() {
	r.t.Helper()
	oci := r.path("oci")
	r.run("umoci", "init", "--layout", oci)
	r.run("umoci", "new", "--image", oci+":1")
	first := r.path("first")
	for _, dir := range []string{"bin", "etc", "tmp", "proc", "sys", "dev", "data"} {
		if err := os.MkdirAll(filepath.Join(first, dir), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	r.run("cp", "/bin/busybox", filepath.Join(first, "bin/busybox"))
	for _, applet := range []string{"sh", "cat", "echo", "env", "ls", "touch"} {
		r.run("ln", "-s", "busybox", filepath.Join(first, "bin", applet))
	}
	for name, text := range map[string]string{"etc/passwd": "root:x:0:0::/:/bin/sh\n", "etc/group": "root:x:0:\n", "etc/gone": "x\n", "etc/issue": "HPCSerA test image\n"} {
		if err := os.WriteFile(filepath.Join(first, name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.run("umoci", "insert", "--image", oci+":1", first, "/")
	r.run("umoci", "insert", "--image", oci+":1", "--whiteout", "/etc/gone")
	index, err := layout.ImageIndexFromPath(oci)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		r.t.Fatalf("got %+v, %v, want one image", m, err)
	}
	img, err := index.Image(m.Manifests[0].Digest)
	if err != nil {
		r.t.Fatal(err)
	}
	tag, err := name.NewTag(r.Addr + "/lab/tools:1")
	if err == nil {
		err = remote.Write(tag, img, remote.WithAuth(&authn.Basic{Username: User, Password: Password}))
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.Digest = m.Manifests[0].Digest.String()
}

// Blob is the registry's own file of some bytes.
func (r *Registry) Blob(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(r.path("data"), "docker/registry/v2/blobs/sha256", hex[:2], hex, "data")
}

// Image is what a job writes to run in the image.
func (r *Registry) Image() string { return "docker://" + r.Addr + "/lab/tools@" + r.Digest }

// Parts are the digests of the image's manifest, configuration and layers.
func (r *Registry) Parts() (list []string) {
	r.t.Helper()
	text, err := os.ReadFile(r.Blob(r.Digest))
	if err != nil {
		r.t.Fatal(err)
	}
	var m struct {
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal(text, &m); err != nil || len(m.Layers) != 2 {
		r.t.Fatalf("got %+v, %v, want two layers", m, err)
	}
	return []string{r.Digest, m.Config.Digest, m.Layers[0].Digest, m.Layers[1].Digest}
}
