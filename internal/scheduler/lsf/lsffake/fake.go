// Package lsffake is a small LSF for tests: bsub, bjobs, bhist, bkill, bstop,
// bresume, bhosts, bqueues, bparams, lshosts and lsid, with the words, exit statuses and output
// of IBM Spectrum LSF 10.1 as its documentation and recordings tell them. Jobs are processes of this host. Nothing but tests may use it.
//
// There is no daemon that schedules: all state is one file in a folder, which
// each command locks, and whoever comes by starts what can start. A started
// job has a process of its own (sbatchd) that runs it, ends it at its run limit
// or when bkill says so, and writes down its end.
//
// The commands are symbolic links to the test's own program: Install makes
// them, and the program's TestMain hands over to Main when it Serves its name.
package lsffake

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// commands are the names the program serves; sbatchd is for its own use.
var commands = []string{"bsub", "bjobs", "bhist", "bkill", "bstop", "bresume", "bhosts", "bqueues", "bparams", "lshosts", "lsid", "sbatchd"}

// Settings are the site's. The zero value works.
type Settings struct {
	Minute       time.Duration // how long a minute of a run limit lasts; default a minute
	CleanPeriod  time.Duration // how long bjobs -a shows ended jobs; default an hour
	KillInterval time.Duration // between SIGINT, SIGTERM and SIGKILL; default 10 s
	Slots        int           // of the cluster; default 100
	ArraySize    int           // largest index; default 1000
	MaxPending   int           // jobs of the user; default no limit
}

// Install makes a cluster in dir, whose commands are program, and returns the
// folder with the commands.
func Install(dir, program string, s Settings) (string, error) {
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(os.MkdirAll(bin, 0o700), os.MkdirAll(filepath.Join(dir, "work"), 0o700)); err != nil {
		return "", err
	}
	for _, name := range commands {
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	return bin, os.WriteFile(filepath.Join(dir, "settings.json"), text, 0o600)
}

// Serves reports whether a program that was started under this name is to call
// Main.
func Serves(argv0 string) bool {
	return filepath.Base(filepath.Dir(argv0)) == "bin" && slices.Contains(commands, filepath.Base(argv0))
}

// Main is the commands. It returns the exit status.
func Main(argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &command{dir: filepath.Dir(filepath.Dir(argv[0])), name: filepath.Base(argv[0]), stdin: stdin, stdout: stdout, stderr: stderr}
	if err := c.settle(); err != nil {
		return c.fail("%v", err)
	}
	if c.name != "sbatchd" && c.down() {
		return c.fail("Connection refused by server%s", map[bool]string{true: ". Job not submitted."}[c.name == "bsub"])
	}
	run := map[string]func([]string) int{
		"bsub": c.bsub, "bjobs": c.bjobs, "bhist": c.bhist, "bkill": c.control, "bstop": c.control, "bresume": c.control,
		"bhosts": c.bhosts, "bqueues": c.bqueues, "bparams": c.bparams, "lshosts": c.lshosts, "lsid": c.lsid, "sbatchd": c.sbatchd,
	}[c.name]
	return run(argv[1:])
}

type command struct {
	Settings
	dir, name      string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// failure is the exit status of LSF's commands: -1.
const failure = 255

func (c *command) fail(format string, args ...any) int {
	fmt.Fprintf(c.stderr, format+"\n", args...)
	return failure
}

func (c *command) path(elements ...string) string {
	return filepath.Join(append([]string{c.dir}, elements...)...)
}

func (c *command) settle() error {
	text, err := os.ReadFile(c.path("settings.json"))
	if err == nil {
		err = json.Unmarshal(text, &c.Settings)
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{{&c.Minute, time.Minute}, {&c.CleanPeriod, time.Hour}, {&c.KillInterval, 10 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if c.Slots == 0 {
		c.Slots = 100
	}
	if c.ArraySize == 0 {
		c.ArraySize = 1000
	}
	return err
}

// down waits while the controller is down, as LSF's commands do, and gives up
// after LSB_NTRIES tries.
func (c *command) down() bool {
	tries, err := strconv.Atoi(os.Getenv("LSB_NTRIES"))
	for n := 1; ; n++ {
		if _, missing := os.Stat(c.path("down")); missing != nil {
			return false
		}
		if err == nil && n >= tries {
			return true
		}
		fmt.Fprintln(c.stderr, "LSF is down. Please wait ...")
		<-time.NewTimer(time.Second).C
	}
}

// state is what the controller knows.
type state struct {
	Last int    `json:"last"` // id
	Jobs []*job `json:"jobs"` // in the order of their submission, members by index
}

// update locks the state, changes it and, if change succeeds, writes it back
// whole.
func (c *command) update(change func(*state) error) error {
	lock, err := lock(c.dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	var s state
	text, err := os.ReadFile(c.path("state.json"))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := errors.Join(change(&s), c.dispatch(&s)); err != nil {
		return err
	}
	if text, err = json.Marshal(s); err != nil {
		return err
	}
	if err := os.WriteFile(c.path("state.new"), text, 0o600); err != nil {
		return err
	}
	return os.Rename(c.path("state.new"), c.path("state.json"))
}

// lock keeps the cluster in dir to the caller until it closes the file.
func lock(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// Controller stops and starts the controller of a cluster.
type Controller struct{ Dir string }

func (c Controller) file(name string) string { return filepath.Join(c.Dir, name) }

// Kill takes the controller away.
func (c Controller) Kill() error { return os.WriteFile(c.file("down"), nil, 0o600) }

// KillAndRemember does so and keeps a copy of what it knew.
func (c Controller) KillAndRemember() error {
	lock, err := lock(c.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	text, err := os.ReadFile(c.file("state.json"))
	return errors.Join(err, c.Kill(), os.WriteFile(c.file("copy.json"), text, 0o600))
}

// Start brings it back.
func (c Controller) Start() error { return os.Remove(c.file("down")) }

// StartFromCopy brings it back with what it knew when it was remembered. A job
// that ends meanwhile says so to the old or to the new knowledge, and never
// writes the old one back.
func (c Controller) StartFromCopy() error {
	lock, err := lock(c.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	return errors.Join(os.Rename(c.file("copy.json"), c.file("state.json")), c.Start())
}

func token() string { return rand.Text() }
