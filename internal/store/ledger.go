package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Ledger records changes of jobs in one closure of [Store.Write], so that no
// change can forget its seq, its version or its event. It is made first in the
// closure: its first seq is taken at once, which makes this transaction wait
// for those of other replicas, so what the closure reads afterwards is current.
type Ledger struct {
	tx    Tx
	at    time.Time
	spare int64
}

// The types of events.
const (
	StateEvent     = "job.state"     // state, reason, message, or what is shown beside them
	OrderEvent     = "job.order"     // what should be, or who should do it
	AnnotatedEvent = "job.annotated" // what clients told of the job
	ErasedEvent    = "job.erased"
)

// NewLedger takes the first seq. at is the moment of all its events.
func NewLedger(tx Tx, at time.Time) (*Ledger, error) {
	seq, err := tx.NextSeq()
	if err != nil {
		return nil, fmt.Errorf("take a seq: %w", err)
	}
	return &Ledger{tx: tx, at: at.UTC(), spare: seq}, nil
}

// At returns the moment of the ledger's events.
func (l *Ledger) At() time.Time { return l.at }

func (l *Ledger) next() (int64, error) {
	if seq := l.spare; seq != 0 {
		l.spare = 0
		return seq, nil
	}
	return l.tx.NextSeq()
}

// Insert stores new jobs, each with a seq and an event.
func (l *Ledger) Insert(jobs []*Job) error {
	for _, j := range jobs {
		seq, err := l.next()
		if err != nil {
			return err
		}
		j.Version = seq
	}
	if err := l.tx.InsertJobs(jobs); err != nil {
		return fmt.Errorf("insert %d jobs: %w", len(jobs), err)
	}
	for _, j := range jobs {
		if err := l.tx.Append(l.change(j, StateEvent)); err != nil {
			return err
		}
	}
	return nil
}

// Update stores a changed job with an event of the given type.
func (l *Ledger) Update(j *Job, event string) error {
	seq, err := l.next()
	if err != nil {
		return err
	}
	j.Version = seq
	return l.update([]*Job{j}, event)
}

// Order stores jobs whose order changed, so that their agents receive it; the
// first order of a job is its delivery.
func (l *Ledger) Order(jobs ...*Job) error {
	for _, j := range jobs {
		seq, err := l.next()
		if err != nil {
			return err
		}
		j.Version, j.OrderSeq = seq, seq
		if j.Delivered == 0 {
			j.Delivered = seq
		}
	}
	return l.update(jobs, OrderEvent)
}

func (l *Ledger) update(jobs []*Job, event string) error {
	if err := l.tx.UpdateJobs(jobs...); err != nil {
		return fmt.Errorf("update %d jobs: %w", len(jobs), err)
	}
	for _, j := range jobs {
		if err := l.tx.Append(l.change(j, event)); err != nil {
			return err
		}
	}
	return nil
}

// Erase deletes a job; the event of its end as a row stays.
func (l *Ledger) Erase(j *Job) error {
	seq, err := l.next()
	if err != nil {
		return err
	}
	j.Version = seq
	if err := l.tx.Append(l.change(j, ErasedEvent)); err != nil {
		return err
	}
	return l.tx.DeleteJob(j.ID)
}

func (l *Ledger) change(j *Job, event string) Change {
	return Change{
		Event: hpcsera.Event{
			Seq: j.Version, At: l.at, Type: event, Job: j.ID, Project: j.Project, Attempt: j.Attempt,
			State: j.State, Reason: j.Reason, Message: j.Message, Desired: j.Desired,
		},
		User: j.User, Client: j.Client, Site: j.Site, Agent: j.Agent,
	}
}

// Failed wraps what Read, Write or a query returned with the operation that
// failed. A full disk becomes storage_full; an [hpcsera.Error] stays what it
// is; nil stays nil.
func Failed(op string, err error) error {
	var told *hpcsera.Error
	switch {
	case err == nil || errors.As(err, &told):
		return err
	case errors.Is(err, ErrFull):
		return hpcsera.Errorf(hpcsera.StorageFull, "the server's disk is full: %w", err).
			Hint("Nothing was kept. Tell the operator, and try again later.")
	}
	return fmt.Errorf("%s: %w", op, err)
}
