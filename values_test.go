package hpcsera_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// parameterised is code with one parameter of each kind.
func parameterised() hpcsera.Manifest {
	return hpcsera.Manifest{
		Name: "cavity", Program: hpcsera.Program{Script: "icoFoam"},
		Parameters: map[string]json.RawMessage{
			"viscosity": json.RawMessage(`{"type": "number", "minimum": 0.001, "default": 0.01}`),
			"case_name": json.RawMessage(`{"type": "string"}`),
			"year":      json.RawMessage(`{"type": "integer", "minimum": 1940, "maximum": 2026, "default": 2000}`),
		},
	}
}

func values(pairs ...string) hpcsera.Values {
	v := hpcsera.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v[pairs[i]] = json.RawMessage(pairs[i+1])
	}
	return v
}

func TestValuesOutsideTheSchemaAreRefusedByName(t *testing.T) {
	for _, c := range []struct {
		values hpcsera.Values
		field  string
	}{
		{values(), "values.case_name"},                             // no default
		{values("case_name", `"a"`, "extra", "1"), "values.extra"}, // closed
		{values("case_name", "1"), "values.case_name"},             // wrong type
		{values("case_name", `"a"`, "viscosity", "0"), "values.viscosity"},
		{values("case_name", `"a"`, "viscosity", `"0.02"`), "values.viscosity"},
		{values("case_name", `"a"`, "year", "2000.5"), "values.year"},
		{values("case_name", "null"), "values.case_name"},
		{values("case_name", `"a" "b"`), "values.case_name"},
		{values("case_name", `"a\u0000b"`), "values.case_name"},
		{values("case_name", `"`+strings.Repeat("a", 1<<17)+`"`), "values.case_name"},
	} {
		_, err := parameterised().Complete(c.values)
		e, ok := err.(*hpcsera.Error)
		if !ok || e.Code != hpcsera.InvalidValue || e.Field != c.field {
			t.Errorf("%v: got %v, want invalid_value at %s", c.values, err, c.field)
		}
	}
}

func TestHostileTextIsDataLikeAnyOther(t *testing.T) {
	for _, text := range []string{
		"$(rm -rf ~)", "'; id #", "a\nb", "`id`", "${HOME}", "--option", "%s", "\\", `"`, "é😀", "", " ", "\x1b[2J", "*", "a b",
	} {
		raw, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		full, err := parameterised().Complete(hpcsera.Values{"case_name": raw})
		if err != nil {
			t.Errorf("%q: got %v, want it accepted", text, err)
			continue
		}
		if got := hpcsera.EnvironmentText(full["case_name"]); got != text {
			t.Errorf("as environment variable: got %q, want %q", got, text)
		}
		if got, want := full.Expand("x{case_name}y{year}"), "x"+text+"y2000"; got != want {
			t.Errorf("in an argument: got %q, want %q", got, want)
		}
	}
}

// A value that looks like a reference must not be expanded again.
func TestExpandedValuesAreNotExpandedAgain(t *testing.T) {
	v := values("a", `"{b}"`, "b", `"{a}"`)
	if got, want := v.Expand("{a} {b}"), "{b} {a}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	full, err := parameterised().Complete(values("case_name", `"cavity"`, "viscosity", "0.02"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"viscosity": "0.02", "case_name": `"cavity"`, "year": "2000"} {
		if got := string(full[name]); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestSchemasThatDecideNothingAloneAreRefused(t *testing.T) {
	for name, schema := range map[string]string{
		"remote reference":      `{"$ref": "https://example.org/schema.json"}`,
		"file reference":        `{"$ref": "file:///etc/passwd"}`,
		"no schema":             `"number"`,
		"not JSON":              `{`,
		"wrong keyword":         `{"type": "nmber"}`,
		"default of wrong type": `{"type": "number", "default": "x"}`,
		"default out of range":  `{"type": "number", "minimum": 1, "default": 0}`,
	} {
		m := parameterised()
		m.Parameters = map[string]json.RawMessage{"x": json.RawMessage(schema)}
		err := m.Validate()
		e, ok := err.(*hpcsera.Error)
		if !ok || e.Code != hpcsera.InvalidField || e.Field != "parameters.x" {
			t.Errorf("%s: got %v, want invalid_field at parameters.x", name, err)
		}
	}
}

func TestParametersCannotTakeNamesThatProgramsObey(t *testing.T) {
	for _, name := range []string{"http_proxy", "no_proxy", "PATH", "LD_PRELOAD", "BASH_ENV", "SBATCH_ACCOUNT", "1a", "", "a-b", "a b", "a=b", strings.Repeat("a", 64)} {
		m := parameterised()
		m.Parameters = map[string]json.RawMessage{name: json.RawMessage(`{"type": "string"}`)}
		if err := m.Validate(); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%q: got %v, want invalid_field", name, err)
		}
	}
}

func TestACheckedCodePartSaysTheSameFromManyGoroutines(t *testing.T) {
	part, err := parameterised().Check()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				if _, err := part.Complete(values("case_name", `"a"`, "viscosity", "0")); hpcsera.CodeOf(err) != hpcsera.InvalidValue {
					t.Errorf("got %v, want invalid_value", err)
				}
				if _, err := part.Complete(values("case_name", `"a"`)); err != nil {
					t.Errorf("got %v, want nil", err)
				}
			}
		})
	}
	all.Wait()
}
