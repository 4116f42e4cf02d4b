package hpcsera_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestOrderSpecNotesWhatItsRunPartCannotHold(t *testing.T) {
	var o hpcsera.OrderSpec
	text := `{"name":"a","run":{"site":"gwdg","prologue":"/tmp/x"}}`
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("got %v, want no error: one strange order must not spoil the others", err)
	}
	if !strings.Contains(o.RunFault, "prologue") || o.Run.Site != "gwdg" {
		t.Errorf("got fault %q and site %q, want one that names prologue, and gwdg", o.RunFault, o.Run.Site)
	}
	kept, _ := json.Marshal(o)
	var again hpcsera.OrderSpec
	if err := json.Unmarshal(kept, &again); err != nil || again.RunFault != o.RunFault {
		t.Errorf("after a trip through a journal: got %q, %v, want %q", again.RunFault, err, o.RunFault)
	}
	var plain hpcsera.OrderSpec
	if err := json.Unmarshal([]byte(`{"name":"a","run":{"site":"gwdg","values":{"x":1}}}`), &plain); err != nil || plain.RunFault != "" {
		t.Errorf("a known run part: got %q, %v, want no fault", plain.RunFault, err)
	}
}
