package cli

import (
	"context"
	"errors"
	"syscall"

	"github.com/hpcsera/hpcsera"
)

// The exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitLocal       = 1   // something on this machine: a file that cannot be written
	exitUsage       = 2   // the command line
	exitFailed      = 10  // the job failed
	exitCancelled   = 11  // the job was cancelled
	exitRefused     = 12  // server, site or this client refused; nothing runs
	exitTimedOut    = 13  // the wait ended before the job did; the job goes on
	exitUnreachable = 20  // the server cannot be reached or cannot serve
	exitSignal      = 128 // and the signal's number, as a shell says it
)

// exitCodes gives each error code its exit code.
var exitCodes = map[hpcsera.Code]int{
	hpcsera.InvalidField:         exitRefused,
	hpcsera.UnknownField:         exitRefused,
	hpcsera.NotSupportedYet:      exitRefused,
	hpcsera.MalformedRequest:     exitRefused,
	hpcsera.BodyTooLarge:         exitRefused,
	hpcsera.Unauthenticated:      exitRefused,
	hpcsera.TokenInvalid:         exitRefused,
	hpcsera.DPoPRequired:         exitRefused,
	hpcsera.UseDPoPNonce:         exitRefused,
	hpcsera.Forbidden:            exitRefused,
	hpcsera.StepUpRequired:       exitRefused,
	hpcsera.NotFound:             exitRefused,
	hpcsera.UnknownSite:          exitRefused,
	hpcsera.UnknownCode:          exitRefused,
	hpcsera.MissingBlobs:         exitRefused,
	hpcsera.DigestMismatch:       exitRefused,
	hpcsera.WrongOffset:          exitRefused,
	hpcsera.InvalidValue:         exitRefused,
	hpcsera.LimitExceeded:        exitRefused,
	hpcsera.ApprovalRefused:      exitRefused,
	hpcsera.IdempotencyKeyReused: exitRefused,
	hpcsera.JobFinal:             exitRefused,
	hpcsera.JobNotFinal:          exitRefused,
	hpcsera.Conflict:             exitRefused,
	hpcsera.AgentActive:          exitRefused,
	hpcsera.StaleTerm:            exitRefused,
	hpcsera.NotSupportedBySite:   exitRefused,
	hpcsera.QuotaExceeded:        exitRefused,
	hpcsera.Unavailable:          exitUnreachable,
	hpcsera.StorageFull:          exitUnreachable, // the server's disk: nothing the user did
	hpcsera.Internal:             exitUnreachable,
}

// exitOfState gives each final state its exit code; the job's end is never an
// error of the client.
var exitOfState = map[hpcsera.State]int{
	hpcsera.Succeeded: exitOK,
	hpcsera.Failed:    exitFailed,
	hpcsera.Cancelled: exitCancelled,
}

// exitError ends a command with a code of its own. text may be empty where
// everything was said already.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// usageError marks what is wrong with the command line itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitCode returns how a command that returned err ends.
func exitCode(err error) int {
	var exit *exitError
	var usage usageError
	var own *hpcsera.Error
	var stopped interrupted
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &stopped):
		return exitSignal + int(stopped.signal)
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &own) && own.Code == hpcsera.InvalidField && errors.As(own.Cause, new(syscall.Errno)):
		return exitLocal // a file that was named and cannot be read
	case errors.As(err, &own):
		if code, ok := exitCodes[own.Code]; ok {
			return code
		}
		return exitRefused // a code of a newer server
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimedOut
	}
	return exitLocal
}
