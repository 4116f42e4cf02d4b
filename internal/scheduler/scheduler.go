package scheduler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Config is how a Scheduler runs commands. The zero value works.
type Config struct {
	// Commands maps a command's bare name to its absolute path, for sites that
	// keep it elsewhere, and for commands that are this program itself.
	Commands map[string]string
	// Path lists the folders in which other commands are looked for, and is the
	// PATH the commands get. Default: DefaultPath.
	Path []string
	// Environment is what commands' variables are picked from, as
	// os.Environ gives it; only allow-listed names are. Default: os.Environ().
	Environment []string
	// SubmitTimeout and QueryTimeout are how long a command may take before it
	// is killed. Defaults: 60 s and 30 s. Actions take QueryTimeout.
	SubmitTimeout, QueryTimeout time.Duration
	// PerMinute is how many commands the batch system gets in a minute at most,
	// beyond a burst of ten seconds' worth: more wait. 0: no limit.
	PerMinute int
	// AtOnce is how many commands are run beside each other at most: more wait.
	// 0: no limit.
	AtOnce int
	// MaxOutput is how many bytes a command may print on each stream; more is
	// an error. Default: 64 MiB.
	MaxOutput int64
	// Log gets each command at debug level. Default: none.
	Log *slog.Logger
	// Seen gets each command that was run, maybe several at once. Default: none.
	Seen func(Ran)
}

// DefaultPath is where batch systems' commands are looked for. It is a list
// of its own, and not the user's PATH, so that no file in a folder that others
// write to is ever run.
var DefaultPath = []string{"/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/bin", "/opt/slurm/bin", "/opt/slurm/current/bin", "/cm/shared/apps/slurm/current/bin"}

// The most references that go into one command: far below what a command line
// can hold (128 KiB for one argument on Linux).
const batch = 1000

// A site without history is asked again after this time, for it may have got one.
const historyRetry = time.Hour

// Scheduler runs one driver's commands. Its methods can be called
// concurrently.
type Scheduler struct {
	driver Driver
	cfg    Config
	env    []string
	now    func() time.Time
	budget *budget       // nil without a limit
	room   chan struct{} // for commands at once; nil without a limit

	mu        sync.Mutex
	stats     Stats
	noHistory time.Time // when the site last said that it keeps none
	waiting   int       // commands that have not ended, abandoned ones among them
}

