package jobfile

import (
	"encoding/json"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// SetValues puts NAME=VALUE arguments (-p) over the job's values. Where the
// file holds the code, its schemas say how a text is meant; code that the
// server holds is not known here, see ParseValues.
func (f *File) SetValues(arguments []string) error {
	values, err := ParseValues(f.Spec.Parameters, arguments)
	if err != nil {
		return err
	}
	if f.Spec.Values == nil && len(values) > 0 {
		f.Spec.Values = hpcsera.Values{}
	}
	for name, value := range values {
		f.Spec.Values[name] = value
		for _, overlay := range f.Spec.Overlays {
			delete(overlay.Values, name) // an argument wins everywhere
		}
	}
	return nil
}

// ParseValues reads NAME=VALUE arguments against the parameters' schemas: for
// a string parameter 5 is the text "5", for a number it is five. Where both
// are allowed, or nothing is known, JSON is taken as JSON and all else as
// text. The last of several with the same name counts. Whether a value is
// allowed is not decided here.
func ParseValues(parameters map[string]json.RawMessage, arguments []string) (hpcsera.Values, error) {
	values := hpcsera.Values{}
	for _, argument := range arguments {
		name, text, ok := strings.Cut(argument, "=")
		if !ok || name == "" {
			return nil, hpcsera.Errorf(hpcsera.InvalidValue, "%q is not NAME=VALUE.", argument).At("-p")
		}
		values[name] = parseValue(name, text, parameters[name])
	}
	return values, nil
}

func parseValue(name, text string, schema json.RawMessage) json.RawMessage {
	quoted, _ := json.Marshal(text) // strings cannot fail
	if !json.Valid([]byte(text)) || isText(schema) {
		return quoted
	}
	asJSON := json.RawMessage(strings.TrimSpace(text))
	allowed := func(value json.RawMessage) bool {
		one := hpcsera.Manifest{Name: "one", Parameters: map[string]json.RawMessage{name: schema}}
		_, err := one.Complete(hpcsera.Values{name: value})
		return err == nil
	}
	if schema != nil && !allowed(asJSON) && allowed(quoted) {
		return quoted
	}
	return asJSON
}

// isText reports whether a schema's type is string and nothing else.
func isText(schema json.RawMessage) bool {
	var s struct {
		Type json.RawMessage `json:"type"`
	}
	return json.Unmarshal(schema, &s) == nil && string(s.Type) == `"string"`
}
