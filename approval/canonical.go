package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/hpcsera/hpcsera"
)

// maxStatement bounds what Parse reads: agents read statements that anybody
// may have sent.
const maxStatement = 1 << 20

// wire is a statement as JSON: no member is optional.
type wire struct {
	Type       string     `json:"type"`
	ID         string     `json:"id"`
	Deployment string     `json:"deployment"`
	User       string     `json:"user"`
	Project    string     `json:"project"`
	Sites      []string   `json:"sites"`
	Clients    []string   `json:"clients"`
	Submitters []string   `json:"submitters"`
	Agents     []string   `json:"agents"`
	Code       string     `json:"code"`
	Name       string     `json:"name"`
	Replaces   string     `json:"replaces"`
	Schema     string     `json:"schema"`
	Limits     wireLimits `json:"limits"`
	NotBefore  string     `json:"not_before"`
	NotAfter   string     `json:"not_after"`
	Runs       int        `json:"runs"`
}

// wireLimits is the full form of limits. null is the site's own default.
type wireLimits struct {
	NodeCount      int               `json:"node_count"`
	Duration       *hpcsera.Duration `json:"duration"`
	Memory         *hpcsera.Bytes    `json:"memory"`
	QueueNames     []string          `json:"queue_names"`
	Accounts       []string          `json:"accounts"`
	ReservationIDs []string          `json:"reservation_ids"`
	Requeue        bool              `json:"requeue"`
}

const timeForm = "2006-01-02T15:04:05Z"

// Canonical returns the bytes to be signed, or an error that names the member
// that cannot be signed.
func (s Statement) Canonical() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	l := wireLimits{
		NodeCount: s.Limits.NodeCount, QueueNames: explicit(s.Limits.QueueNames), Accounts: explicit(s.Limits.Accounts),
		ReservationIDs: explicit(s.Limits.ReservationIDs), Requeue: s.Limits.Requeue,
	}
	if s.Limits.Duration > 0 {
		l.Duration = &s.Limits.Duration
	}
	if s.Limits.Memory > 0 {
		l.Memory = &s.Limits.Memory
	}
	return canonicalJSON(wire{
		Type: Type, ID: s.ID, Deployment: s.Deployment, User: s.User, Project: s.Project,
		Sites: s.Sites, Clients: s.Clients, Submitters: s.Submitters, Agents: s.Agents,
		Code: s.Code, Name: s.Name, Replaces: s.Replaces, Schema: s.Schema, Limits: l,
		NotBefore: s.NotBefore.Format(timeForm), NotAfter: s.NotAfter.Format(timeForm), Runs: s.Runs,
	})
}

// canonicalJSON writes v as RFC 8785 says.
func canonicalJSON(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err == nil {
		text, err = jcs.Transform(text)
	}
	if err != nil {
		return nil, refused("the statement cannot be written: %w.", err)
	}
	return text, nil
}

// MarshalJSON writes the canonical form, so that a statement is shown as it
// was signed.
func (s Statement) MarshalJSON() ([]byte, error) { return s.Canonical() }

func explicit(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// Parse reads a statement from the bytes that were signed. It accepts only
// what Canonical writes.
func Parse(text []byte) (Statement, error) {
	if len(text) > maxStatement {
		return Statement{}, refused("a statement of %d bytes is too long.", len(text))
	}
	var w wire
	if err := hpcsera.Decode(text, &w); err != nil {
		return Statement{}, asRefused(err)
	}
	if w.Type != Type {
		return Statement{}, refused("%q is not %q.", w.Type, Type).At("type")
	}
	s := Statement{
		ID: w.ID, Deployment: w.Deployment, User: w.User, Project: w.Project,
		Sites: w.Sites, Clients: w.Clients, Submitters: w.Submitters, Agents: w.Agents,
		Code: w.Code, Name: w.Name, Replaces: w.Replaces, Schema: w.Schema, Runs: w.Runs,
		Limits: hpcsera.Limits{
			NodeCount: w.Limits.NodeCount, QueueNames: w.Limits.QueueNames, Accounts: w.Limits.Accounts,
			ReservationIDs: w.Limits.ReservationIDs, Requeue: w.Limits.Requeue,
		},
	}
	if w.Limits.Duration != nil {
		s.Limits.Duration = *w.Limits.Duration
	}
	if w.Limits.Memory != nil {
		s.Limits.Memory = *w.Limits.Memory
	}
	err := parseTimes([]timeField{{"not_before", w.NotBefore, &s.NotBefore}, {"not_after", w.NotAfter, &s.NotAfter}})
	if err != nil {
		return Statement{}, err
	}
	again, err := s.Canonical()
	if err != nil {
		return Statement{}, err
	}
	// This also finds missing members: Canonical writes them all.
	if !bytes.Equal(again, text) {
		return Statement{}, refused("the statement lacks a member or is not in canonical form (RFC 8785).").
			Hint("Sign exactly the bytes that hpcsera approve shows.")
	}
	return s, nil
}

// timeField is a member that holds a time, and what it is read into.
type timeField struct {
	field, text string
	into        *time.Time
}

func parseTimes(fields []timeField) error {
	for _, t := range fields {
		var err error
		if *t.into, err = time.Parse(timeForm, t.text); err != nil {
			return refused("%q is not a time such as 2026-11-22T14:05:00Z.", t.text).At(t.field)
		}
	}
	return nil
}

// asRefused gives an error of reading the code that all refusals here have.
func asRefused(err error) *hpcsera.Error {
	var e *hpcsera.Error
	if !errors.As(err, &e) {
		return refused("the statement cannot be read: %w.", err)
	}
	e.Code, e.Advice = hpcsera.ApprovalRefused, ""
	return e
}
