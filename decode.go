package hpcsera

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON that Decode reads. Nothing of ours is
// nested deeper than a parameter's schema.
const maxDepth = 128

// Decode reads one JSON value into v, which must be a pointer, and refuses
// whatever two readers could understand differently or one of them could
// drop: unknown members, members named twice at any depth, names in another
// letter case, null where nothing may be missing, wrong types, text that is
// not UTF-8, lone surrogates, and anything after the value. The error is an
// *Error whose field is the path of the offence, such as steps[1].name.
//
// Everything that is signed, verified or submitted is read with it. Inside
// json.RawMessage and interfaces any member is known, but none twice.
func Decode(data []byte, v any) error {
	if !utf8.Valid(data) {
		return Errorf(MalformedRequest, "the text is not UTF-8.")
	}
	if !json.Valid(data) {
		var ignored any
		return Errorf(MalformedRequest, "this is not JSON: %w.", json.Unmarshal(data, &ignored))
	}
	r := jsonReader{data: data}
	n, err := r.value("", 0)
	if err != nil {
		return err
	}
	if err := conform(n, reflect.TypeOf(v).Elem(), ""); err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		var e *Error
		if errors.As(err, &e) {
			return e
		}
		return Errorf(InvalidField, "this cannot be read: %w.", err)
	}
	return nil
}

// jsonNode is a JSON value with its text. Kind is the first byte of the
// text, with 0 for numbers and t for both booleans.
type jsonNode struct {
	kind    byte
	raw     []byte
	names   []string // of an object's members, in their order
	members []jsonNode
}

// jsonReader walks data that json.Valid has accepted, so that it needs no
// syntax checks of its own.
type jsonReader struct {
	data []byte
	pos  int
}

func (r *jsonReader) space() {
	for r.pos < len(r.data) && strings.IndexByte(" \t\r\n:,", r.data[r.pos]) >= 0 {
		r.pos++
	}
}

func (r *jsonReader) value(at string, depth int) (jsonNode, error) {
	if depth > maxDepth {
		return jsonNode{}, Errorf(MalformedRequest, "nested more than %d levels deep.", maxDepth).At(at)
	}
	r.space()
	start := r.pos
	n := jsonNode{kind: r.data[r.pos]}
	var err error
	switch n.kind {
	case '{':
		err = r.object(&n, at, depth)
	case '[':
		r.pos++
		for r.space(); r.data[r.pos] != ']'; r.space() {
			var m jsonNode
			if m, err = r.value(fmt.Sprintf("%s[%d]", at, len(n.members)), depth+1); err != nil {
				return n, err
			}
			n.members = append(n.members, m)
		}
		r.pos++
	case '"':
		_, err = r.text(at)
	default:
		for r.pos < len(r.data) && strings.IndexByte(" \t\r\n,]}", r.data[r.pos]) < 0 {
			r.pos++
		}
		switch n.kind {
		case 'f':
			n.kind = 't'
		case 't', 'n':
		default:
			n.kind = '0'
		}
	}
	n.raw = r.data[start:r.pos]
	return n, err
}

func (r *jsonReader) object(n *jsonNode, at string, depth int) error {
	seen := map[string]bool{}
	r.pos++
	for r.space(); r.data[r.pos] != '}'; r.space() {
		name, err := r.text(at)
		if err != nil {
			return err
		}
		path := join(at, name)
		if seen[name] {
			return Errorf(InvalidField, "%q is given twice.", name).At(path)
		}
		seen[name] = true
		m, err := r.value(path, depth+1)
		if err != nil {
			return err
		}
		n.names, n.members = append(n.names, name), append(n.members, m)
	}
	r.pos++
	return nil
}

// text reads a string. Escapes that are half a surrogate pair are refused:
// readers replace them differently.
func (r *jsonReader) text(at string) (string, error) {
	start := r.pos
	for r.pos++; r.data[r.pos] != '"'; r.pos++ {
		if r.data[r.pos] == '\\' {
			r.pos++
		}
	}
	r.pos++
	raw := r.data[start:r.pos]
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", Errorf(MalformedRequest, "this is not JSON: %w.", err).At(at)
	}
	if loneSurrogate(raw) {
		return "", Errorf(MalformedRequest, "the text holds half a surrogate pair.").At(at)
	}
	return s, nil
}

