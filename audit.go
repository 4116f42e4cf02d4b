package hpcsera

import "time"

// AuditLine is one line of the audit log: who did what, and to what. It holds
// names and ids, never a secret, code or output.
type AuditLine struct {
	Number  int64     `json:"number"` // 1, 2, 3, …, without a gap
	At      time.Time `json:"at"`
	Actor   string    `json:"actor"`             // user:alice, client:gitlab, agent:ag_…, operator, server
	Action  string    `json:"action"`            // token.create, code.approve, signin, …
	User    string    `json:"user,omitempty"`    // whom it concerns
	Project string    `json:"project,omitempty"` // which project it concerns
	About   string    `json:"about,omitempty"`   // the thing's name or id
	Refused Code      `json:"refused,omitempty"` // why it was not done; "" when it was
	Detail  string    `json:"detail,omitempty"`  // for people

	Previous string `json:"previous"` // hash of the line before, "" for the first
	Hash     string `json:"hash"`     // of this line with its hash left empty
}
