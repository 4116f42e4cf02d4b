package hpcsera

import (
	"errors"
	"fmt"
	"strings"
)

// Code names a kind of error for programs. The list is closed; each code has
// one HTTP status (internal/httpapi) and one exit code (internal/cli).
type Code string

// The error codes of the API.
const (
	InvalidField         Code = "invalid_field"          // a field has a wrong type or value
	UnknownField         Code = "unknown_field"          // a field that does not exist
	NotSupportedYet      Code = "not_supported_yet"      // a field of job.yaml that this version refuses
	MalformedRequest     Code = "malformed_request"      // the body or a parameter cannot be read at all
	BodyTooLarge         Code = "body_too_large"         //
	Unauthenticated      Code = "unauthenticated"        // no token, or a malformed one
	TokenInvalid         Code = "token_invalid"          // unknown, expired or revoked
	DPoPRequired         Code = "dpop_required"          // an agent's proof of possession is missing or wrong
	UseDPoPNonce         Code = "use_dpop_nonce"         // RFC 9449: retry with the nonce in DPoP-Nonce
	Forbidden            Code = "forbidden"              // reached, but the role is missing; the message names it
	StepUpRequired       Code = "step_up_required"       // in person: the second factor was not shown lately
	NotFound             Code = "not_found"              // does not exist, or cannot be reached
	UnknownSite          Code = "unknown_site"           //
	UnknownCode          Code = "unknown_code"           // no such digest or name in this project
	MissingBlobs         Code = "missing_blobs"          // a manifest names bytes that were not uploaded
	DigestMismatch       Code = "digest_mismatch"        // bytes do not have the digest of their name
	WrongOffset          Code = "wrong_offset"           // resumable upload: continue at Expected
	InvalidValue         Code = "invalid_value"          // a value breaks the code's parameter schema
	LimitExceeded        Code = "limit_exceeded"         // above the signed or the site's limit
	ApprovalRefused      Code = "approval_refused"       // a statement that cannot be filed
	IdempotencyKeyReused Code = "idempotency_key_reused" // the same key with another body
	JobFinal             Code = "job_final"              // the job has ended
	JobNotFinal          Code = "job_not_final"          // only final jobs can be erased
	Conflict             Code = "conflict"               // the thing's state does not allow it
	AgentActive          Code = "agent_active"           // another living instance holds the term
	StaleTerm            Code = "stale_term"             // the term was given to a newer instance
	NotSupportedBySite   Code = "not_supported_by_site"  //
	QuotaExceeded        Code = "quota_exceeded"         //
	Unavailable          Code = "unavailable"            // try again later
	StorageFull          Code = "storage_full"           // the server's disk or database is full
	Internal             Code = "internal"               // our fault; the request id leads to the log
)

// Error is what goes wrong, told three ways: a code for programs, a sentence
// for people (Message, and Hint: what to do), and a wrapped cause for us that
// never leaves the process.
type Error struct {
	Code     Code
	Message  string
	Field    string   // the offending field, as a path: resources.node_count, jobs[3].site
	Advice   string   // what to do
	Index    int      // of the job in a bulk request, -1 elsewhere
	Expected int64    // the next offset, with WrongOffset
	Missing  []string // digests, with MissingBlobs
	Cause    error
}

// Errorf makes an Error; a %w argument becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	e := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: e.Error(), Index: -1, Cause: errors.Unwrap(e)}
}

// At names the offending field and returns e.
func (e *Error) At(field string) *Error { e.Field = field; return e }

// Hint says what to do and returns e.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Advice = fmt.Sprintf(format, args...)
	return e
}

// Error returns field, message and advice as one line. A message that ends with
// another error's text has no full stop; before advice it gets one.
func (e *Error) Error() string {
	s := e.Message
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.Advice == "" {
		return s
	}
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "?") {
		s += "."
	}
	return s + " " + e.Advice
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of the first Error in err's chain, Internal for any
// other error, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}
