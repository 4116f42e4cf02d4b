package jobs

import (
	"errors"
	"fmt"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// scope is within what a key is one key, whoever of the client's users sends it:
// the id of the job follows from it.
func (k Idempotency) scope(p *auth.Principal) string {
	if k.Key == "" {
		return ""
	}
	return p.Token.Project + " " + p.Token.Client + " " + k.Path
}

func (k Idempotency) check() error {
	printable := len(k.Key) <= 200
	for _, c := range k.Key {
		printable = printable && c > ' ' && c < 0x7f
	}
	if !printable {
		return hpcsera.Errorf(hpcsera.InvalidField, "the key is not 1 to 200 printable ASCII characters without spaces.").At("Idempotency-Key")
	}
	return nil
}

// kept returns the answer that a request with this key got before, nil when
// there is none. A try that is in flight at the same moment is met in the
// transaction, where the second one looks again after the first one's commit.
func kept(r store.Reader, p *auth.Principal, key Idempotency) (*store.Answer, error) {
	if key.Key == "" {
		return nil, nil
	}
	found, err := r.Idempotent(key.scope(p), key.Key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	// Users share a client's keys in a project, but no answers.
	if found.User != p.Token.User {
		return nil, hpcsera.Errorf(hpcsera.IdempotencyKeyReused, "the key was used before by another user of the client %s.", p.Token.Client).At("Idempotency-Key").
			Hint("Use a new key: random, or with the user's name in it.")
	}
	if found.BodySHA256 != key.BodySHA256 {
		return nil, hpcsera.Errorf(hpcsera.IdempotencyKeyReused, "the key was used before with another body.").At("Idempotency-Key").
			Hint("Use a new key for a new request; repeat a request byte for byte.")
	}
	return found, nil
}

// at notes which job of a request an error is about.
func at(err error, index int) error {
	var e *hpcsera.Error
	if errors.As(err, &e) {
		copied := *e
		copied.Index = index
		return &copied
	}
	return err
}

// inBulk writes the index into the field, or takes it away where the request
// held a single job.
func inBulk(err error, bulk bool) error {
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Index < 0 {
		return err
	}
	copied := *e
	switch {
	case !bulk:
		copied.Index = -1
	case e.Field == "":
		copied.Field = fmt.Sprintf("jobs[%d]", e.Index)
	default:
		copied.Field = fmt.Sprintf("jobs[%d].%s", e.Index, e.Field)
	}
	return &copied
}

func orNone(a *store.Answer) store.Answer {
	if a == nil {
		return store.Answer{}
	}
	return *a
}
