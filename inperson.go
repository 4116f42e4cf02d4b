package hpcsera

import "time"

// What users ask of the API in person: lists of what is theirs, and wishes.

// TokenWish asks for a token. Exactly one of Roles and For is given.
type TokenWish struct {
	Project string `json:"project"`
	Client  string `json:"client"`
	Roles   Roles  `json:"roles,omitempty"`
	For     string `json:"for,omitempty"` // the name of a set of roles: ci, ci-code, engine, viewer
	Site    string `json:"site,omitempty"`
	Scope   Scope  `json:"scope,omitempty"`
	Days    int    `json:"days,omitempty"` // until its end; 0 is what the server's settings say
}

// AskedToken is a wish that the user decides in the Auth app. Whoever holds
// DeviceCode collects the token at /oauth/token then.
type AskedToken struct {
	ID         string    `json:"id"`
	URL        string    `json:"url"` // where the user decides
	Expires    time.Time `json:"expires"`
	Interval   int       `json:"interval"` // seconds between two polls
	DeviceCode string    `json:"device_code"`
}

// RenewedAgent is a new credential for an agent's key. It is shown once.
type RenewedAgent struct {
	Credential string    `json:"credential"`
	Expires    time.Time `json:"expires"` // of the enrolment
}

// The answers to GET of what is the user's own.
type (
	// TokenList is tokens, without their texts, which nobody has.
	TokenList struct {
		Tokens []*Token `json:"tokens"`
	}
	// AgentList is enrolments that were not removed.
	AgentList struct {
		Agents []*Agent `json:"agents"`
	}
	// ProjectList is projects with their members.
	ProjectList struct {
		Projects []*Project `json:"projects"`
	}
	// ClientList is the registered clients.
	ClientList struct {
		Clients []*Client `json:"clients"`
	}
	// SessionList is key-bound sessions that have not ended.
	SessionList struct {
		Sessions []*Session `json:"sessions"`
	}
	// AuditList is lines of the audit log, the newest first.
	AuditList struct {
		Lines []*AuditLine `json:"lines"`
		Next  int64        `json:"next"` // the cursor of older ones, 0 when there are none
	}
)
