package settings

import (
	"bytes"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestNoCredentialStandsInALog(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		for _, kind := range []string{"t", "ag", "ls", "cs"} {
			id := hpcsera.NewID(kind)
			text, _ := hpcsera.NewSecret(id)
			var out bytes.Buffer
			log := Log{Level: "debug", Format: format}.New(&out)
			log.Info("request", "path", "/jobs/"+text, "err", errors.New("no job "+text), "url", &url.URL{Path: "/" + text})
			hidden := strings.SplitN(text, "_", 3)[2]
			if got := out.String(); strings.Contains(got, hidden[:20]) || strings.Count(got, "[redacted]") != 3 {
				t.Errorf("%s, %s: got %s", format, kind, got)
			}
		}
	}
}
