package audit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Log is made of.
type Config struct {
	Store store.Store
	// Syslog takes the heads; nil is nowhere but the program's own log.
	Syslog Syslog
	Heads  Heads // signs the heads; nil signs none
	Log    *slog.Logger
	Now    func() time.Time // nil is time.Now
}

// Syslog takes one line; *syslog.Writer is one.
type Syslog interface {
	Notice(line string) error
}

// Heads signs heads and reads what was signed; decision.Heads does.
type Heads interface {
	// Sign returns the head and its signature, as they go to syslog.
	Sign(head string) (string, error)
	// Read returns the head in what somebody brings back, which may be a whole
	// line, and whether it was signed. A wrong signature is an error.
	Read(text string) (head string, signed bool, err error)
}

// Log is the audit log as a whole. It may be used by many goroutines.
type Log struct {
	cfg Config

	mu      sync.Mutex
	refused map[refusal]*tally
	more    int // refusals that did not fit
}

type refusal struct {
	actor, action, about string
	code                 hpcsera.Code
}

type tally struct {
	line  hpcsera.AuditLine
	count int
}

// The clocks and bounds of this package.
const (
	flushEvery  = 5 * time.Second
	headEvery   = time.Hour
	maxRefusals = 200 // lines between two flushes
)

// New returns a log.
func New(cfg Config) *Log {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Log{cfg: cfg, refused: map[refusal]*tally{}}
}

// Refused notes that something was not done: Actor, Action, User, Project,
// About, Refused and Detail of the line count. It never waits.
func (l *Log) Refused(line hpcsera.AuditLine) {
	key := refusal{line.Actor, line.Action, line.About, line.Refused}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.refused[key]; ok {
		t.count++
		return
	}
	if len(l.refused) == maxRefusals {
		l.more++
		return
	}
	line.At = l.cfg.Now()
	l.refused[key] = &tally{line, 1}
}

// Run writes refusals every few seconds and the head every hour until ctx
// ends, and both once more then. It is to be run once, in a goroutine of the
// server.
func (l *Log) Run(ctx context.Context) error {
	flush, head := time.NewTicker(flushEvery), time.NewTicker(headEvery)
	defer flush.Stop()
	defer head.Stop()
	l.publishHead(ctx)
	for {
		select {
		case <-flush.C:
			l.flush(ctx)
		case <-head.C:
			l.publishHead(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			l.flush(last)
			l.publishHead(last)
			return nil
		}
	}
}

// flush writes what was refused since the last flush. What cannot be written
// is told to the program's log: refusals are no reason to refuse more.
func (l *Log) flush(ctx context.Context) {
	l.mu.Lock()
	batch, more := l.refused, l.more
	l.refused, l.more = map[refusal]*tally{}, 0
	l.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	err := l.cfg.Store.Write(ctx, func(tx store.Tx) error {
		for _, t := range batch {
			line := t.line
			if t.count > 1 {
				line.Detail = fmt.Sprintf("%d times. %s", t.count, line.Detail)
			}
			if err := tx.Note(line); err != nil {
				return err
			}
		}
		if more == 0 {
			return nil
		}
		return tx.Note(hpcsera.AuditLine{
			At: l.cfg.Now(), Actor: "server", Action: "refusals", Detail: fmt.Sprintf("%d more refusals are not listed.", more),
		})
	})
	if err != nil {
		l.cfg.Log.Error("refusals are missing from the audit log", "lines", len(batch), "err", err)
	}
}

// publishHead tells the head to those who keep it elsewhere.
func (l *Log) publishHead(ctx context.Context) {
	var head hpcsera.AuditLine
	err := l.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		head, err = r.AuditHead()
		return err
	})
	if err != nil {
		l.cfg.Log.Error("the head of the audit log cannot be read", "err", err)
		return
	}
	if head.Number == 0 {
		return
	}
	text := store.HeadText(head)
	if l.cfg.Heads != nil {
		if text, err = l.cfg.Heads.Sign(text); err != nil {
			l.cfg.Log.Error("the head of the audit log cannot be signed", "err", err)
			return
		}
	}
	l.cfg.Log.Info("audit head", "log", "server", "head", text)
	if l.cfg.Syslog == nil {
		return
	}
	if err := l.cfg.Syslog.Notice("hpcsera audit head " + text); err != nil {
		l.cfg.Log.Error("the head of the audit log did not reach syslog", "err", err)
	}
}
