package hpcsera

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
)

var (
	rawType         = reflect.TypeFor[json.RawMessage]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// shape is what a type can be read from.
type shape uint8

const (
	anything shape = iota
	leaf           // one value, which encoding/json or the type itself reads
	object         // a struct
	mapping        // a map
	list
	noNull // null, where something is needed
)

// expect returns the type that a value of a kind (its first byte) becomes,
// without pointers, and its shape.
func expect(t reflect.Type, kind byte) (reflect.Type, shape) {
	for t != nil && t.Kind() == reflect.Pointer {
		if kind == 'n' {
			return t, anything
		}
		t = t.Elem()
	}
	switch {
	case t == nil || t == rawType || t.Kind() == reflect.Interface:
		return t, anything
	case kind == 'n':
		return t, noNull
	// A type that reads itself has no members that are known here, except
	// where it is a struct written as an object.
	case reflect.PointerTo(t).Implements(unmarshalerType) && !(t.Kind() == reflect.Struct && kind == '{'):
		return t, leaf
	case t.Kind() == reflect.Struct:
		return t, object
	case t.Kind() == reflect.Map:
		return t, mapping
	case (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && t.Elem().Kind() != reflect.Uint8:
		return t, list
	}
	return t, leaf
}

// conform checks that a value, whose members were checked, can become a t
// without loss.
func (r *jsonReader) conform(raw []byte, t reflect.Type, want shape) error {
	switch {
	case want == noNull:
		return Errorf(InvalidField, "null is no value here.").At(r.at()).Hint("Leave the field out, or give it a value.")
	case want == leaf:
		return r.leaf(raw, t)
	case want == object && raw[0] != '{':
		return r.wrongType(raw, "a mapping")
	case want == mapping && raw[0] != '{':
		return r.wrongType(raw, "a mapping of names to values")
	case want == list && raw[0] != '[':
		return r.wrongType(raw, "a list")
	}
	return nil
}

// members are what encoding/json reads into a struct.
type members struct {
	types map[string]reflect.Type
	names []string
}

// known are the members of every struct that was read so far: those of this
// program's own types.
var known sync.Map // of reflect.Type to members

func membersOf(t reflect.Type) members {
	if m, ok := known.Load(t); ok {
		return m.(members)
	}
	m := members{types: map[string]reflect.Type{}}
	jsonFields(t, m.types, &m.names)
	known.Store(t, m)
	return m
}

// member returns the type of a struct's member.
func (r *jsonReader) member(t reflect.Type, name string) (reflect.Type, error) {
	m := membersOf(t)
	if field, ok := m.types[name]; ok {
		return field, nil
	}
	err := UnknownKey(r.at(), Brief(name, 80))
	if near := nearest(name, m.names); near != "" && err.Code == UnknownField {
		err.Advice = fmt.Sprintf("Did you mean %q?", near)
	}
	return nil, err
}

// jsonFields lists the members of a struct as encoding/json sees them: a
// field hides those of the same name in embedded structs.
func jsonFields(t reflect.Type, known map[string]reflect.Type, names *[]string) {
	var embedded []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			embedded = append(embedded, f.Type)
		case !f.IsExported() || name == "-":
		default:
			if name == "" {
				name = f.Name
			}
			if _, hidden := known[name]; !hidden {
				known[name] = f.Type
				*names = append(*names, name)
			}
		}
	}
	for _, e := range embedded {
		jsonFields(e, known, names)
	}
}

// leaf lets encoding/json read the one value, so that a type's own error gets
// the path.
func (r *jsonReader) leaf(raw []byte, t reflect.Type) error {
	err := json.Unmarshal(raw, reflect.New(t).Interface())
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e.At(r.at())
	}
	switch t.Kind() {
	case reflect.String:
		return r.wrongType(raw, "text")
	case reflect.Bool:
		return r.wrongType(raw, "true or false")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return r.wrongType(raw, "a whole number")
	case reflect.Float32, reflect.Float64:
		return r.wrongType(raw, "a number")
	}
	return Errorf(InvalidField, "this cannot be read: %w.", err).At(r.at())
}

func (r *jsonReader) wrongType(raw []byte, want string) error {
	shown := Brief(string(raw[:min(len(raw), 100)]), 57)
	err := Errorf(InvalidField, "%s is needed here, not %s.", want, shown).At(r.at())
	if want == "text" && strings.IndexByte("-0123456789tf", raw[0]) >= 0 {
		return err.Hint("Write it in quotes: \"%s\".", shown)
	}
	return err.Hint("Give %s, or leave the field out.", want)
}

// nearest returns the name that word is most likely a misspelling of, or "".
func nearest(word string, names []string) string {
	if len(word) > 64 {
		return "" // comparing takes as long as both words multiplied
	}
	best, least := "", len(word)/3+1
	for _, name := range names {
		if strings.EqualFold(name, word) {
			return name
		}
		if d := distance(strings.ToLower(word), name); d <= least && (best == "" || d < distance(strings.ToLower(word), best)) {
			best = name
		}
	}
	return best
}

// distance is the number of letters to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