// loneSurrogate reports whether a string's text escapes half a surrogate
// pair, which encoding/json would silently replace.
func loneSurrogate(raw []byte) bool {
	unit := func(i int) rune {
		if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		return rune(n)
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if first := unit(i); utf16.IsSurrogate(first) {
			if utf16.DecodeRune(first, unit(i+6)) == utf8.RuneError {
				return true
			}
			i += 10
		}
		i++
	}
	return false
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

var (
	rawType         = reflect.TypeFor[json.RawMessage]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// conform checks that n can become a t without loss.
func conform(n jsonNode, t reflect.Type, at string) error {
	for t.Kind() == reflect.Pointer {
		if n.kind == 'n' {
			return nil
		}
		t = t.Elem()
	}
	if t == rawType || t.Kind() == reflect.Interface {
		return nil
	}
	if n.kind == 'n' {
		return Errorf(InvalidField, "null is no value here.").At(at).Hint("Leave the field out, or give it a value.")
	}
	// A type that reads itself has no members that are known here, except
	// where it is a struct written as an object.
	if reflect.PointerTo(t).Implements(unmarshalerType) && !(t.Kind() == reflect.Struct && n.kind == '{') {
		return conformLeaf(n, t, at)
	}
	switch t.Kind() {
	case reflect.Struct:
		return conformStruct(n, t, at)
	case reflect.Map:
		if n.kind != '{' {
			return wrongType(n, "a mapping of names to values", at)
		}
		for i, name := range n.names {
			if err := conform(n.members[i], t.Elem(), join(at, name)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return conformLeaf(n, t, at)
		}
		if n.kind != '[' {
			return wrongType(n, "a list", at)
		}
		for i, m := range n.members {
			if err := conform(m, t.Elem(), fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
		return nil
	}
	return conformLeaf(n, t, at)
}

func conformStruct(n jsonNode, t reflect.Type, at string) error {
	if n.kind != '{' {
		return wrongType(n, "a mapping", at)
	}
	known := map[string]reflect.Type{}
	var names []string
	jsonFields(t, known, &names)
	for i, name := range n.names {
		field, ok := known[name]
		if !ok {
			err := UnknownKey(join(at, name), name)
			if near := nearest(name, names); near != "" && err.Code == UnknownField {
				err.Advice = fmt.Sprintf("Did you mean %q?", near)
			}
			return err
		}
		if err := conform(n.members[i], field, join(at, name)); err != nil {
			return err
		}
	}
	return nil
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

// conformLeaf lets encoding/json read the one value, so that a type's own
// error gets the path.
func conformLeaf(n jsonNode, t reflect.Type, at string) error {
	err := json.Unmarshal(n.raw, reflect.New(t).Interface())
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e.At(at)
	}
	switch t.Kind() {
	case reflect.String:
		return wrongType(n, "text", at)
	case reflect.Bool:
		return wrongType(n, "true or false", at)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return wrongType(n, "a whole number", at)
	case reflect.Float32, reflect.Float64:
		return wrongType(n, "a number", at)
	}
	return Errorf(InvalidField, "this cannot be read: %w.", err).At(at)
}

func wrongType(n jsonNode, want, at string) error {
	shown := string(n.raw)
	if len(shown) > 60 {
		shown = strings.ToValidUTF8(shown[:57], "") + "…"
	}
	err := Errorf(InvalidField, "%s is needed here, not %s.", want, shown).At(at)
	if want == "text" && (n.kind == '0' || n.kind == 't') {
		return err.Hint("Write it in quotes: \"%s\".", shown)
	}
	return err
}

// nearest returns the name that word is most likely a misspelling of, or "".
func nearest(word string, names []string) string {
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
