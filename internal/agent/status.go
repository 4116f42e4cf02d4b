package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Status is what a running agent says of itself, in STATE_DIR/status.json,
// for `hpcsera-agent status`.
type Status struct {
	Instance string    `json:"instance"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	At       time.Time `json:"at"`
	Ended    time.Time `json:"ended,omitzero"`   // when it stopped; zero while it runs, and after it was killed
	Spoke    time.Time `json:"spoke"`            // last answer of the server
	Server   string    `json:"server,omitempty"` // what is wrong with it
	System   string    `json:"system"`
	Batch    string    `json:"batch,omitempty"`   // what is wrong with the batch system
	Journal  string    `json:"journal,omitempty"` // what is wrong with the journal
	Spool    string    `json:"spool,omitempty"`   // what is wrong with the spool
	Jobs     int       `json:"jobs"`              // unfinished
	Unsent   int       `json:"unsent"`            // facts the server has not answered
	Use      Use       `json:"use"`
	// What the batch system was asked to do by this instance.
	Commands *scheduler.Stats `json:"commands,omitempty"`
}

// board keeps the status and writes it now and then.
type board struct {
	path string
	mu   sync.Mutex
	now  Status
}

func newBoard(dir string) *board { return &board{path: statusPath(dir)} }

func statusPath(dir string) string { return filepath.Join(dir, "status.json") }

func (b *board) set(change func(*Status)) {
	b.mu.Lock()
	change(&b.now)
	b.mu.Unlock()
}

const boardInterval = 5 * time.Second

// boardLoop writes the status every few seconds until ctx ends.
func (a *Agent) boardLoop(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.engine.read(ctx, a.describe); err == nil {
			a.publish()
		}
		sleep(ctx, boardInterval)
	}
	return nil
}

// describe takes into the status what the engine knows. It is for the engine's
// goroutine, or for after its end.
func (a *Agent) describe() {
	e := a.engine
	a.state.set(func(s *Status) {
		s.Instance, s.Host, s.PID, s.At, s.System = a.instance, a.host, os.Getpid(), time.Now().UTC(), a.batch.System()
		s.Use = measure()
		s.Use.LoginSteps, s.Use.LoginLimit = e.loginSteps(), a.config.LoginSteps
		s.Jobs, s.Unsent, s.Journal = len(e.jobs), len(e.unsent), errorText(e.failing)
	})
}

// stats is what the batch system was asked so far, where somebody counts.
func (a *Agent) stats() (scheduler.Stats, bool) {
	counted, ok := a.batch.(interface{ Stats() scheduler.Stats })
	if !ok {
		return scheduler.Stats{}, false
	}
	return counted.Stats(), true
}

// since is what was asked after an earlier count, for the server; nil for
// nothing.
func since(now, before scheduler.Stats) *hpcsera.Commands {
	c := hpcsera.Commands{
		Jobs: now.Jobs - before.Jobs, Submit: now.Submit.Runs - before.Submit.Runs, Queue: now.Queue.Runs - before.Queue.Runs,
		History: now.History.Runs - before.History.Runs, Act: now.Act.Runs - before.Act.Runs, Probe: now.Probe.Runs - before.Probe.Runs,
	}
	if c == (hpcsera.Commands{}) {
		return nil
	}
	return &c
}

// loginSteps counts those that run now.
func (e *engine) loginSteps() (n int) {
	for _, j := range e.jobs {
		if j.step < len(j.plan) && j.plan[j.step].Type == hpcsera.LoginStep && j.status != nil && j.status.Phase == scheduler.PhaseRunning {
			n++
		}
	}
	return n
}

// besideAnother reports whether the status is another instance's to tell: one
// that lives on this host, or did a moment ago on another one, while this one
// waits for its term.
func (a *Agent) besideAnother() bool {
	if a.granted.Load() != 0 {
		return false
	}
	s, alive, known, err := ReadStatus(a.config.StateDir)
	return err == nil && known && s.Instance != a.instance && s.Ended.IsZero() && (alive || s.Host != a.host && time.Since(s.At) < 3*boardInterval)
}

// publish writes the status where it is looked for.
func (a *Agent) publish() {
	if a.besideAnother() {
		return
	}
	a.state.set(func(s *Status) {
		if stats, ok := a.stats(); ok {
			s.Commands = &stats
		}
	})
	_ = a.state.write() // what fails here is told in the log
}

// write puts the status where it is looked for.
func (b *board) write() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := json.Marshal(b.now)
	if err == nil && replaceFile(b.path, text, 0o600) != nil {
		err = overwrite(b.path, text)
	}
	return err
}

// publishEnd says that this instance stopped with err. One that another took
// over from, or never came beside, keeps silent: the other one tells of itself.
func (a *Agent) publishEnd(err error) {
	if code := hpcsera.CodeOf(err); code == hpcsera.StaleTerm || code == hpcsera.AgentActive {
		return
	}
	a.describe()
	a.state.set(func(s *Status) { s.Ended = s.At })
	a.publish()
}

// overwrite puts JSON over what a file holds. That needs no new block, so a
// full disk can be told where it is looked for.
func overwrite(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		rest := max(0, int(info.Size())-len(text))
		_, err = f.WriteAt(append(text, bytes.Repeat([]byte{' '}, rest)...), 0)
	}
	return errors.Join(err, f.Close())
}

// ReadStatus returns what the last instance wrote, and whether its process
// lives on this host. ok is false when there was none.
func ReadStatus(dir string) (s Status, alive, ok bool, err error) {
	b, err := os.ReadFile(statusPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, false, nil
	}
	if err != nil {
		return s, false, false, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, false, false, err
	}
	f, known := readInstance(dir)
	host, _ := os.Hostname()
	if known && f.Host == host && f.Boot == bootID() && f.alive() {
		if s.Instance != f.Instance {
			s.PID, s.Ended = f.PID, time.Time{} // a run from cron looked in meanwhile
		}
		return s, s.Ended.IsZero(), true, nil
	}
	// Before it was granted a term, an instance tells of itself here alone.
	return s, s.Ended.IsZero() && s.Host == host && time.Since(s.At) < 3*boardInterval && processStart(s.PID) != "", true, nil
}
