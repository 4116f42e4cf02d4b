package consent

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// What is marked as gone or as before is the old text, what is marked as new
// or as before the new one: a difference hides nothing and invents nothing.
func TestADifferenceIsTheWholeOfBothVersions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "", " a"}), 0, 12)
		before, now := lines.Draw(t, "before"), lines.Draw(t, "now")
		var gotBefore, gotNow []string
		for _, l := range lcs(before, now) {
			if l.Mark != "ins" {
				gotBefore = append(gotBefore, l.Text)
			}
			if l.Mark != "del" {
				gotNow = append(gotNow, l.Text)
			}
		}
		if strings.Join(gotBefore, "\n") != strings.Join(before, "\n") || len(gotBefore) != len(before) {
			t.Fatalf("before: got %q, want %q", gotBefore, before)
		}
		if strings.Join(gotNow, "\n") != strings.Join(now, "\n") || len(gotNow) != len(now) {
			t.Fatalf("now: got %q, want %q", gotNow, now)
		}
	})
}

func TestADifferenceIsShort(t *testing.T) {
	for _, c := range []struct{ before, now, want string }{
		{"a\nb\nc\n", "a\nx\nc\n", " a|-b|+x| c"},
		{"a\nb\n", "a\nb\nc\n", " a| b|+c"},
		{"", "a\n", "+a"},
		{"a\n", "", "-a"},
		{"a\nb\nc\nd\n", "b\nd\n", "-a| b|-c| d"},
		{"a\n", "a", "-a|+a (no line end)"},
		{"a\n", "a \n", "-a|+a "},
	} {
		var got []string
		for _, l := range compare(text{body: c.before}, text{body: c.now}).Lines {
			got = append(got, map[string]string{"": " ", "ins": "+", "del": "-"}[l.Mark]+l.Text)
		}
		if all := strings.Join(got, "|"); all != c.want {
			t.Errorf("%q to %q: got %q, want %q", c.before, c.now, all, c.want)
		}
	}
}

func TestTextsTooLongToCompareAreShownWhole(t *testing.T) {
	before, now := strings.Repeat("a\n", 3000), strings.Repeat("b\n", 3000)
	p := compare(text{body: before}, text{body: now})
	if p.Added != 3000 || p.Removed != 3000 || len(p.Lines) != 6000 {
		t.Errorf("got %d lines, %d new and %d gone, want all", len(p.Lines), p.Added, p.Removed)
	}
}
