package hpcsera_test

import (
	"io"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestAnErrorIsToldInSentences(t *testing.T) {
	for want, err := range map[string]error{
		"site: there is no such one. Name another.":    hpcsera.Errorf(hpcsera.NotFound, "there is no such one.").At("site").Hint("Name another."),
		"it cannot be read: EOF. Send it again.":       hpcsera.Errorf(hpcsera.Unavailable, "it cannot be read: %w", io.EOF).Hint("Send it again."),
		"did you mean this? Then write it.":            hpcsera.Errorf(hpcsera.InvalidField, "did you mean this?").Hint("Then write it."),
		"it cannot be read: EOF":                       hpcsera.Errorf(hpcsera.Unavailable, "it cannot be read: %w", io.EOF),
		"role: unknown role \"9\". They are numbered.": hpcsera.Errorf(hpcsera.InvalidField, "unknown role %q", "9").At("role").Hint("They are numbered."),
	} {
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
