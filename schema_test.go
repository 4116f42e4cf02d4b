package hpcsera_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// laughs is a schema of few bytes that is evaluated 2^n times.
func laughs(n int, combine, last string) string {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/$defs/d0","$defs":{`)
	for i := range n {
		fmt.Fprintf(&b, `"d%d":{"%s":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, combine, i+1, i+1)
	}
	return b.String() + fmt.Sprintf(`"d%d":%s}}`, n, last)
}

// Whoever may hand in code or values decides with them what the server and the
// agents compute; neither can end a validation that has begun.
func TestSchemasThatCostTooMuchAreRefused(t *testing.T) {
	many := func(n int, form string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, form+",", i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	for name, schema := range map[string]string{
		"a few references that double":      laughs(30, "allOf", `{"type":"number"}`),
		"a reference to itself":             `{"$ref":"#"}`,
		"a reference to itself, below":      `{"items":{"$ref":"#/items"}}`,
		"two that refer to each other":      `{"$ref":"#/$defs/a","$defs":{"a":{"items":{"$ref":"#/$defs/b"}},"b":{"items":{"$ref":"#/$defs/a"}}}}`,
		"the same, written otherwise":       `{"$ref":"#/%24defs/a","$defs":{"a":{"items":{"$ref":"#/$defs/%61"}}}}`,
		"a reference that is looked for":    `{"$dynamicAnchor":"x","allOf":[{"$dynamicRef":"#x"}]}`,
		"a name for itself":                 `{"$id":"https://example.org/x","$ref":"https://example.org/x#"}`,
		"a deep nest":                       strings.Repeat(`{"items":`, 60) + `{}` + strings.Repeat(`}`, 60),
		"very many schemas":                 `{"allOf":[` + many(20_000, `{"minimum":%d}`) + `]}`,
		"a pattern that unfolds":            `{"pattern":"` + strings.Repeat("(a{1,1000}){1,1}", 500) + `"}`,
		"very many patterns":                `{"patternProperties":{` + many(3000, `"(x|y)*%d.*.*$":{}`) + `}}`,
		"a bound that no number is":         `{"maximum":1e400}`,
		"a divisor without end":             `{"multipleOf":1e-999999}`,
		"an exponent that no program knows": `{"multipleOf":1e9999999999999999999}`,
		"a length without end":              `{"minLength":1e999999}`,
		"a constant without end":            `{"const":[1e1000001]}`,
		"a default that no number is":       `{"default":1e400}`,
		"another kind of schema":            `{"$schema":"http://json-schema.org/draft-04/schema#"}`,
		"too much text":                     `{"description":"` + strings.Repeat("a", 1<<20) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			m := parameterised()
			m.Parameters = map[string]json.RawMessage{"x": json.RawMessage(schema)}
			_, err := m.Check()
			var e *hpcsera.Error
			if !errors.As(err, &e) || e.Code != hpcsera.InvalidField || e.Field != "parameters.x" {
				t.Errorf("got %.300v, want invalid_field at parameters.x", err)
			}
		})
	}
}

func TestSchemasMayReferToTheirOwnParts(t *testing.T) {
	m := parameterised()
	m.Parameters = map[string]json.RawMessage{"x": json.RawMessage(`{"$schema":"https://json-schema.org/draft/2020-12/schema",
		"type":"array","items":{"$ref":"#/$defs/a~1b"},"$defs":{"a/b":{"type":"object","properties":{"$ref":{"type":"string"},"enum":{"enum":[{"$ref":1}]}}}}}`)}
	part, err := m.Check()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Complete(values("x", `[{"$ref":"a"}]`)); err != nil {
		t.Errorf("a value that fits: got %v, want nil", err)
	}
	if _, err := part.Complete(values("x", `[{"$ref":1}]`)); hpcsera.CodeOf(err) != hpcsera.InvalidValue {
		t.Errorf("one that does not: got %v, want invalid_value", err)
	}
}

func TestValuesThatCostTooMuchAreRefused(t *testing.T) {
	many := func(element string, n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	for _, c := range []struct{ name, schema, value string }{
		{"a number whose exponent is a text of its own", `{"maximum":5}`, `1e9999999999999999999`},
		{"the same below", `{"items":{"multipleOf":0.1}}`, `[{"a":[-1E+1000001]}]`},
		{"a small one", `{"maximum":5}`, `1e-1000001`},
		{"one with very many digits", `{"maximum":5}`, strings.Repeat("1", 5000)},
		{"a list without end, to be compared with itself", `{"uniqueItems":true}`, many("[1]", 500_000)},
		{"a list and a schema that multiply", `{"items":{"allOf":` + many("{}", 3000) + `}}`, many("0", 30_000)},
		{"a list and alternatives that all fail", `{"items":` + laughs(8, "anyOf", `{"type":"string"}`) + `}`, many("0", 10_000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := parameterised()
			schema := strings.ReplaceAll(c.schema, `"#/`, `"#/items/`)
			m.Parameters = map[string]json.RawMessage{"x": json.RawMessage(schema)}
			part, err := m.Check()
			if err != nil {
				t.Fatal(err)
			}
			_, err = part.Complete(values("x", c.value))
			var e *hpcsera.Error
			if !errors.As(err, &e) || e.Code != hpcsera.InvalidValue || e.Field != "values.x" {
				t.Errorf("got %.300v, want invalid_value at values.x", err)
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("length of the error: got %d, want at most 2000", len(err.Error()))
			}
		})
	}
}

func TestAllValuesOfAJobFitIntoAnEnvironment(t *testing.T) {
	m := parameterised()
	m.Parameters = map[string]json.RawMessage{}
	all := hpcsera.Values{}
	for i := range 40 {
		name := fmt.Sprintf("p%d", i)
		m.Parameters[name] = json.RawMessage(`{"type":"string"}`)
		all[name] = json.RawMessage(`"` + strings.Repeat("a", 60<<10) + `"`)
	}
	if _, err := m.Complete(all); hpcsera.CodeOf(err) != hpcsera.InvalidValue {
		t.Errorf("40 values of 60 KiB: got %.200v, want invalid_value", err)
	}
}
