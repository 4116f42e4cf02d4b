package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/store"
)

// LogRef names one stream of a job's output.
type LogRef struct {
	Job     string
	Stream  string // stdout or stderr
	Attempt int    // 0 is the job's current one (reading only)
}

// name is the stream's name in the log store: of a checked id, a number and
// one of two words.
func (ref LogRef) name() string { return fmt.Sprintf("%s/%d/%s", ref.Job, ref.Attempt, ref.Stream) }

func (ref LogRef) check() error {
	if ref.Stream != "stdout" && ref.Stream != "stderr" {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not an output.", ref.Stream).At("stream").Hint("Use stdout or stderr.")
	}
	if ref.Attempt < 0 || ref.Attempt > maxAttempts {
		return hpcsera.Errorf(hpcsera.InvalidField, "%d is not an attempt.", ref.Attempt).At("attempt")
	}
	if !hpcsera.ValidID("j", ref.Job) {
		return noJob(ref.Job)
	}
	return nil
}

const maxAttempts = 10_000

// AppendLog takes output from the job's agent and returns the stream's new
// size. An offset that is not the stream's size is wrong_offset with Expected.
func (s *Service) AppendLog(ctx context.Context, p *auth.Principal, ref LogRef, offset int64, body io.Reader) (int64, error) {
	if err := ref.check(); err != nil {
		return 0, err
	}
	if ref.Attempt == 0 {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "an upload names its attempt.").At("attempt")
	}
	if _, err := s.get(ctx, p, auth.AppendJobLog, ref.Job); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "%d is not an offset.", offset).At("offset")
	}
	sent := &sender{r: body}
	size, err := s.cfg.Logs.AppendLog(ctx, ref.name(), offset, sent)
	s.logs.wake(ref.name())
	var other *blob.OffsetError
	switch {
	case errors.As(err, &other):
		e := hpcsera.Errorf(hpcsera.WrongOffset, "the output goes on at byte %d, not at %d.", other.Expected, offset).At("offset")
		e.Expected = other.Expected
		return other.Expected, e
	case errors.Is(err, blob.ErrFull):
		return size, hpcsera.Errorf(hpcsera.StorageFull, "the server's disk is full: %w", err)
	case err != nil && sent.err != nil:
		return size, hpcsera.Errorf(hpcsera.MalformedRequest, "the body broke off: %w", sent.err).Hint("Ask for the offset, and go on there.")
	case err != nil:
		return size, fmt.Errorf("append to log %s: %w", ref.name(), err)
	}
	return size, nil
}

// sender remembers a body's error, which is the network's, while an error
// beside it is the disk's.
type sender struct {
	r   io.Reader
	err error
}

