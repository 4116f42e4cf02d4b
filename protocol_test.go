package hpcsera_test

import (
	"encoding/json"
	"reflect"
	"slices"
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

func TestAnOrderIsLikeAnEarlierOneOfItsAnswerOrRefused(t *testing.T) {
	spec := func(like string) *hpcsera.OrderSpec { return &hpcsera.OrderSpec{Like: like} }
	for name, orders := range map[string][]hpcsera.Order{
		"like none":                 {{JobID: "j_a", Spec: spec("j_b")}},
		"like itself":               {{JobID: "j_a", Spec: spec("j_a")}},
		"like a later":              {{JobID: "j_a", Spec: spec("j_b")}, {JobID: "j_b", Spec: spec("")}},
		"like one that has no spec": {{JobID: "j_a"}, {JobID: "j_b", Spec: spec("j_a")}},
	} {
		answer := hpcsera.WorkAnswer{Orders: orders}
		if err := answer.Complete(); err == nil || !strings.Contains(err.Error(), "does not have") {
			t.Errorf("%s: got %v, want an error that says so", name, err)
		}
	}
}

// What the server tells an agent is a closed list: no path, no template, no
// setting, no update, no key. Whoever adds a word here says in
// doc/threat-model.md what a taken-over server could do with it.
func TestTheServerTellsAnAgentThisAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		told any
		want string
	}{
		"the answer": {hpcsera.WorkAnswer{}, "applied_seq cursor epoch orders reads replay status_list stopping term"},
		"an order":   {hpcsera.Order{}, "attempt desired job_id revision spec"},
		"a read":     {hpcsera.Read{}, "id job_id length offset path"},
		"a spec":     {hpcsera.OrderSpec{}, "client created digest idempotency like manifest name project run run_fault signature site statement submitter user"},
		"a run part": {hpcsera.RunPart{}, "annotations attributes dependencies hold keep labels requeue resources site values"},
	} {
		var words []string
		for f := range reflect.TypeOf(c.told).Fields() {
			word, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			words = append(words, word)
		}
		slices.Sort(words)
		if got := strings.Join(words, " "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// What is kept as it came is not known to be whole because it reads back as it
// came.
func TestOrderSpecFindsFaultsInValues(t *testing.T) {
	for name, values := range map[string]string{
		"a member twice":   `{"x":{"a":1,"a":2}}`,
		"no UTF-8":         "{\"x\":\"\xff\"}",
		"a lone surrogate": `{"x":"\ud800"}`,
	} {
		var o hpcsera.OrderSpec
		if err := json.Unmarshal([]byte(`{"name":"a","run":{"site":"gwdg","values":`+values+`}}`), &o); err != nil || o.RunFault == "" {
			t.Errorf("%s: got %v and no fault", name, err)
		}
	}
}
