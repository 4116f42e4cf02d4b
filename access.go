package hpcsera

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"regexp"
	"strings"
	"time"
)

// User is a person. Operators manage the service and never read logs or run
// code.
type User struct {
	Name     string    `json:"name"`
	Operator bool      `json:"operator,omitempty"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
}

// MemberRole is what a user may do in a project, whatever the token says.
type MemberRole string

// The member roles: viewers read, members submit and cancel their own jobs,
// owners do all.
const (
	Viewer MemberRole = "viewer"
	Member MemberRole = "member"
	Owner  MemberRole = "owner"
)

// Project segments a user's workflows.
type Project struct {
	Name    string                `json:"name"`
	Created time.Time             `json:"created"`
	Members map[string]MemberRole `json:"members"`
}

// Client is a registered external service, or the command line.
type Client struct {
	Name     string    `json:"name"`
	Owner    string    `json:"owner,omitempty"` // the user who registered it; "" is the operator
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
}

// Site is an HPC system, with what its agents told of it.
type Site struct {
	Name     string    `json:"name"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
	Agents   []Agent   `json:"agents"` // of the token's user
}

// Agent is one user's enrolment at one site.
type Agent struct {
	ID         string     `json:"id"`
	User       string     `json:"user"`
	Site       string     `json:"site"`
	Projects   []string   `json:"projects"`
	Thumbprint string     `json:"thumbprint"` // RFC 7638, of the key made at enrolment
	Created    time.Time  `json:"created"`
	Expires    time.Time  `json:"expires"`
	LastSeen   *time.Time `json:"last_seen"`
	Facts      *Facts     `json:"facts,omitempty"`
}

// Scope is how far a token reaches within its project.
type Scope string

// The scopes: a token reaches its own client's jobs and code unless the user
// granted the whole project.
const (
	ClientScope  Scope = "client"
	ProjectScope Scope = "project"
)

// Token is what is known of a token; its secret is not.
type Token struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Project string    `json:"project"`
	Client  string    `json:"client"`
	Site    string    `json:"site,omitempty"`
	Scope   Scope     `json:"scope"`
	Roles   Roles     `json:"roles"`
	Created time.Time `json:"created"`
	// NotBefore is when the token begins to be good; zero is at once.
	NotBefore time.Time  `json:"not_before,omitzero"`
	Expires   time.Time  `json:"expires"`
	Revoked   *time.Time `json:"revoked,omitempty"`
	Used      *time.Time `json:"used,omitempty"` // last, to about 10 seconds
}

// Session is a key-bound session of the command line (hpcsera login): its user
// in person, without the right to grant anything. Its credential works only
// together with the key that the client made.
type Session struct {
	ID         string    `json:"id"`
	User       string    `json:"user"`
	Thumbprint string    `json:"thumbprint"` // RFC 7638, of the client's key
	Host       string    `json:"host"`       // where that key is, as it said itself
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires"`
}

// Registration says how a client gets tokens on demand (OAuth): how it proves
// who it is, and whether it may ask users by their names (CIBA).
type Registration struct {
	Client string       `json:"client"`
	Method ClientMethod `json:"method"`
	Keys   []byte       `json:"jwks,omitempty"` // public keys as a JWK Set, of private_key_jwt
	CIBA   CIBAMode     `json:"ciba,omitempty"`
	Notify string       `json:"notify,omitempty"` // https URL, of ping
}

// The clients that are built in: our own programs, public ones. Nobody
// registers anything under these names.
const (
	CLIClient   = "cli"           // hpcsera: login, token create
	AgentClient = "hpcsera-agent" // hpcsera-agent enroll
)

// ClientMethod is how a client authenticates at the token endpoint.
type ClientMethod string

// The methods. A public client proves nothing, so it gets tokens only by the
// device flow, in which the user types a code.
const (
	PublicClient ClientMethod = "none"
	SecretClient ClientMethod = "secret"
	KeyClient    ClientMethod = "private_key_jwt"
)

// CIBAMode is how a client learns that a user decided; "" is a client that may
// not ask users by their names.
type CIBAMode string

// The modes of CIBA Core that the server offers.
const (
	Poll CIBAMode = "poll"
	Ping CIBAMode = "ping"
)

// Approval is a signed statement about code, as filed.
type Approval struct {
	ID        string    `json:"id"`
	User      string    `json:"user"`
	Project   string    `json:"project"`
	Digest    string    `json:"digest"`
	Name      string    `json:"name"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Statement []byte    `json:"statement"`
	Signature string    `json:"signature"`
	Filed     time.Time `json:"filed"`
}

// CodeEntry is code part on file.
type CodeEntry struct {
	Digest   string    `json:"digest"`
	Name     string    `json:"name"`
	Project  string    `json:"project"`
	Manifest Manifest  `json:"manifest"`
	Missing  []string  `json:"missing_blobs"` // digests of files whose bytes are not here
	Created  time.Time `json:"created"`
}

// NewSecret makes a token, an agent's or a login session's credential for the
// given id: its text, to be shown once, and the hash to be stored. The text is
// hpcsera_<id>_<secret><checksum>: 256 random bits and a CRC-32 of all before
// it, so that secret scanners recognise it and typing errors need no look-up.
func NewSecret(id string) (text string, hash []byte) {
	secret := make([]byte, 32)
	rand.Read(secret)
	body := "hpcsera_" + strings.ReplaceAll(id, "_", "") + "_" + secretEncoding.EncodeToString(secret)
	sum := sha256.Sum256(secret)
	return body + checksum(body), sum[:]
}

// ParseSecret takes a token's text apart. ok is false for anything that
// NewSecret cannot have made.
func ParseSecret(text string) (id string, hash []byte, ok bool) {
	parts := strings.SplitN(text, "_", 3)
	if len(parts) != 3 || parts[0] != "hpcsera" || len(text) < 8 {
		return "", nil, false
	}
	body, sum := text[:len(text)-8], text[len(text)-8:]
	if checksum(body) != sum || len(parts[2]) < 8 {
		return "", nil, false
	}
	secret, err := secretEncoding.DecodeString(parts[2][:len(parts[2])-8])
	if err != nil || len(secret) != 32 {
		return "", nil, false
	}
	hashed := sha256.Sum256(secret)
	for _, prefix := range []string{"t", "ag", "ls"} {
		if rest, found := strings.CutPrefix(parts[1], prefix); found && ValidID(prefix, prefix+"_"+rest) {
			return prefix + "_" + rest, hashed[:], true
		}
	}
	return "", nil, false
}

// HideSecrets replaces the secret part of every token, credential and client's secret in a text
// by [redacted], whole or cut. People put them where they do not belong, such
// as into a URL, and what tells them so goes to logs. The id stays: it is what
// has to be revoked then.
func HideSecrets(text string) string {
	if len(text) < len("hpcsera__") || !strings.Contains(text, "_") {
		return text
	}
	return secretText.ReplaceAllString(text, "${1}[redacted]")
}

var secretText = regexp.MustCompile(`((?i:hpcsera_(?:t|ag|ls|cs)[0-9a-z]{12,}_))[A-Za-z0-9.-]{8,}`)

var secretEncoding = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.").WithPadding(base64.NoPadding)

func checksum(s string) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(s))) }