func (b *sender) Read(buf []byte) (int, error) {
	n, err := b.r.Read(buf)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// Log opens a job's output as far as it is here; a stream without output is
// empty. The caller closes the file.
func (s *Service) Log(ctx context.Context, p *auth.Principal, ref LogRef) (blob.File, error) {
	if err := ref.check(); err != nil {
		return nil, err
	}
	j, err := s.get(ctx, p, auth.GetJobLog, ref.Job)
	if err != nil {
		return nil, err
	}
	if ref.Attempt == 0 {
		ref.Attempt = j.Attempt
	}
	return s.openLog(ctx, ref)
}

func (s *Service) openLog(ctx context.Context, ref LogRef) (blob.File, error) {
	f, err := s.cfg.Logs.OpenLog(ctx, ref.name())
	if errors.Is(err, blob.ErrNotFound) {
		return noOutput{strings.NewReader("")}, nil
	} else if err != nil {
		return nil, fmt.Errorf("open log %s: %w", ref.name(), err)
	}
	return f, nil
}

// noOutput is a stream before its first byte.
type noOutput struct{ *strings.Reader }

func (noOutput) Close() error { return nil }

// FollowLog writes a job's output to w from offset on and goes on as it comes,
// until the job has ended, or another attempt of it began, and all is written.
// It ends early as Stream does. flush is called when w should reach the reader.
func (s *Service) FollowLog(ctx context.Context, p *auth.Principal, ref LogRef, offset int64, w io.Writer, flush func() error) error {
	if err := ref.check(); err != nil {
		return err
	}
	if offset < 0 {
		return hpcsera.Errorf(hpcsera.InvalidField, "%d is not an offset.", offset).At("offset")
	}
	sub := s.cfg.Store.Feed().Subscribe(func(c *store.Change) bool { return c.Job == ref.Job })
	defer sub.Close()
	j, err := s.get(ctx, p, auth.GetJobLog, ref.Job)
	if err != nil {
		return err
	}
	if ref.Attempt == 0 {
		ref.Attempt = j.Attempt
	}
	wake, forget := s.logs.subscribe(ref.name())
	defer forget()
	follower := follower{s: s, ref: ref, offset: offset, w: w, flush: flush, over: j.State.Final() || j.Attempt > ref.Attempt}
	watch := s.watch(p)
	for ctx.Err() == nil && !s.stopping() {
		done, more, err := follower.step(ctx)
		if err != nil || done {
			return err
		}
		if !more && follower.pause(ctx, watch, sub, wake) {
			if j, err = s.get(ctx, p, auth.GetJobLog, ref.Job); err != nil {
				return err
			}
			follower.over = j.State.Final() || j.Attempt > ref.Attempt
		}
		if watch.overdue() {
			if err := watch.check(ctx); err != nil {
				return err
			}
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// follower is the state of one FollowLog.
type follower struct {
	s      *Service
	ref    LogRef
	offset int64
	w      io.Writer
	flush  func() error
	over   bool // the attempt has ended
	quiet  int  // steps without output since then
}

// maxStep is how much is written between two looks at the watch: a slow reader
// may take hours for a long log.
const maxStep = 64 << 10

// step writes what is there, or a part of it. more says that there is more to
// write now, done that the log has ended.
func (f *follower) step(ctx context.Context) (done, more bool, err error) {
	file, err := f.s.openLog(ctx, f.ref)
	if err != nil {
		return false, false, err
	}
	defer file.Close()
	there := max(file.Size()-f.offset, 0)
	n, err := io.Copy(f.w, io.NewSectionReader(file, f.offset, min(there, maxStep)))
	f.offset += n
	switch {
	case err != nil:
		return false, false, err
	case n > 0:
		f.quiet = 0
		return false, n < there, f.flush()
	}
	if f.over {
		f.quiet++
	}
	// Output that was under way when the job ended has a moment to arrive.
	return f.quiet > 1, false, nil
}

// pause waits for more output, the attempt's end, or a second: output that
// came to another replica wakes nobody here. lost says that changes were
// missed.
func (f *follower) pause(ctx context.Context, watch *watch, sub *store.Subscription, wake <-chan struct{}) (lost bool) {
	limited, cancel := f.s.until(ctx, time.Second)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with stop
		select {
		case <-wake:
			cancel()
		case <-stop:
		}
	}()
	changes, lost := watch.wait(limited, sub)
	for _, c := range changes {
		f.over = f.over || c.State.Final() || c.Attempt > f.ref.Attempt || c.Type == store.ErasedEvent
	}
	return lost
}

// logWakers tells followers on this replica that output came.
type logWakers struct {
	mu   sync.Mutex
	subs map[string]map[chan struct{}]struct{}
}

func newLogWakers() *logWakers { return &logWakers{subs: map[string]map[chan struct{}]struct{}{}} }

func (l *logWakers) wake(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.subs[name] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (l *logWakers) subscribe(name string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subs[name] == nil {
		l.subs[name] = map[chan struct{}]struct{}{}
	}
	l.subs[name][c] = struct{}{}
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if delete(l.subs[name], c); len(l.subs[name]) == 0 {
			delete(l.subs, name)
		}
	}
}

// Artifact opens one result of a job. The caller closes the file.
func (s *Service) Artifact(ctx context.Context, p *auth.Principal, id, path string) (hpcsera.Artifact, blob.File, error) {
	j, err := s.get(ctx, p, auth.GetArtifact, id)
	if err != nil {
		return hpcsera.Artifact{}, nil, err
	}
	for _, a := range j.Artifacts {
		if a.Path != path {
			continue
		}
		f, err := s.cfg.Blobs.Open(ctx, a.Digest)
		if errors.Is(err, blob.ErrNotFound) {
			break
		} else if err != nil {
			return a, nil, fmt.Errorf("open artifact %s of %s: %w", path, id, err)
		}
		return a, f, nil
	}
	return hpcsera.Artifact{}, nil, hpcsera.Errorf(hpcsera.NotFound, "the job has no artifact %q.", path)
}
