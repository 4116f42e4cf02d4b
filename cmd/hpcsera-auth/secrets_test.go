package main

import (
	"testing"

	"github.com/hpcsera/hpcsera/test/commandtest"
)

func TestNoCommandTakesASecretAsAFlag(t *testing.T) {
	commandtest.NoSecretInFlags(t, (&program{}).root())
}

func TestEveryCommandHasAnExample(t *testing.T) {
	commandtest.Examples(t, (&program{}).root())
}
