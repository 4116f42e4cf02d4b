package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func order(job, digest, manifest, signature string) Entry {
	return Entry{Kind: KindOrder, Order: &hpcsera.Order{JobID: job, Attempt: 1, Revision: 1, Desired: hpcsera.DesiredRun, Spec: &hpcsera.OrderSpec{
		Name: job, Digest: digest, Manifest: []byte(manifest), Statement: []byte("statement of " + digest), Signature: signature,
	}}}
}

// What orders share is written once, and each comes back as it was: in any
// order, also where a job or a code comes twice with something else.
func TestOrdersComeBackWhole(t *testing.T) {
	a, b := `{"name":"a"}`, `{"name":"b"}`
	cancel := Entry{Kind: KindOrder, Order: &hpcsera.Order{JobID: "j_1", Attempt: 1, Revision: 2, Desired: hpcsera.DesiredCancel}}
	appends := [][]Entry{
		{order("j_1", "a", a, "x"), order("j_2", "b", b, "x"), order("j_3", "a", a, "x"), cancel, order("j_4", "b", b, "x")},
		{order("j_5", "a", a, "x"), order("j_5", "b", b, "x"), order("j_6", "a", a, "x")},
		{order("j_7", "a", a, "x"), order("j_8", "a", a, "y"), order("j_9", "a", a, "y"), order("j_10", "a", b, "y"), order("j_11", "a", a, "x")},
		{order("j_12", "a", a, "x"), {Kind: KindCursor, Cursor: "c"}, order("j_13", "a", a, "x")},
		{order("j_14", "a", a, "x")},
		{order("j_15", "a", a, "x"), order("j_16", "a", a, "x")},
	}
	dir := t.TempDir()
	j, instance, _ := start(t, dir)
	var want []hpcsera.Order
	for _, list := range appends {
		add(t, j, list...)
		for _, e := range list {
			if e.Order != nil {
				want = append(want, *e.Order)
			}
		}
	}
	var got []hpcsera.Order
	if _, err := Replay(dir, func(e Entry) {
		if e.Order != nil {
			got = append(got, *e.Order)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d orders, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("order %d: got %+v with %+v, want %+v with %+v", i, got[i], got[i].Spec, want[i], want[i].Spec)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, instance+suffix))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(`"like"`)); n != 5 {
		t.Errorf("%d orders are written as like an earlier one, want 5", n)
	}
}

// An order without the one that it is like is not guessed at.
func TestAnOrderLikeNoneIsDamage(t *testing.T) {
	for name, between := range map[string][]Entry{
		"first of its file":             nil,
		"after another entry":           {order("j_1", "a", "{}", "x"), {Kind: KindCursor, Cursor: "c"}},
		"like one that is not the last": {order("j_1", "a", "{}", "x"), order("j_3", "a", "{}", "y")},
	} {
		dir := t.TempDir()
		j, _, _ := start(t, dir)
		like := order("j_2", "a", "", "")
		like.Order.Spec.Like, like.Order.Spec.Manifest, like.Order.Spec.Statement = "j_1", nil, nil
		add(t, j, append(between, like, Entry{Kind: KindCursor, Cursor: "d"})...)
		if _, err := Replay(dir, func(Entry) {}); err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), "j_1") {
			t.Errorf("%s: got %v, want an error that says so", name, err)
		}
	}
}
