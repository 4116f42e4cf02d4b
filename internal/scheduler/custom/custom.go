// Package custom drives any batch system by configuration alone: a YAML file
// has the commands as argument vectors, says how to read what they print, and
// what each native state means. No command passes a shell, and no value that
// a job brings can become an option or a second argument. The agent's
// scheduler.Scheduler is its only caller.
//
// examples/custom-schedulers has such files, and their keys in its README.md.
// What a file does not say, a driver made of it refuses: a job that asks for
// something for which there is no argument is not submitted without it. There
// are no arrays.
//
// As with every driver a listing is read as a whole or not at all, so a file
// has to name what a whole one begins and ends with. A state that no rule of
// the file knows is unknown, whatever it says.
package custom

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// Driver is a driver made of a file by Load or Parse. It is immutable.
type Driver struct {
	file   file
	name   string // of the file, for messages
	folder string
	user   string
}

// Load reads a scheduler file. user is the account the agent runs as, whose
// rights its commands have: a file that everybody can write is refused.
func Load(path, user string) (Driver, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Driver{}, fmt.Errorf("scheduler: %w", err)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return Driver{}, offence(path, "everybody can write it, and so what commands run as %s.", user).Hint("chmod o-w %s", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Driver{}, fmt.Errorf("scheduler: %w", err)
	}
	return Parse(path, text, user)
}

// Parse makes a driver of a scheduler file's text and checks all of it: errors
// name the file's line and what to do.
func Parse(path string, text []byte, user string) (Driver, error) {
	doc, err := strictyaml.Parse(path, text)
	if err != nil {
		return Driver{}, err
	}
	d := Driver{name: filepath.Base(path), folder: filepath.Dir(path), user: user}
	if err := doc.Decode(&d.file); err != nil {
		return Driver{}, err
	}
	d.file.Queue.in = inQueue
	if d.file.History != nil {
		d.file.History.in = inHistory
	}
	if err := d.file.check(); err != nil {
		return Driver{}, doc.Locate(err)
	}
	return d, nil
}

// System returns the name that the file gives the batch system.
func (d Driver) System() string { return d.file.System }

// Traits says what a file says of itself: its commands.
func (d Driver) Traits() scheduler.Traits {
	t := scheduler.Traits{Submit: d.file.Submit.Command.name(), Queue: d.file.Queue.Command.name()}
	if h := d.file.History; h != nil && h.Command.name() != t.Queue { // else nobody can tell them apart
		t.History = h.Command.name()
	}
	return t
}

// Environment says what the file says.
func (d Driver) Environment() scheduler.Environment {
	e := d.file.Environment
	return scheduler.Environment{ID: e.ID, Cluster: e.Cluster, Directory: e.Directory, Pass: e.Pass, Drop: e.Drop}
}

// Queue lists the user's jobs.
func (d Driver) Queue() scheduler.Call[[]scheduler.Status] {
	return d.list(d.file.Queue.Command, d.file.Queue, nil)
}

// History asks for jobs that have left the queue, by their ids or by their tags.
func (d Driver) History(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	h := d.file.History
	if h == nil {
		return scheduler.Call[[]scheduler.Status]{}, false
	}
	argv := h.Command
	if len(refs) > 0 && refs[0].ID == "" {
		argv = h.ByTag
	}
	return d.list(argv, *h, refs), true
}

func (d Driver) list(c command, l listing, refs []scheduler.Ref) scheduler.Call[[]scheduler.Status] {
	argv, refusal := c.build(d.common(refs))
	return scheduler.Call[[]scheduler.Status]{Argv: argv, Env: d.file.Variables, Refusal: refusal, Parse: func(out scheduler.Output) ([]scheduler.Status, error) {
		if out.Exit != 0 {
			if l.None.in(out.Stderr) {
				return nil, scheduler.ErrNoHistory
			}
			return nil, d.file.Product.Failed(out)
		}
		return d.statuses(l, out.Stdout)
	}}
}

// common are the values that every command can use.
func (d Driver) common(refs []scheduler.Ref) values {
	v := values{"user": d.user, "folder": d.folder}
	if refs != nil {
		var ids, tags []string
		for _, r := range refs {
			ids, tags = append(ids, r.ID), append(tags, r.Tag)
		}
		v["ids"], v["tags"] = ids, tags
	}
	return v
}

// Act cancels, holds or releases where the file has a command for it.
func (d Driver) Act(action scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	a := map[scheduler.Action]*act{scheduler.Cancel: d.file.Cancel, scheduler.Hold: d.file.Hold, scheduler.Release: d.file.Release}[action]
	if a == nil {
		return scheduler.Call[struct{}]{Refusal: &scheduler.Refused{Message: fmt.Sprintf("%s has no command to %s a job; cancel it instead, or add %s to that file", d.name, action, action)}}
	}
	argv, refusal := a.Command.build(d.common(refs))
	return scheduler.Call[struct{}]{Argv: argv, Env: d.file.Variables, Refusal: refusal, Parse: func(out scheduler.Output) (struct{}, error) {
		return struct{}{}, d.file.Product.Acted(out, a.gone())
	}}
}

// Probe runs the file's commands. All they are to find must be there.
func (d Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	var calls []scheduler.Call[hpcsera.Facts]
	for _, p := range d.file.Probe {
		argv, refusal := p.Command.build(d.common(nil))
		calls = append(calls, scheduler.Call[hpcsera.Facts]{Argv: argv, Env: d.file.Variables, Refusal: refusal, Parse: func(out scheduler.Output) (hpcsera.Facts, error) {
			return d.facts(p, out)
		}})
	}
	return calls
}
