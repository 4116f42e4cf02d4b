package trial

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Recording is a folder with what commands of the batch system printed, for the
// tests of its driver: NUMBER-COMMAND.cmd has its path, the arguments, one a line,
// and the exit status; .out and .err have the two streams.
type Recording struct {
	dir   string
	mask  Mask
	count int
	err   error
}

// recordingLimit bounds a recording: the rest is more of the same.
const recordingLimit = 1000

const recordingReadme = `What commands of the batch system printed for hpcsera-agent doctor, with their
arguments and exit status, for the tests of HPCSerA.

LOOK THROUGH IT BEFORE YOU SEND IT. These names were replaced by stand-ins: your
account, your home folder, this login node. Everything else is as it was printed.
Look above all for

  - accounts, groups and projects of yours, and names of other users: some
    systems list everybody's jobs
  - names of jobs and folders of yours
  - names and addresses of nodes, servers and queues, where your site keeps
    them to itself
  - tokens and passwords: none should be there, but a site's own wrapper around
    a command may print anything

    grep -rniE 'token|passw|secret|@' .

Replace what must not be seen by something of the same length: some systems print
columns of fixed width. Files that are not needed may be removed.
`

// NewRecording makes the folder, which must be new or empty.
func NewRecording(dir string, mask Mask) (*Recording, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("record: %s is not empty. Name a new folder", dir)
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte(recordingReadme), 0o600); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return &Recording{dir: dir, mask: mask}, nil
}

// Err returns what went wrong first.
func (r *Recording) Err() error { return r.err }

// Count is how many commands were recorded.
func (r *Recording) Count() int { return r.count }

// add records one command. One that was killed has printed nothing whole.
func (r *Recording) add(ran scheduler.Ran) {
	if r.err != nil || r.count == recordingLimit {
		return
	}
	r.count++
	var cmd strings.Builder
	fmt.Fprintf(&cmd, "path %s\n", ran.Path)
	for _, arg := range ran.Argv {
		fmt.Fprintf(&cmd, "argv %s\n", arg)
	}
	for _, pair := range ran.Env {
		fmt.Fprintf(&cmd, "env %s\n", pair)
	}
	fmt.Fprintf(&cmd, "exit %d\n", ran.Output.Exit)
	if ran.Err != nil {
		fmt.Fprintf(&cmd, "error %s\n", ran.Err)
	}
	name := filepath.Join(r.dir, fmt.Sprintf("%03d-%s", r.count, filepath.Base(ran.Argv[0])))
	for end, text := range map[string]string{".cmd": cmd.String(), ".out": string(ran.Output.Stdout), ".err": string(ran.Output.Stderr)} {
		r.err = errors.Join(r.err, write(name+end, r.mask.Text(text)))
	}
}

func write(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(0o600))
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
