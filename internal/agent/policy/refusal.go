package policy

import (
	"errors"

	"github.com/hpcsera/hpcsera"
)

// Refusal is the error of a job that must not run. It wraps the
// *hpcsera.Error that says what differs.
type Refusal struct {
	Reason hpcsera.Reason
	Err    error
	// Forged says that no honest server sends this: it checks the same before.
	// So the server is broken, or somebody else's by now.
	Forged bool
}

// Error returns the sentence.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the *hpcsera.Error.
func (r *Refusal) Unwrap() error { return r.Err }

// Waiting is the error of a job that is as its user signed it, and may not
// start now: the site says no for the time being, or nobody says whether the
// approval still stands. It wraps an error with the code hpcsera.Unavailable.
type Waiting struct {
	Reason hpcsera.Reason
	Err    error
}

// Error returns the sentence.
func (w *Waiting) Error() string { return w.Err.Error() }

// Unwrap returns the *hpcsera.Error.
func (w *Waiting) Unwrap() error { return w.Err }

// Reason returns the reason of the job's end for an error of Verify, "" where
// nothing was decided (this host's own troubles, or [Waiting]: try again later).
func Reason(err error) hpcsera.Reason {
	var r *Refusal
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}

func refuse(reason hpcsera.Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Err: hpcsera.Errorf(hpcsera.ApprovalRefused, format, args...)}
}

// forged refuses what an honest server would not have sent.
func forged(format string, args ...any) *Refusal {
	return &Refusal{Reason: hpcsera.ApprovalInvalid, Err: hpcsera.Errorf(hpcsera.ApprovalRefused, format, args...), Forged: true}
}

// forgedBy is forged with a sentence that stands already.
func forgedBy(err error) *Refusal {
	return &Refusal{Reason: hpcsera.ApprovalInvalid, Err: err, Forged: true}
}

// wait makes the job wait.
func wait(reason hpcsera.Reason, format string, args ...any) *Waiting {
	return &Waiting{reason, hpcsera.Errorf(hpcsera.Unavailable, format, args...)}
}
