package client

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
)

const redacted = "[redacted]"

// Secret is a token's text. However it is printed, logged or encoded, it
// shows as [redacted]; only Reveal gives the text.
type Secret struct{ text string }

// NewSecret wraps a token's text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text. It goes into a header or a private file, nowhere
// else.
func (s Secret) Reveal() string { return s.text }

// Empty reports whether there is no token at all.
func (s Secret) Empty() bool { return s.text == "" }

// Format prints [redacted] for every verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String returns [redacted].
func (s Secret) String() string { return redacted }

// MarshalJSON writes [redacted].
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// LogValue logs [redacted].
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

var tokenPattern = regexp.MustCompile(`hpcsera_(t|ag|ls|cs)[0-9a-z]*_[A-Za-z0-9.-]*`)

// Redact replaces everything in s that has the form of a token: the last net
// under messages that quote what somebody else wrote, such as a mistyped
// command line or a proxy's error page.
func Redact(s string) string { return tokenPattern.ReplaceAllString(s, redacted) }
