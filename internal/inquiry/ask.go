package inquiry

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// asked is the kind of documents of questions. A document's key is whose code
// it is about, its owner the request's id.
const asked store.Kind = "inquiry"

// question is a request and how far it came.
type question struct {
	store.Awaited
	Request string
	Expires time.Time
	Posted  bool // the Auth app has it
	Dropped bool // nobody waits any more; what was decided before still counts
}

func keyOf(a store.Awaited) string { return a.User + " " + a.Project + " " + a.Digest }

func (q question) document() store.Document {
	return store.Document{Kind: asked, Key: keyOf(q.Awaited), Owner: q.Request, Ends: q.Expires}
}

// current reads the question about some code, nil where there is none.
func current(r store.Reader, a store.Awaited, now time.Time) (*question, error) {
	var q question
	err := r.Document(asked, keyOf(a), now, &q)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &q, nil
}

// ask posts a question, which fresh says is not on file yet. One that is, and
// is not posted, is of a replica that did not live to post it, or of an Auth
// app that was away.
func (s *Service) ask(ctx context.Context, q question, fresh bool) error {
	found, err := s.find(ctx, q.Awaited)
	if err != nil || found == nil {
		return err
	}
	code, client := keyOf(q.Awaited), q.User+" "+found.jobs[0].Client
	if s.run.refuses(code) || s.run.refuses(client) {
		return nil
	}
	request, err := s.request(ctx, q, found)
	if err != nil {
		return err
	}
	if mine, err := s.claim(ctx, q, fresh); err != nil || !mine {
		return err
	}
	switch err := s.cfg.Inbox.Post(ctx, request); hpcsera.CodeOf(err) {
	case "":
	case hpcsera.Conflict:
		// It was taken, the answer was lost, and what waits has changed since.
	case hpcsera.Unavailable, hpcsera.Internal:
		return err
	case hpcsera.Forbidden, hpcsera.QuotaExceeded: // muted, or too much is open
		s.run.refused[client] = s.now().Add(refusedFor)
		return err
	default:
		s.run.refused[code] = s.now().Add(refusedFor)
		return err
	}
	return s.posted(ctx, q)
}

func (r *running) refuses(what string) bool {
	_, found := r.refused[what]
	return found
}

// claim files a question before it is posted. It is not the caller's when
// another replica asks, or when it was decided meanwhile.
func (s *Service) claim(ctx context.Context, q question, fresh bool) (mine bool, err error) {
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		there, err := current(tx, q.Awaited, s.now())
		if err != nil {
			return err
		}
		if !fresh {
			mine = there != nil && there.Request == q.Request && !there.Posted
			return nil
		}
		if mine = there == nil || there.Dropped; !mine {
			return nil
		}
		return tx.PutDocument(q.document(), q)
	})
	return mine, store.Failed("file question "+q.Request, err)
}

// posted remembers that the Auth app has a question, and tells the jobs.
func (s *Service) posted(ctx context.Context, q question) error {
	decided := false
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, s.now())
		if err != nil {
			return err
		}
		there, err := current(tx, q.Awaited, ledger.At())
		if err != nil {
			return err
		}
		if decided = there == nil || there.Request != q.Request; decided || there.Posted {
			return nil
		}
		there.Posted = true
		if err := tx.PutDocument(there.document(), there); err != nil {
			return err
		}
		line := hpcsera.AuditLine{At: ledger.At(), Actor: "server", Action: "code.ask", User: q.User, Project: q.Project, About: q.Digest, Detail: q.Request}
		if err := tx.Note(line); err != nil {
			return err
		}
		jobs, err := tx.AwaitingApproval(q.User, q.Project, q.Digest)
		for _, j := range jobs {
			if err = s.tell(ledger, j, *there); err != nil {
				break
			}
		}
		return err
	})
	if err == nil && decided {
		// An earlier post had arrived and was decided: this one asks again.
		return s.cfg.Inbox.Cancel(ctx, q.Request)
	}
	return store.Failed("keep question "+q.Request, err)
}

// drop takes a question back about code for which nobody waits any more, since
// users answer only so many at once.
func (s *Service) drop(ctx context.Context, q question) error {
	if err := s.cfg.Inbox.Cancel(ctx, q.Request); err != nil {
		return err
	}
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		there, err := current(tx, q.Awaited, s.now())
		if err != nil || there == nil || there.Request != q.Request {
			return err
		}
		there.Dropped = true
		return tx.PutDocument(there.document(), there)
	})
	return store.Failed("take back question "+q.Request, err)
}

// join tells jobs that began to wait for code that was asked about before.
func (s *Service) join(ctx context.Context, waits []store.Change) error {
	var late []string
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		for _, c := range waits {
			j, q, err := s.waiting(r, c.Job)
			if err != nil {
				return err
			}
			if q != nil && s.message(j, *q) != j.Message {
				late = append(late, j.ID)
			}
		}
		return nil
	})
	if err != nil || len(late) == 0 {
		return store.Failed("read jobs that wait", err)
	}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, s.now())
		if err != nil {
			return err
		}
		for _, id := range late {
			j, q, err := s.waiting(tx, id)
			if err == nil && q != nil {
				err = s.tell(ledger, j, *q)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return store.Failed("tell jobs what they wait for", err)
}

// waiting returns a job and the posted question that it waits for, or nil.
func (s *Service) waiting(r store.Reader, id string) (*store.Job, *question, error) {
	j, err := r.Job(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, nil
	} else if err != nil || j.State != hpcsera.Pending || j.Reason != hpcsera.WaitingForApproval {
		return nil, nil, err
	}
	q, err := current(r, store.Awaited{User: j.User, Project: j.Project, Digest: j.Code.Digest}, s.now())
	if q != nil && (!q.Posted || q.Dropped) {
		q = nil
	}
	return j, q, err
}

// tell says in a job's message who was asked, and where.
func (s *Service) tell(ledger *store.Ledger, j *store.Job, q question) error {
	message := s.message(j, q)
	if message == j.Message {
		return nil
	}
	j.Message = message
	return ledger.Update(j, store.StateEvent)
}

// message keeps what the message says already, such as which limit the job is
// beyond, and replaces what it says of an earlier question.
func (s *Service) message(j *store.Job, q question) string {
	words := q.User + " was asked in the Auth app: "
	before, _, _ := strings.Cut(j.Message, words)
	return strings.TrimSpace(strings.TrimSpace(before) + " " + words + s.cfg.Inbox.RequestURL(q.Request))
}

// told reports whether a change is of a job whose message says so already.
func (s *Service) told(c *store.Change) bool {
	return strings.Contains(c.Message, s.cfg.Inbox.RequestURL(""))
}
