package strictyaml_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

func TestFormatReadsWell(t *testing.T) {
	in := `{"name":"cavity","script":"#!/bin/sh\n\necho \"a: b\"\n","empty":{},"none":[],"words":["a","no","5","2h30m","4GiB","1e3"],"n":1e-2,
		"files":[{"path":"a","mode":"0644"},{"path":"b b","mode":"0755"}],"nested":{"a":{"b":[["c"],[]]}},"odd key:":"x<y","steps":[{"script":"a\nb\n","name":"n"}]}`
	want := `name: cavity
script: |
  #!/bin/sh

  echo "a: b"
empty: {}
none: []
words: [a, "no", "5", 2h30m, 4GiB, "1e3"]
"n": 1e-2
files:
  - path: a
    mode: "0644"
  - path: b b
    mode: "0755"
nested:
  a:
    b:
      - [c]
      - []
"odd key:": "x<y"
steps:
  - script: |
      a
      b
    name: "n"
`
	got, err := strictyaml.Format([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseReadsBackWhatFormatWrites(t *testing.T) {
	text := rapid.OneOf(
		rapid.SampledFrom([]string{"", " ", "\n", "no", "null", "~", "5", "-5", "0755", "1e3", ".5", ".inf", "a: b", "a:", "- x", "# x", "a #b", "'", `"`, `\`, `\u003c`,
			"é", "*a", "&a", "!a", "%a", "@a", "`", "{", "[", "]", ",", "?", "|", ">", "a\n", "a\nb", "a\n\nb\n", " a\nb\n", "a\n b\n\n", "a\t\n", "a \n", "\ta\n",
			"---\n", "...\n", "a\r\nb\n", "\u2028", "\ufeff", "\x00", "\x7f", "\u0085", "😀", "<<", "=", "2026-01-01", "12:30", "a\n#b\n", "a\n  b\n c\n"}),
		rapid.String(),
		rapid.StringMatching(`[a-z:# \n\t'"-]{0,30}`),
	)
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		scalar := rapid.OneOf(
			rapid.Map(text, func(s string) any { return s }),
			rapid.Map(rapid.Float64Range(-1e300, 1e300), func(f float64) any { return f }),
			rapid.Map(rapid.IntRange(-1e6, 1e6), func(i int) any { return float64(i) }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Just[any](nil),
		)
		if depth == 0 {
			return scalar
		}
		return rapid.OneOf(scalar,
			rapid.Map(rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 4), func(s []any) any { return s }),
			rapid.Map(rapid.MapOfN(text, rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 4), func(m map[string]any) any { return m }),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		in, err := json.Marshal(rapid.MapOfN(text, value(3), 0, 4).Draw(t, "object"))
		if err != nil {
			t.Skip("no JSON")
		}
		out, err := strictyaml.Format(in)
		if err != nil {
			t.Fatalf("Format: got %v, want no error", err)
		}
		d, err := strictyaml.Parse("f", out)
		if err != nil {
			t.Fatalf("Parse: got %v, want no error, for\n%s", err, out)
		}
		var want, got any
		_ = json.Unmarshal(in, &want)
		_ = json.Unmarshal(d.JSON, &got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-written +read:\n%s\n%s", diff, out)
		}
	})
}
