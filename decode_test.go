package hpcsera_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestDecodeRefusesWhatTwoReadersCouldUnderstandDifferently(t *testing.T) {
	for _, c := range []struct {
		name, text string
		code       hpcsera.Code
		field, say string
	}{
		{"an unknown member", `{"name": "a", "scrpt": "x"}`, hpcsera.UnknownField, "scrpt", `Did you mean "script"?`},
		{"an unknown member far from any", `{"zzzzzz": 1}`, hpcsera.UnknownField, "zzzzzz", "nothing was submitted"},
		{"a nested unknown member", `{"resources": {"node_cuont": 1}}`, hpcsera.UnknownField, "resources.node_cuont", `"node_count"`},
		{"an unknown member of a list's object", `{"artifacts": ["a", {"path": "b", "allways": true}]}`, hpcsera.UnknownField, "artifacts[1].allways", `"always"`},
		{"another letter case", `{"Name": "a"}`, hpcsera.UnknownField, "Name", `"name"`},
		{"a member of a later version", `{"modules": ["gcc"]}`, hpcsera.NotSupportedYet, "modules", "not supported by this version"},
		{"a nested one of a later version", `{"artifacts": [{"path": "a", "to": "s3://b"}]}`, hpcsera.NotSupportedYet, "artifacts[0].to", "not supported"},
		{"a member twice", `{"name": "a", "name": "b"}`, hpcsera.InvalidField, "name", "twice"},
		{"a member twice by escape", `{"name": "a", "n\u0061me": "b"}`, hpcsera.InvalidField, "name", "twice"},
		{"a member twice in free JSON", `{"parameters": {"x": {"type": "string", "type": "number"}}}`, hpcsera.InvalidField, "parameters.x.type", "twice"},
		{"text for a number", `{"resources": {"node_count": "4"}}`, hpcsera.InvalidField, "resources.node_count", "a whole number"},
		{"a fraction for a whole number", `{"resources": {"node_count": 1.5}}`, hpcsera.InvalidField, "resources.node_count", "a whole number"},
		{"a number for text", `{"environment": {"OMP_NUM_THREADS": 8}}`, hpcsera.InvalidField, "environment.OMP_NUM_THREADS", `in quotes: "8"`},
		{"an object for a list", `{"files": {"path": "a"}}`, hpcsera.InvalidField, "files", "a list"},
		{"a list for an object", `{"resources": []}`, hpcsera.InvalidField, "resources", "a mapping"},
		{"a text for an object", `{"labels": "a"}`, hpcsera.InvalidField, "labels", "a mapping"},
		{"null", `{"name": null}`, hpcsera.InvalidField, "name", "null"},
		{"a duration without units", `{"attributes": {"duration": "30"}}`, hpcsera.InvalidField, "attributes.duration", "units"},
		{"a duration as number", `{"attributes": {"duration": 30}}`, hpcsera.InvalidField, "attributes.duration", "units"},
		{"memory without units", `{"resources": {"memory": "64"}}`, hpcsera.InvalidField, "resources.memory", "unit"},
		{"text after the value", `{"name": "a"} {}`, hpcsera.MalformedRequest, "", "not JSON"},
		{"nothing", ``, hpcsera.MalformedRequest, "", "not JSON"},
		{"a broken value", `{"name": `, hpcsera.MalformedRequest, "", "not JSON"},
		{"another encoding", "{\"name\": \"\xff\"}", hpcsera.MalformedRequest, "", "UTF-8"},
		{"half a surrogate pair", `{"name": "\ud800"}`, hpcsera.MalformedRequest, "name", "surrogate"},
		{"half a pair behind an escape that looks like it", `{"name": "\\ufffd\ud800x"}`, hpcsera.MalformedRequest, "name", "surrogate"},
		{"two first halves", `{"name": "\ud83d\ud83d"}`, hpcsera.MalformedRequest, "name", "surrogate"},
		{"a deep nest", `{"values": {"x": ` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}}`, hpcsera.MalformedRequest, "", "nested"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var spec hpcsera.JobSpec
			err := hpcsera.Decode([]byte(c.text), &spec)
			if got := hpcsera.CodeOf(err); got != c.code {
				t.Fatalf("code: got %q (%v), want %q", got, err, c.code)
			}
			var e *hpcsera.Error
			if errors.As(err, &e); c.field != "" && e.Field != c.field {
				t.Errorf("field: got %q, want %q", e.Field, c.field)
			}
			if !strings.Contains(err.Error(), c.say) {
				t.Errorf("sentence: got %q, want it to contain %q", err, c.say)
			}
		})
	}
}

func TestDecodeReadsWhatIsWellFormed(t *testing.T) {
	var spec hpcsera.JobSpec
	text := `{"name":"a","script":"echo \ud83d\ude00 \\ud800","artifacts":["x.csv",{"path":"y","always":true}],
		"parameters":{"n":{"type":"number"}},"values":{"n":1e-2},"site":"gwdg","attributes":{"duration":"2h30m"}}`
	if err := hpcsera.Decode([]byte(text), &spec); err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	if got, want := spec.Script, "echo 😀 \\ud800"; got != want {
		t.Errorf("script: got %q, want %q", got, want)
	}
	if got := spec.Artifacts; len(got) != 2 || got[0].Path != "x.csv" || !got[1].Always {
		t.Errorf("artifacts: got %+v", got)
	}
	if got, want := string(spec.Values["n"]), "1e-2"; got != want {
		t.Errorf("value: got %s, want %s", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"a","values":{"x":[1,{"y":"\ud83d\ude00"}]}}`))
	f.Add([]byte(`{"a":"\\"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var spec hpcsera.JobSpec
		_ = hpcsera.Decode(data, &spec) // must not panic
	})
}