// New makes a Scheduler. It runs nothing yet; see Probe.
func New(d Driver, cfg Config) *Scheduler {
	if cfg.Path == nil {
		cfg.Path = DefaultPath
	}
	if cfg.Environment == nil {
		cfg.Environment = os.Environ()
	}
	if cfg.SubmitTimeout == 0 {
		cfg.SubmitTimeout = 60 * time.Second
	}
	if cfg.QueryTimeout == 0 {
		cfg.QueryTimeout = 30 * time.Second
	}
	if cfg.MaxOutput == 0 {
		cfg.MaxOutput = 64 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Scheduler{driver: d, cfg: cfg, env: environment(cfg.Environment, cfg.Path), now: time.Now}
	if cfg.PerMinute > 0 {
		s.budget = newBudget(cfg.PerMinute)
	}
	if cfg.AtOnce > 0 {
		s.room = make(chan struct{}, cfg.AtOnce)
	}
	return s
}

// System returns the name of the batch system.
func (s *Scheduler) System() string { return s.driver.System() }

// Submit runs the submit command and returns the members' references. A *[Refused] error means that nothing is
// queued. After any other error the job may be queued, or may be queued later
// by a command that was thought dead: take the start claim before anything
// else is done for this job.
func (s *Scheduler) Submit(ctx context.Context, sub Submission) ([]Ref, error) {
	sub.Size = max(sub.Size, 1)
	if !hpcsera.ValidID("s", sub.Tag) || !filepath.IsAbs(sub.Script) || !filepath.IsAbs(sub.Output) || !filepath.IsAbs(sub.Directory) {
		return nil, &Refused{Message: fmt.Sprintf("submission %q: its tag is not an id, or a path of it is not absolute", sub.Tag)}
	}
	if sub.Size > 1 && s.driver.Environment().Index == "" {
		return nil, &Refused{Message: s.driver.System() + " has no arrays"}
	}
	call := s.driver.Submit(sub)
	parse := call.Parse
	call.Parse = func(out Output) ([]Ref, error) {
		if out.Exit == 0 { // a line that broke off has a part of an id, which is another job's
			out.Stdout = out.Stdout[:bytes.LastIndexByte(out.Stdout, '\n')+1]
		}
		return parse(out)
	}
	refs, err := do(ctx, s, submitKind, call)
	if err == nil && len(refs) != sub.Size {
		err = fmt.Errorf("%d ids for %d jobs", len(refs), sub.Size)
	}
	if err != nil {
		if r, ok := errors.AsType[*Refused](err); ok {
			return nil, r
		}
		return nil, fmt.Errorf("submit %s (the job may be queued): %w", sub.Tag, err)
	}
	s.mu.Lock()
	s.stats.Jobs += int64(len(refs))
	s.mu.Unlock()
	for i := range refs {
		refs[i].Tag, refs[i].Member = sub.Tag, i
	}
	return refs, nil
}

// Probe asks the batch system what it is. Version is the batch system's.
func (s *Scheduler) Probe(ctx context.Context) (hpcsera.Facts, error) {
	facts := hpcsera.Facts{System: s.driver.System()}
	for _, call := range s.driver.Probe() {
		f, err := do(ctx, s, probeKind, call)
		if err != nil {
			return hpcsera.Facts{}, fmt.Errorf("probe %s: %w", s.driver.System(), err)
		}
		if f.Version != "" {
			facts.Version = f.Version
		}
		if f.Cluster != "" {
			facts.Cluster = f.Cluster
		}
		if f.Nodes != nil {
			facts.Nodes = f.Nodes
		}
		if f.Jobs != nil {
			facts.Jobs = f.Jobs
		}
		if f.LargestArray != 0 {
			facts.LargestArray = f.LargestArray
		}
		facts.OtherQueues = facts.OtherQueues || f.OtherQueues
		facts.Queues = append(facts.Queues, f.Queues...)
	}
	return facts.Usable(), nil
}

// Act cancels, holds or releases those of refs that the queue still lists
// under exactly that identity, and for which the action still means something:
// a running job is not held. The others are left alone, without an error. Refs
// may lack an ID. The queue is listed first, since an id may be another job's
// by now. An [*Unable] error is about the jobs it names: the rest was done.
func (s *Scheduler) Act(ctx context.Context, action Action, refs []Ref) error {
	if len(refs) == 0 {
		return nil
	}
	rows, err := s.queue(ctx, refs)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	var todo []Ref
	for _, ref := range refs {
		for _, row := range rows[ref.Tag] {
			if ref.Is(row.Ref) && action.applies(row) {
				todo = append(todo, row.Ref)
			}
		}
	}
	todo, unable := s.able(action, todo)
	for len(todo) > 0 {
		part := todo[:min(len(todo), batch)]
		todo = todo[len(part):]
		if _, err := do(ctx, s, actKind, s.driver.Act(action, part)); err != nil {
			return fmt.Errorf("%s %d jobs: %w", action, len(part), err)
		}
	}
	if unable != nil {
		return unable
	}
	return nil
}

// able parts from refs the jobs for which the driver has no command: they must
// not stand in the others' way.
func (s *Scheduler) able(action Action, refs []Ref) ([]Ref, *Unable) {
	var can []Ref
	var unable *Unable
	for _, ref := range refs {
		refusal := s.driver.Act(action, []Ref{ref}).Refusal
		switch {
		case refusal == nil:
			can = append(can, ref)
		case unable == nil:
			unable = &Unable{Message: refusal.Message, Refs: []Ref{ref}}
		default:
			unable.Refs = append(unable.Refs, ref)
		}
	}
	return can, unable
}

// applies reports whether the action means anything for a job in this state.
// A job that the site held may be the user's to release; the batch system
// decides.
func (a Action) applies(st Status) bool {
	switch a {
	case Hold:
		return st.Phase == PhaseQueued
	case Release:
		return st.Phase == PhaseHeld || st.Phase == PhaseQueued && st.Reason == hpcsera.HeldBySite
	}
	return st.Phase != PhaseEnded
}
