// Package usage says what is wrong with a command line, alike in the programs
// under cmd: hpcserad, hpcsera-auth and hpcsera-agent end with 2 then.
package usage

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Error is a command line that cannot be meant.
type Error struct{ Err error }

func (e Error) Error() string { return e.Err.Error() }

// Unwrap returns the error itself.
func (e Error) Unwrap() error { return e.Err }

// Unknown refuses a word in the place of one of c's commands, and names those
// that it looks like.
func Unknown(c *cobra.Command, word string) error {
	text := fmt.Sprintf("%s has no command %q.", c.CommandPath(), word)
	if c.SuggestionsMinimumDistance = 2; len(c.SuggestionsFor(word)) > 0 {
		text += " Did you mean " + strings.Join(c.SuggestionsFor(word), " or ") + "?"
	}
	return Error{Err: fmt.Errorf("%s See: %s --help", text, c.CommandPath())}
}

// Exactly is cobra.ExactArgs with a usage error that shows the usage line.
func Exactly(n int) cobra.PositionalArgs { return Line(cobra.ExactArgs(n)) }

// AtMost is cobra.MaximumNArgs with a usage error that shows the usage line.
func AtMost(n int) cobra.PositionalArgs { return Line(cobra.MaximumNArgs(n)) }

// Line is what allowed says of the arguments, nil for any, with a usage error
// that shows the usage line.
func Line(allowed cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if allowed != nil && allowed(c, args) != nil {
			return Error{Err: fmt.Errorf("usage: %s", c.UseLine())}
		}
		return nil
	}
}
