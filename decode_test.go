package hpcsera_test

import (
	"errors"
	"runtime"
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
		{"a member of a later version", `{"notify": ["failed"]}`, hpcsera.NotSupportedYet, "notify", "not supported by this version"},
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

func TestDecodeCostsNoMoreThanItsTextIsWorth(t *testing.T) {
	many := func(element string, n int) string { return strings.TrimSuffix(strings.Repeat(element+",", n), ",") }
	long := strings.Repeat("k", 1<<20)
	for _, c := range []struct {
		name, text string
		code       hpcsera.Code
		field, say string
	}{
		{"empty jobs without end", `{"jobs":[` + many("{}", 500_000) + `]}`, hpcsera.InvalidField, "jobs", "more than 100000 elements"},
		{"empty steps in several jobs", `{"jobs":[` + many(`{"steps":[`+many("{}", 90_000)+`]}`, 12) + `]}`, hpcsera.InvalidField, "", "more than 1000000 values"},
		{"a value without end", `{"jobs":[{"values":{"a":[` + many("0", 500_000) + `]}}]}`, hpcsera.InvalidField, "jobs[0].values.a", "more than 100000 elements"},
		{"long names, one inside the other", `{"jobs":[{"values":{"a":` + strings.Repeat(`{"`+long[:16<<10]+`":`, 100) + "1,1" + strings.Repeat("}", 100) + `}}]}`, hpcsera.MalformedRequest, "", "not JSON"},
		{"the same, and one twice", `{"jobs":[{"values":{"a":` + strings.Repeat(`{"`+long[:16<<10]+`":`, 100) + `{"b":1,"b":2}` + strings.Repeat("}", 100) + `}}]}`, hpcsera.InvalidField, "", "twice"},
		{"a long unknown name", `{"` + long + `":1}`, hpcsera.UnknownField, "", "not a known field"},
		{"a long text for a number", `{"jobs":[{"resources":{"node_count":"` + long + `"}}]}`, hpcsera.InvalidField, "jobs[0].resources.node_count", "a whole number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var request hpcsera.BulkRequest
			err := hpcsera.Decode([]byte(c.text), &request)
			runtime.ReadMemStats(&after)
			if used, most := after.TotalAlloc-before.TotalAlloc, uint64(8*len(c.text)); used > most {
				t.Errorf("a text of %d bytes: got %d bytes allocated, want at most %d", len(c.text), used, most)
			}
			var e *hpcsera.Error
			if !errors.As(err, &e) || e.Code != c.code || c.field != "" && e.Field != c.field || !strings.Contains(e.Message, c.say) {
				t.Fatalf("got %.300v, want %s at %q: …%s", err, c.code, c.field, c.say)
			}
			if got := len(e.Error()); got > 2000 {
				t.Errorf("length of the error: got %d, want at most 2000", got)
			}
		})
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
