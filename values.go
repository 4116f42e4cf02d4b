package hpcsera

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Values are a job's parameters as given: one JSON value per name.
type Values map[string]json.RawMessage

// checkParameters refuses parameter names that programs obey and schemas that
// cannot be compiled or refer to anything outside themselves.
func (m Manifest) checkParameters() error {
	weight := 0
	for name := range m.Parameters {
		if !paramPattern.MatchString(name) || slices.Contains(proxyNames, name) {
			return Errorf(InvalidField, "%q cannot name a parameter.", name).At("parameters." + name).
				Hint("Use a-z, then a-z, 0-9 and _; names of proxy variables are refused.")
		}
		p, err := m.compile(name)
		if err != nil {
			return noSchema(name, err)
		}
		if weight += p.weight; weight > maxSchemaWeight {
			return Errorf(InvalidField, "the schemas together have more than %d parts.", maxSchemaWeight).At("parameters." + name)
		}
		if def := defaultOf(m.Parameters[name]); def != nil {
			if err := checkValue(name, def, p); err != nil {
				return Errorf(InvalidField, "the default breaks the schema: %v", err).At("parameters." + name)
			}
		}
	}
	return nil
}

func noSchema(name string, err error) error {
	return Errorf(InvalidField, "the schema does not compile: %v.", Brief(err.Error(), 500)).At("parameters." + name)
}

// defaultOf returns the default in a parameter's schema, nil where there is
// none.
func defaultOf(schema json.RawMessage) json.RawMessage {
	var s struct {
		Default json.RawMessage `json:"default"`
	}
	if json.Unmarshal(schema, &s) != nil {
		return nil
	}
	return s.Default
}

// Complete checks values against the manifest's closed parameter schema and
// returns them with defaults filled in. The error names the value and what is
// wrong with it. Whoever checks many jobs of one code part uses
// [CodePart.Complete].
func (m Manifest) Complete(values Values) (Values, error) {
	return m.complete(values, m.compile)
}

func (m Manifest) complete(values Values, compile func(name string) (parameter, error)) (Values, error) {
	full, size := Values{}, 0
	for name, raw := range values {
		if _, ok := m.Parameters[name]; !ok {
			return nil, Errorf(InvalidValue, "%q is not a parameter of %s.", Brief(name, 80), m.Name).At("values."+Brief(name, 80)).
				Hint("Its parameters: %s.", m.parameterNames())
		}
		full[name] = raw
	}
	for name, text := range m.Parameters {
		if _, given := full[name]; !given {
			def := defaultOf(text)
			if def == nil {
				return nil, Errorf(InvalidValue, "%q has no value and no default.", name).At("values."+name).
					Hint("Give one: values: {%s: …}, or -p %s=….", name, name)
			}
			full[name] = def
		}
		p, err := compile(name)
		if err != nil {
			return nil, noSchema(name, err)
		}
		if err := checkValue(name, full[name], p); err != nil {
			return nil, err
		}
		if size += len(full[name]); size > maxValuesText {
			return nil, Errorf(InvalidValue, "the values together have more than %d bytes, which is all that can reach a program.", maxValuesText).
				At("values." + name).Hint("Put large data into a file.")
		}
	}
	return full, nil
}

func checkValue(name string, raw json.RawMessage, p parameter) error {
	field := "values." + name
	text := EnvironmentText(raw)
	if len(text) > maxEnvironmentText {
		return Errorf(InvalidValue, "the value has %d bytes; %d can reach a program.", len(text), maxEnvironmentText).At(field).
			Hint("Put large data into a file.")
	}
	if strings.ContainsRune(text, 0) {
		return Errorf(InvalidValue, "the value holds a NUL character, which cannot reach a program.").At(field).
			Hint("Take it out, or put such data into a file.")
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return Errorf(InvalidValue, "not JSON: %v", err).At(field).Hint("Give text, a number, true, false, a list or a mapping.")
	}
	if err := checkNumbers(value); err != nil {
		return Errorf(InvalidValue, "%v.", err).At(field).Hint("Give a number that a 64-bit floating point number can hold.")
	}
	if p.weight*valueSize(raw) > maxCost {
		return Errorf(InvalidValue, "the value is too long to be held against its schema.").At(field).Hint("Put large data into a file.")
	}
	if err := p.schema.Validate(value); err != nil {
		return Errorf(InvalidValue, "%s", Brief(schemaSentence(err), 1000)).At(field).
			Hint("The parameter's schema stands in the code part; only the code's author can change it.")
	}
	return nil
}

// maxEnvironmentText is how long one variable may be. Linux refuses to start a
// program with one of 128 KiB.
const maxEnvironmentText = 64 << 10

// maxValuesText is how long all values together may be: half of what Linux
// passes to a program.
const maxValuesText = 1 << 20

// maxComplaints is how many a sentence holds: alternatives can fail by the
// thousand.
const maxComplaints = 5

// schemaSentence returns the first of the innermost complaints of a validation error.
func schemaSentence(err error) string {
	var v *jsonschema.ValidationError
	if !errors.As(err, &v) {
		return err.Error()
	}
	var leaves []string
	var walk func(*jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		if len(leaves) == maxComplaints {
			return
		}
		if len(e.Causes) == 0 {
			leaves = append(leaves, e.ErrorKind.LocalizedString(printer))
		}
		for _, c := range e.Causes {
			walk(c)
		}
	}
	walk(v)
	if len(leaves) == 0 {
		return v.Error()
	}
	return strings.Join(leaves, "; ") + "."
}

// EnvironmentText returns how a value appears as environment variable: a
// string as it is, everything else as its JSON text.
func EnvironmentText(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil && len(raw) > 0 && bytes.TrimSpace(raw)[0] == '"' {
		return s
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return string(raw)
	}
	return compact.String()
}

// Expand replaces each {name} in an argument by that value. An argument stays
// one argument whatever the value holds.
func (v Values) Expand(argument string) string {
	return braces.ReplaceAllStringFunc(argument, func(ref string) string {
		return EnvironmentText(v[ref[1:len(ref)-1]])
	})
}

func (m Manifest) parameterNames() string {
	var names []string
	for name := range m.Parameters {
		names = append(names, name)
	}
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

var printer = message.NewPrinter(language.English)
