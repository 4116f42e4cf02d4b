package settings

import (
	"fmt"
	"log/slog"

	"github.com/hpcsera/hpcsera"
)

// redact is the ReplaceAttr of every server's log: no token and no credential
// stands in it, wherever in a request one was put.
func redact(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(hpcsera.HideSecrets(a.Value.String()))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			a.Value = slog.StringValue(hpcsera.HideSecrets(v.Error()))
		case fmt.Stringer:
			a.Value = slog.StringValue(hpcsera.HideSecrets(v.String()))
		}
	}
	return a
}
