package agent

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
)

// chunk bounds one log request.
const chunk = 1 << 20

// stream is one output stream of an attempt: the files of its steps, one
// after another, and how much of them the server has.
type stream struct {
	job     string
	name    string // stdout or stderr
	attempt int
	files   []string

	mu    sync.Mutex
	sent  int64
	quiet int       // looks in a row that found nothing
	due   time.Time // of the next look
	back  backoff
}

// logLoop streams the output of running jobs until ctx ends. A stream that is
// quiet is looked at less often, down to every ten seconds.
func (a *Agent) logLoop(ctx context.Context) error {
	streams := map[string]*stream{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var live []*stream
		if a.engine.read(ctx, func() { live = a.engine.liveStreams() }) != nil {
			return nil
		}
		kept := map[string]*stream{}
		for _, s := range live {
			key := s.job + s.name
			if old := streams[key]; old != nil && old.attempt == s.attempt {
				old.files = s.files
				s = old
			}
			kept[key] = s
			if now := time.Now(); now.After(s.due) {
				s.look(ctx, a, now)
			}
		}
		streams = kept
	}
}

// look sends what is new and decides when to look again.
func (s *stream) look(ctx context.Context, a *Agent, now time.Time) {
	grew, err := s.send(ctx, a)
	switch {
	case err != nil && ctx.Err() == nil:
		s.due = now.Add(s.back.next())
		a.log.Warn("log not delivered", "job", s.job, "stream", s.name, "error", err)
	case grew:
		s.quiet, s.due = 0, time.Time{}
		s.back.reset()
	default:
		s.quiet = min(s.quiet+1, 10)
		s.due = now.Add(time.Duration(s.quiet) * time.Second)
	}
}

// send brings the server's copy up to the end of the files as they are now.
func (s *stream) send(ctx context.Context, a *Agent) (grew bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back.first == 0 {
		s.back = backoff{first: time.Second, most: time.Minute}
	}
	corrections := 0
	for {
		b, err := s.read()
		if err != nil || len(b) == 0 {
			return grew, err
		}
		err = a.api.PutLog(ctx, s.job, s.name, s.attempt, s.sent, b)
		var e *hpcsera.Error
		if errors.As(err, &e) && e.Code == hpcsera.WrongOffset && e.Expected != s.sent && corrections < 10 {
			// The rest of an ended job's log and its live stream may cross.
			s.sent = e.Expected
			corrections++
			continue
		}
		if err != nil {
			return grew, err
		}
		s.sent += int64(len(b))
		grew = true
	}
}

// read returns the next bytes after what was sent.
func (s *stream) read() ([]byte, error) {
	offset := s.sent
	for _, name := range s.files {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if offset >= info.Size() {
			offset -= info.Size()
			f.Close()
			continue
		}
		b := make([]byte, min(chunk, info.Size()-offset))
		n, err := f.ReadAt(b, offset)
		f.Close()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return b[:n], nil
	}
	return nil, nil
}

// liveStreams lists the streams of jobs that have started and not ended.
func (e *engine) liveStreams() []*stream {
	var list []*stream
	for _, j := range e.jobs {
		if all := e.allStreams(j); j.start != nil && j.outcome == nil {
			list = append(list, all[len(all)-2:]...)
		}
	}
	return list
}

// allStreams returns both streams of each attempt of a job, from their first
// byte on, oldest attempt first.
func (e *engine) allStreams(j *job) []*stream {
	parts := append([]part{}, j.parts...)
	if j.start != nil {
		for n := j.n; n <= j.start.N; n++ {
			parts = append(parts, part{attempt: j.attempt + n - j.n, step: j.step, n: n})
		}
	}
	var list []*stream
	for i, p := range parts {
		if i == 0 || p.attempt > parts[i-1].attempt {
			list = append(list, &stream{job: j.id, name: "stdout", attempt: p.attempt}, &stream{job: j.id, name: "stderr", attempt: p.attempt})
		}
		for _, s := range list[len(list)-2:] {
			s.files = append(s.files, e.agent.spool.OutputPath(j.id, p.step, p.n, s.name))
		}
	}
	return list
}
