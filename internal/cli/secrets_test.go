package cli

import (
	"testing"

	"github.com/hpcsera/hpcsera/test/commandtest"
)

func TestNoCommandTakesASecretAsAFlag(t *testing.T) {
	commandtest.NoSecretInFlags(t, (&app{}).root(), "hpcsera --token-file")
}

func TestEveryCommandHasAnExample(t *testing.T) {
	commandtest.Examples(t, (&app{}).root())
}
