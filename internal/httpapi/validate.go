package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/hpcsera/hpcsera"
)

// checkParameters holds the parameters against the contract. A parameter that
// the contract does not have is refused: it would be dropped without a word.
func (op *operation) checkParameters(r *http.Request) error {
	query := r.URL.Query()
	for name, values := range query {
		if !slices.Contains(op.query, name) {
			err := hpcsera.Errorf(hpcsera.UnknownField, "%q is not a parameter of this request.", shorten(name)).At(shorten(name))
			if len(op.query) > 0 {
				return err.Hint("Known: %s.", strings.Join(op.query, ", "))
			}
			return err.Hint("It takes none.")
		}
		if len(values) > 1 {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is given %d times.", name, len(values)).At(name).Hint("Give it once.")
		}
	}
	params := make(map[string]string, len(op.params))
	for _, name := range op.params {
		params[name] = r.PathValue(name)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, QueryParams: query, Route: op.route,
		Options: &openapi3filter.Options{SkipSettingDefaults: true},
	}
	// Not ValidateRequest: that one reads the body for its look at the
	// credentials, also of uploads.
	for _, p := range op.parameters {
		if err := openapi3filter.ValidateParameter(r.Context(), input, p); err != nil {
			return parameterError(err)
		}
	}
	return nil
}

// parameterError turns the validator's words into ours.
func parameterError(err error) error {
	var re *openapi3filter.RequestError
	var se *openapi3.SchemaError
	if !errors.As(err, &re) || re.Parameter == nil {
		return hpcsera.Errorf(hpcsera.MalformedRequest, "the request cannot be read: %w.", err)
	}
	name := re.Parameter.Name
	switch {
	case errors.As(err, &se):
		return schemaError(se, name)
	case errors.Is(err, openapi3filter.ErrInvalidRequired):
		return hpcsera.Errorf(hpcsera.InvalidField, "it is missing.").At(name).Hint("Give it a value.")
	case errors.Is(err, openapi3filter.ErrInvalidEmptyValue):
		return hpcsera.Errorf(hpcsera.InvalidField, "it is empty.").At(name).Hint("Give it a value, or leave it out.")
	}
	if want := wanted(re.Parameter.Schema.Value); want != "" {
		return hpcsera.Errorf(hpcsera.InvalidField, "%s is needed here.", want).At(name).Hint("Give %s.", want)
	}
	return hpcsera.Errorf(hpcsera.InvalidField, "it cannot be read: %w.", re.Err).At(name)
}

// checkBody holds a JSON body against the contract.
func (op *operation) checkBody(body []byte) error {
	if op.body != jsonBody {
		return nil
	}
	if op.strict != nil {
		if err := hpcsera.Decode(body, op.strict()); err != nil {
			return err
		}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	var value any
	if err := dec.Decode(&value); err != nil {
		return hpcsera.Errorf(hpcsera.MalformedRequest, "this is not JSON: %w.", err).Hint("Send one whole JSON value.")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return hpcsera.Errorf(hpcsera.MalformedRequest, "something stands behind the JSON value.").Hint("Send one JSON value.")
	}
	if err := op.schema.VisitJSON(value, openapi3.VisitAsRequest()); err != nil {
		var se *openapi3.SchemaError
		if !errors.As(err, &se) {
			return hpcsera.Errorf(hpcsera.InvalidField, "the body does not fit the contract: %w.", err)
		}
		return schemaError(se, "")
	}
	return nil
}

// unsupported is how the validator names a property that a schema lacks.
var unsupported = regexp.MustCompile(`^property "(.*)" is unsupported$`)

// schemaError turns the validator's complaint into ours: the field as a path
// and what would be right. at is where the validated value stands.
func schemaError(se *openapi3.SchemaError, at string) *hpcsera.Error {
	field := pathOf(at, se.JSONPointer())
	if m := unsupported.FindStringSubmatch(se.Reason); m != nil {
		return hpcsera.UnknownKey(pathOf(field, []string{m[1]}), m[1])
	}
	refuse := func(format string, args ...any) *hpcsera.Error {
		return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(field)
	}
	s := se.Schema
	switch se.SchemaField {
	case "required":
		return refuse("it is missing.").Hint("Give it a value.")
	case "nullable":
		return refuse("null is no value here.").Hint("Leave the field out, or give it a value.")
	case "type":
		if want := wanted(s); want != "" {
			return refuse("%s is needed here.", want).Hint("Give %s.", want)
		}
	case "enum":
		if word, ok := se.Value.(string); ok {
			if err := hpcsera.UnknownKey(field, word); err.Code == hpcsera.NotSupportedYet {
				return err
			}
		}
		words := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			words[i] = fmt.Sprint(v)
		}
		return refuse("%s is not known here.", shown(se.Value)).Hint("Use one of: %s.", strings.Join(words, ", "))
	case "minimum", "maximum":
		return refuse("%s is out of range.", shown(se.Value)).Hint("Give %s.", bounds(s))
	case "pattern", "format":
		err := refuse("%s does not have the right form.", shown(se.Value))
		if s.Description != "" {
			return err.Hint("Give: %s", s.Description)
		}
		return err
	}
	return refuse("%s.", se.Reason)
}

// pathOf writes a JSON pointer the way our errors name fields:
// reports[0].state.
func pathOf(at string, pointer []string) string {
	var b strings.Builder
	b.WriteString(at)
	for _, p := range pointer {
		switch {
		case p != "" && strings.Trim(p, "0123456789") == "":
			b.WriteString("[" + p + "]")
		case b.Len() > 0:
			b.WriteString("." + p)
		default:
			b.WriteString(p)
		}
	}
	return shorten(b.String())
}

func wanted(s *openapi3.Schema) string {
	switch {
	case s == nil || s.Type == nil:
		return ""
	case s.Type.Is("string"):
		return "text"
	case s.Type.Is("integer"):
		return "a whole number"
	case s.Type.Is("number"):
		return "a number"
	case s.Type.Is("boolean"):
		return "true or false"
	case s.Type.Is("array"):
		return "a list"
	case s.Type.Is("object"):
		return "a mapping"
	}
	return ""
}

func bounds(s *openapi3.Schema) string {
	switch {
	case s.Min != nil && s.Max != nil:
		return fmt.Sprintf("%g to %g", *s.Min, *s.Max)
	case s.Min != nil:
		return fmt.Sprintf("%g or more", *s.Min)
	case s.Max != nil:
		return fmt.Sprintf("%g or less", *s.Max)
	}
	return "another number"
}

func shown(v any) string {
	b, err := json.Marshal(v)
	if err != nil || len(b) > 80 {
		return "this"
	}
	return string(b)
}

// broken is the error of a body that ended early, or was too large.
func broken(err error) error {
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return err
	}
	return hpcsera.Errorf(hpcsera.MalformedRequest, "the body broke off: %w.", err).Hint("Send the request again.")
}
