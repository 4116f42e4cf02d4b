package strictyaml_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

func TestScalarsAreThoseOfYAML12(t *testing.T) {
	for in, want := range map[string]string{
		"yes": `"yes"`, "on": `"on"`, "12:30": `"12:30"`, "2h30m": `"2h30m"`, "1_000": `"1_000"`, "0b11": `"0b11"`, "2026-11-22": `"2026-11-22"`,
		"0000-0000-0000-0000": `"0000-0000-0000-0000"`, "1e": `"1e"`, "0x": `"0x"`, "1.2.3": `"1.2.3"`, `"5"`: `"5"`, `'5'`: `"5"`, `"null"`: `"null"`,
		`"a\u00e9\n"`: `"aé\n"`, "'it''s'": `"it's"`, "<>&": `"\u003c\u003e\u0026"`, "~x": `"~x"`, "a#b": `"a#b"`, "a #b": `"a"`,
		"true": "true", "True": "true", "FALSE": "false", "null": "null", "~": "null", "": "null",
		"5": "5", "-5": "-5", "+5": "5", "0": "0", "0x1F": "31", "0o17": "15", "9999999999999999999999": "9999999999999999999999",
		"1e3": "1e3", "-1.5E-3": "-1.5E-3", ".5": "0.5", "-.5": "-0.5", "1.": "1", "1.e2": "1e2", "0.01": "0.01", "0e1": "0e1",
		"|\n  #!/bin/sh\n  echo \"$a: b\"  # c\n\n    x\n": `"#!/bin/sh\necho \"$a: b\"  # c\n\n  x\n"`,
		"1\tb": `"1\tb"`, "|-\n  x  \n": `"x  "`,
		"|-\n  x\n": `"x"`, "|+\n  x\n\n": `"x\n\n"`, ">\n  a\n  b\n": `"a b\n"`,
		"[a, 1, {b: c}]": `["a",1,{"b":"c"}]`, "\n- a\n- b: 1\n  c: 2": `["a",{"b":1,"c":2}]`, "{}": "{}", "[]": "[]", "a\n  b": `"a b"`,
	} {
		d, err := strictyaml.Parse("f", []byte("x: "+in))
		if err != nil {
			t.Errorf("%q: got %v, want %s", in, err, want)
			continue
		}
		if got, want := string(d.JSON), `{"x":`+want+`}`; got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestWhatCouldBeReadInTwoWaysIsRefusedWithItsLine(t *testing.T) {
	for _, c := range []struct{ name, text, where, say string }{
		{"a key twice", "a: 1\nb: 2\na: 3\n", "f:3 a", "twice"},
		{"a key twice in another style", "a: 1\n\"a\": 3\n", "f:2 a", "twice"},
		{"a key twice below", "a:\n  b: 1\n  b: 2\n", "f:3 a.b", "twice"},
		{"a key twice in braces", "a: {b: 1, b: 2}\n", "f:1 a.b", "twice"},
		{"two documents", "a: 1\n---\nb: 1\n", "f:2", "second document"},
		{"an anchor", "a: &x 1\n", "f:1 a", "anchors"},
		{"an alias", "b: 1\na: *x\n", "f", "unknown anchor"},
		{"a tag", "a: !!str 5\n", "f:1 a", "tags"},
		{"a merge key", "a: 1\n<<: {b: 1}\n", "f:2", "merge"},
		{"a key of several parts", "? |\n  a\n: 1\n", "f:1", "keys"},
		{"a leading zero", "umask: 0022\n", "f:1 umask", "disagree"},
		{"infinity", "a: .inf\n", "f:1 a", "not a number"},
		{"no number", "\na: .nan\n", "f:2 a", "not a number"},
		{"a list", "- a\n", "f:1", "not a mapping"},
		{"a word", "hello\n", "f:1", "not a mapping"},
		{"a tab", "a:\n\tb: 1\n", "f:2", "not YAML"},
		{"a colon too many", "a: b: c\n", "f:1", "not YAML"},
		{"an open bracket", "a: [1,\n", "f:1", "not YAML"},
		{"an open quote", "b: 1\na: 'x\n", "f:2", "not YAML"},
		{"a value beside its key's column", "a:\nb c\n", "f:2", "not YAML"},
		{"another encoding", "a: \xff\n", "f", "UTF-8"},
		{"too much", "a: " + strings.Repeat("x", 9<<20), "f", "too many"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := strictyaml.Parse("f", []byte(c.text))
			var e *hpcsera.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %+v, %v, want an error", d, err)
			}
			if e.Field != c.where || !strings.Contains(e.Error(), c.say) {
				t.Errorf("got %q at %q, want %q at %q", e.Error(), e.Field, c.say, c.where)
			}
		})
	}
}

func TestDecodeErrorsSayWhere(t *testing.T) {
	text := `# a comment
name: a

resources:
  memory: 4GiB
  node_cuont: 4
environment:
  A: 1
artifacts:
- a
- path: b
  to: s3://c
`
	for _, c := range []struct{ remove, want string }{
		{"", `job.yaml:6 resources.node_cuont: "node_cuont" is not a known field. Did you mean "node_count"?`},
		{"  node_cuont: 4\n", `job.yaml:7 environment.A: text is needed here, not 1. Write it in quotes: "1".`},
		{"  node_cuont: 4\nenvironment:\n  A: 1\n", `job.yaml:9 artifacts[1].to: "to" is not supported by this version. Leave it out; nothing was submitted.`},
	} {
		d, err := strictyaml.Parse("job.yaml", []byte(strings.Replace(text, c.remove, "", 1)))
		if err != nil {
			t.Fatal(err)
		}
		var spec hpcsera.JobSpec
		if err := d.Decode(&spec); err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func TestLocateFindsTheNearestFieldThatStands(t *testing.T) {
	d, err := strictyaml.Parse("job.yaml", []byte("name: a\nresources:\n  memory: 1GiB\nlabels: {a.b: c}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{
		"resources.memory":     "job.yaml:3 resources.memory",
		"resources.node_count": "job.yaml:2 resources.node_count",
		"labels.a.b":           "job.yaml:4 labels.a.b",
		"attributes.duration":  "job.yaml attributes.duration",
		"name[3].x":            "job.yaml:1 name[3].x",
	} {
		var e *hpcsera.Error
		if errors.As(d.Locate(hpcsera.Errorf(hpcsera.LimitExceeded, "too much.").At(field)), &e); e.Field != want {
			t.Errorf("got %q, want %q", e.Field, want)
		}
	}
	if plain := errors.New("x"); d.Locate(plain) != plain || d.Locate(nil) != nil {
		t.Error("other errors: got them changed")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a: [1, {b: c}]\nd: |\n  x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := strictyaml.Parse("f", text)
		if err != nil {
			return
		}
		var v map[string]any
		if err := d.Decode(&v); err != nil && hpcsera.CodeOf(err) != hpcsera.MalformedRequest {
			t.Errorf("%q became %s, which is no object: %v", text, d.JSON, err)
		}
	})
}
