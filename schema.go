package hpcsera

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A validation cannot be ended once it has begun, so what it may cost is
// decided before. Server, client and agent decide it alike.
const (
	maxSchemaText   = 64 << 10
	maxSchemaDepth  = 32        // schemas inside schemas, followed references included
	maxSchemaWeight = 5000      // of all parameters of a manifest
	maxPattern      = 1000      // steps of a pattern's program
	maxCost         = 2_000_000 // weight of a schema times size of a value
	maxExponent     = 400       // of a number: beyond what any program reads
	maxDigits       = 1000
)

// parameter is a parameter's schema, compiled. weight is how much of it there
// is to evaluate for one value without parts.
type parameter struct {
	schema *jsonschema.Schema
	weight int
}

// noLoader refuses every remote schema: what a value may be is decided by the
// signed bytes alone.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema must not refer to %s", url)
}

func (m Manifest) compile(name string) (parameter, error) {
	text := m.Parameters[name]
	if len(text) > maxSchemaText {
		return parameter{}, fmt.Errorf("it has %d bytes; %d are taken", len(text), maxSchemaText)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return parameter{}, err
	}
	if err := checkNumbers(doc); err != nil {
		return parameter{}, err
	}
	w := weigher{root: doc, known: map[string]int{}}
	weight, err := w.schema(doc, 0)
	if err != nil {
		return parameter{}, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	const url = "mem:///parameter.json"
	if err := c.AddResource(url, doc); err != nil {
		return parameter{}, err
	}
	schema, err := c.Compile(url)
	return parameter{schema, weight}, err
}

// checkNumbers refuses numbers that only exact arithmetic could read: its
// effort grows with the number, not with its text.
func checkNumbers(v any) error {
	switch v := v.(type) {
	case json.Number:
		return checkNumber(string(v))
	case []any:
		for _, e := range v {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	case map[string]any:
		for _, e := range v {
			if err := checkNumbers(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkNumber(text string) error {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	_, err := strconv.ParseFloat(text, 64)
	if n, atoi := strconv.Atoi(exponent); len(mantissa) > maxDigits || exponent != "" && (atoi != nil || n > maxExponent || n < -maxExponent) || err != nil {
		return fmt.Errorf("%s is beyond the numbers that programs know", Brief(text, 60))
	}
	return nil
}

// weigher counts what there is to evaluate in a schema: schemas, the values
// they compare with, steps of patterns; a part that is referred to counts
// again each time.
type weigher struct {
	root  any
	known map[string]int // weights by pointer; 0 while one is being counted
}

// Where schemas are in a schema; everything else are values.
var (
	schemaOfNames = []string{"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
	schemaLists   = []string{"allOf", "anyOf", "oneOf", "prefixItems"}
	schemaAlone   = []string{"items", "additionalItems", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "propertyNames",
		"contains", "not", "if", "then", "else", "contentSchema"}
	// Words that give a schema another name or another language, or that lead
	// where only the evaluation finds out.
	schemaElsewhere = []string{"$id", "id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"}
	schemaLanguages = []string{"https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema"}
)

func (w *weigher) schema(v any, depth int) (int, error) {
	if depth > maxSchemaDepth {
		return 0, fmt.Errorf("schemas stand more than %d deep inside each other", maxSchemaDepth)
	}
	keywords, ok := v.(map[string]any)
	if !ok {
		return 1, nil // true, false, or nothing that compiles
	}
	total := 1
	for word, value := range keywords {
		n, err := w.keyword(word, value, depth)
		if err != nil {
			return 0, err
		}
		if total += n; total > maxSchemaWeight {
			return 0, fmt.Errorf("there is too much in it to evaluate (more than %d parts)", maxSchemaWeight)
		}
	}
	return total, nil
}

func (w *weigher) keyword(word string, value any, depth int) (int, error) {
	switch {
	case word == "$ref":
		return w.reference(value, depth)
	case word == "pattern":
		return patternWeight(value)
	case word == "$schema":
		if language, _ := value.(string); !slices.Contains(schemaLanguages, language) {
			return 0, fmt.Errorf("%q is not taken as $schema; leave it out for draft 2020-12", Brief(fmt.Sprint(value), 80))
		}
		return 1, nil
	case slices.Contains(schemaElsewhere, word):
		return 0, fmt.Errorf("%s is not taken; refer to parts with $ref: #/$defs/NAME", word)
	case slices.Contains(schemaAlone, word):
		return w.schema(value, depth+1)
	case slices.Contains(schemaLists, word):
		list, _ := value.([]any)
		return w.all(slices.Values(list), depth)
	case slices.Contains(schemaOfNames, word):
		return w.named(word, value, depth)
	}
	return countValues(value), nil
}

// all weighs several schemas.
func (w *weigher) all(list func(func(any) bool), depth int) (total int, err error) {
	for v := range list {
		n, err := w.schema(v, depth+1)
		if err != nil {
			return 0, err
		}
		if total += n; total > maxSchemaWeight {
			break // the caller refuses it
		}
	}
	return total, nil
}

func (w *weigher) named(word string, value any, depth int) (int, error) {
	byName, _ := value.(map[string]any)
	total := 0
	if word == "patternProperties" {
		for pattern := range byName {
			n, err := patternWeight(pattern)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	n, err := w.all(func(yield func(any) bool) {
		for _, v := range byName {
			if !yield(v) {
				return
			}
		}
	}, depth)
	return total + n, err
}

// reference weighs what a $ref leads to. A schema that contains itself is
// refused: what it costs depends on the value alone.
func (w *weigher) reference(value any, depth int) (int, error) {
	text, _ := value.(string)
	fragment, ok := strings.CutPrefix(text, "#")
	if !ok {
		return 0, fmt.Errorf("a schema must not refer to %s", Brief(fmt.Sprint(value), 80))
	}
	pointer, err := url.PathUnescape(fragment)
	if err != nil {
		return 0, fmt.Errorf("%q leads nowhere", Brief(text, 80))
	}
	n, counted := w.known[pointer]
	if counted && n == 0 {
		return 0, fmt.Errorf("%q leads to itself", Brief(text, 80))
	}
	if counted {
		return n, nil
	}
	target, ok := follow(w.root, pointer)
	if !ok {
		return 0, fmt.Errorf("%q leads nowhere", Brief(text, 80))
	}
	w.known[pointer] = 0
	n, err = w.schema(target, depth+1)
	w.known[pointer] = n
	return n, err
}

// follow resolves a JSON pointer.
func follow(v any, pointer string) (any, bool) {
	if pointer == "" {
		return v, true
	}
	tokens := strings.Split(pointer, "/")
	if tokens[0] != "" {
		return nil, false // an anchor
	}
	for _, token := range tokens[1:] {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch at := v.(type) {
		case map[string]any:
			next, ok := at[token]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

func countValues(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += countValues(e)
		}
	case map[string]any:
		for _, e := range v {
			n += countValues(e)
		}
	}
	return n
}

// patternWeight is the length of a pattern's program, which is tried at each
// character of a text.
func patternWeight(value any) (int, error) {
	text, _ := value.(string)
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0, fmt.Errorf("%q is not a pattern: %w", Brief(text, 80), err)
	}
	n := programLength(re)
	if n > maxPattern {
		return 0, fmt.Errorf("the pattern %q has more than %d steps", Brief(text, 80), maxPattern)
	}
	return n, nil
}

func programLength(re *syntax.Regexp) int {
	n := 1
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpCharClass:
		n += len(re.Rune) / 16
	default:
	}
	for _, sub := range re.Sub {
		n += programLength(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxPattern+1)
}

// valueSize is how much of a value there is to evaluate.
func valueSize(raw []byte) int {
	n := 1 + len(raw)/64
	for _, c := range raw {
		if c == ',' || c == '[' || c == '{' {
			n++
		}
	}
	return n
}
