package container

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// prepareTimeout bounds each command that prepares an image.
const prepareTimeout = time.Hour

// Store keeps the images of one agent in a folder that its compute nodes see.
// Its methods can be called concurrently, also by another agent on the folder.
type Store struct {
	dir     string
	runtime Runtime

	mu      sync.Mutex
	busy    map[string]chan struct{} // by image: who is at it
	fetches chan struct{}            // images that are being fetched and prepared
}

// atOnce bounds the images that are fetched at the same time.
const atOnce = 2

// NewStore returns the store in dir for a runtime that was checked.
func NewStore(dir string, runtime Runtime) *Store {
	return &Store{dir: dir, runtime: runtime.complete(), busy: map[string]chan struct{}{}, fetches: make(chan struct{}, atOnce)}
}

// Image is one that is ready to run.
type Image struct {
	Path string // what the site's tool made of it
	Name string // in the store of a tool that keeps images itself
}

// Get returns the image of a container, fetched, checked and prepared where it
// is not there yet, with room for the container's mounts.
func (s *Store) Get(ctx context.Context, c hpcsera.Container, login Login) (Image, error) {
	host, repository, digest := c.Parts()
	image := Image{Name: named(digest)}
	final := filepath.Join(s.dir, strings.TrimPrefix(digest, "sha256:")+"-"+s.key())
	image.Path = filepath.Join(final, "image")
	unlock, err := s.lock(ctx, final)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(final, "ready")); errors.Is(err, fs.ErrNotExist) {
		if err := s.add(ctx, final, image.Name, reference{host, repository, digest}, login); err != nil {
			return Image{}, err
		}
	} else if err != nil {
		return Image{}, &HostTrouble{err}
	}
	now := time.Now()
	_ = os.Chtimes(final, now, now) // for whoever cleans up
	return image, makeRoom(image.Path, c)
}

// HostTrouble is an error of this host, such as a full disk: it says nothing about
// the image.
type HostTrouble struct{ error }

// Unwrap returns the host's own error.
func (h *HostTrouble) Unwrap() error { return h.error }

// lock waits until nobody else here is at an image, and returns the unlocking.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	s.mu.Lock()
	m := s.busy[name]
	if m == nil {
		m = make(chan struct{}, 1)
		s.busy[name] = m
	}
	s.mu.Unlock()
	return take(ctx, m)
}

// take waits for a place and returns what gives it back.
func take(ctx context.Context, places chan struct{}) (free func(), err error) {
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, &HostTrouble{ctx.Err()}
	}
}

// key tells apart what different commands make of the same image.
func (s *Store) key() string {
	text, _ := json.Marshal(s.runtime.Prepare) // lists of strings cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:4])
}

// add fetches an image and lets the site's commands prepare it.
func (s *Store) add(ctx context.Context, final, name string, ref reference, login Login) error {
	free, err := take(ctx, s.fetches)
	if err != nil {
		return err
	}
	defer free()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return &HostTrouble{err}
	}
	tmp, err := os.MkdirTemp(s.dir, ".new-")
	if err != nil {
		return &HostTrouble{err}
	}
	defer os.RemoveAll(tmp)
	work := filepath.Join(tmp, "work")
	img, err := fetch(ctx, ref, login, work)
	if err != nil {
		return err
	}
	archive, rootfs := filepath.Join(work, "archive.tar"), filepath.Join(work, "rootfs.tar")
	if s.runtime.uses("{archive}") {
		if err := writeArchive(img, name, archive); err != nil {
			return err
		}
	}
	if s.runtime.uses("{rootfs}") {
		if err := writeRootfs(img, rootfs); err != nil {
			return err
		}
	}
	values := strings.NewReplacer("{archive}", archive, "{rootfs}", rootfs, "{image}", filepath.Join(tmp, "image"), "{name}", name)
	for _, template := range s.runtime.Prepare {
		var argv []string
		for _, word := range template {
			argv = append(argv, values.Replace(word))
		}
		if err := s.command(ctx, argv); err != nil {
			return err
		}
	}
	if err := errors.Join(os.RemoveAll(work), os.WriteFile(filepath.Join(tmp, "ready"), nil, 0o600)); err != nil {
		return &HostTrouble{err}
	}
	err = os.Rename(tmp, final)
	if _, there := os.Stat(filepath.Join(final, "ready")); err != nil && there != nil {
		return &HostTrouble{err}
	}
	return nil // or another agent was faster
}

// command runs one of the site's commands, with all that it starts.
func (s *Store) command(ctx context.Context, argv []string) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var said lastWords
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return &HostTrouble{ctx.Err()} // the agent stops
	}
	return hpcsera.Errorf(hpcsera.InvalidField, "%s could not prepare the image: %w. %s", argv[0], err, said).At("container.image")
}

// lastWords is the end of what a command printed, which tells why it failed: a tool
// may print without end.
type lastWords []byte

func (w *lastWords) Write(b []byte) (int, error) {
	const most = 2000
	*w = append(*w, b...)
	*w = append((*w)[:0], (*w)[max(0, len(*w)-most):]...)
	return len(b), nil
}

func (w lastWords) String() string {
	return strings.TrimSpace(strings.ToValidUTF8(string(w), "\ufffd"))
}

// makeRoom makes the folders to mount at in an image that is a folder itself,
// for tools that cannot. Links of the image lead nowhere outside of it.
func makeRoom(path string, c hpcsera.Container) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return &HostTrouble{err}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return &HostTrouble{err}
	}
	defer root.Close()
	targets := map[string]string{"container": JobDir, "container.image": StepDir}
	for i, b := range c.Binds() {
		targets[hpcsera.MountField(i)] = b.Target
	}
	for field, target := range targets {
		target = strings.TrimPrefix(target, "/")
		if _, err := root.Stat(target); err == nil {
			continue
		}
		if err := root.MkdirAll(target, 0o755); err != nil {
			return hpcsera.Errorf(hpcsera.NotSupportedBySite, "the image has no room for a mount at /%s: %w.", target, err).At(field).
				Hint("Choose a target that the image has, or that can be made in it.")
		}
	}
	return nil
}

// Clean removes images that no job asked for since a time, and what an agent that
// was killed left half-made.
func (s *Store) Clean(ctx context.Context, since time.Time) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("images: %w", err)
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.ModTime().Before(since) {
			name := filepath.Join(s.dir, e.Name())
			unlock, err := s.lock(ctx, name)
			if err != nil {
				return err
			}
			_ = os.Remove(filepath.Join(name, "ready")) // half an image is none
			errs = append(errs, os.RemoveAll(name))
			unlock()
		}
	}
	return errors.Join(errs...)
}
