package consent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// Narrowed is what the user makes of the limits, runs and end that were asked
// for.
type Narrowed struct {
	Limits hpcsera.Limits
	Days   int
	Runs   int
}

// Draft builds the statement that the user will be shown and asked to sign,
// and keeps its bytes with the request: exactly these are signed.
func (s *Service) Draft(ctx context.Context, user, deployment, id, shown string, n Narrowed) error {
	return s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		p, err := s.requestOf(tx, user, deployment, id)
		if err != nil {
			return err
		}
		if p.Request.Kind != decision.Code {
			return hpcsera.Errorf(hpcsera.Conflict, "This request needs no signature.")
		}
		if err := p.as(shown); err != nil {
			return err
		}
		last, err := s.lastApproved(tx, p)
		if err != nil {
			return err
		}
		replaces := ""
		if last != nil {
			replaces = last.Approval
		}
		if p.Draft, err = p.statement(n, replaces, s.cfg.Now()); err != nil {
			return err
		}
		return tx.Put(kindRequest, p.key(), p, p.options())
	})
}

// statement returns the bytes to be signed. Every digest in it is computed
// here, from the code that the page shows.
func (p pending) statement(n Narrowed, replaces string, now time.Time) ([]byte, error) {
	c := p.Request.Code
	if err := n.within(c); err != nil {
		return nil, err
	}
	// The steps' own resources are code; limits below them would only make
	// every job fail.
	if err := n.Limits.Within(hpcsera.RunPart{}, c.Manifest.Steps); err != nil {
		return nil, hpcsera.Errorf(hpcsera.LimitExceeded, "A step of the code needs more than that: %w", err).Hint("Allow as much, or deny the request.")
	}
	agents := []string{}
	for _, a := range c.Agents {
		agents = append(agents, a.Thumbprint)
	}
	st, err := approval.ForManifest(c.Manifest, hpcsera.RunPart{}, approval.Options{
		Deployment: c.Deployment, User: p.User, Project: p.Request.Project, Sites: c.Sites, Agents: agents,
		Clients: c.Clients, Submitters: c.Submitters, Replaces: replaces,
		NotBefore: now, Validity: time.Duration(n.Days) * 24 * time.Hour, Runs: n.Runs,
	})
	if err != nil {
		return nil, err
	}
	st.Limits = n.Limits
	for _, words := range []*[]string{&st.Limits.QueueNames, &st.Limits.Accounts, &st.Limits.ReservationIDs} {
		*words = slices.Sorted(slices.Values(*words))
	}
	return st.Canonical()
}

// within refuses more than was asked for: the page never offers it, so a form
// that asks for it is not the page's.
func (n Narrowed) within(c *decision.CodeDetails) error {
	asked := asked(c)
	above := func(field, format string, args ...any) error {
		return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(field)
	}
	switch {
	case n.Days < 1 || n.Days > c.Days:
		return above("days", "%d days are not within the %d that were asked for.", n.Days, c.Days)
	case n.Runs < 1 || n.Runs > c.Runs:
		return above("runs", "%d runs are not within the %d that were asked for.", n.Runs, c.Runs)
	case n.Limits.NodeCount < 1 || n.Limits.NodeCount > asked.NodeCount:
		return above("node_count", "%d nodes are not within the %d that were asked for.", n.Limits.NodeCount, asked.NodeCount)
	case n.Limits.Duration < 0 || n.Limits.Duration > asked.Duration:
		return above("duration", "%v is more than the %v that was asked for.", n.Limits.Duration, asked.Duration)
	case n.Limits.Memory < 0 || n.Limits.Memory > asked.Memory:
		return above("memory", "%v is more than the %v that was asked for.", n.Limits.Memory, asked.Memory)
	case n.Limits.Requeue && !asked.Requeue:
		return above("requeue", "Starting again by itself was not asked for.")
	}
	for field, l := range map[string][2][]string{
		"queue_names": {n.Limits.QueueNames, asked.QueueNames}, "accounts": {n.Limits.Accounts, asked.Accounts},
		"reservation_ids": {n.Limits.ReservationIDs, asked.ReservationIDs},
	} {
		for _, word := range l[0] {
			if !slices.Contains(l[1], word) {
				return above(field, "%q was not asked for.", word)
			}
		}
	}
	return nil
}

// asked are the limits that a deployment asks for, none of them open.
func asked(c *decision.CodeDetails) hpcsera.Limits {
	l := c.Limits
	l.NodeCount = max(1, l.NodeCount)
	return l
}

// lastApproved returns the version before, if this user signed it here for the
// same code of the same project. Of any other a deployment could lie: it would
// show what it wants to change as what was approved already.
func (s *Service) lastApproved(r records.Reader, p pending) (*decision.LastApproved, error) {
	last := p.Request.Code.Last
	if last == nil {
		return nil, nil
	}
	signed, found, err := get[Signed](r, kindSigned, last.Approval)
	if err != nil || !found {
		return nil, err
	}
	digest, err := last.Manifest.Digest()
	if err != nil {
		return nil, fmt.Errorf("digest the last approved code: %w", err)
	}
	if signed.Elsewhere || signed.User != p.User || signed.Deployment != p.Deployment || signed.Project != p.Request.Project ||
		signed.Name != p.Request.Code.Manifest.Name || signed.Code != digest {
		return nil, nil
	}
	return last, nil
}

// keepSigned remembers what was signed, so that it can be withdrawn and be the
// version before of the next one. What it replaces is dead from now on.
func (s *Service) keepSigned(tx records.Tx, p pending, st approval.Statement, key CodeKey) error {
	doc := Signed{
		ID: st.ID, User: p.User, Deployment: p.Deployment, Project: st.Project, Name: st.Name, Code: st.Code,
		Key: key.Fingerprint, Signed: s.cfg.Now().UTC(), NotAfter: st.NotAfter,
	}
	if err := tx.Insert(kindSigned, st.ID, doc, records.Options{Owner: p.User, Ends: st.NotAfter.Add(keepSignedFor)}); err != nil {
		return err
	}
	if err := s.note(tx, p.User, "code.sign", p.User, st.ID, st.Name+" "+st.Code+" by "+key.Fingerprint); err != nil {
		return err
	}
	if st.Replaces == "" {
		return nil
	}
	return s.withdraw(tx, p.User, st.Replaces, st.ID)
}

// keepSignedFor is how long an approval that ended is still the version before.
const keepSignedFor = 365 * 24 * time.Hour

func newestFirst(list []Signed) {
	slices.SortFunc(list, func(a, b Signed) int { return b.Signed.Compare(a.Signed) })
}
