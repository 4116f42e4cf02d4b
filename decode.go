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

// The bounds of what Decode reads, far above what anything of ours needs. A
// few bytes of JSON can become hundreds in memory, so a limit on the text alone
// would let anybody who may send one fill the memory.
const (
	maxDepth  = 128       // of nesting; nothing is deeper than a parameter's schema
	maxList   = 100_000   // elements of one list; the longest are files and artifacts
	maxValues = 1_000_000 // in one text; ten thousand jobs may have a hundred each
)

// Decode reads one JSON value into v, which must be a pointer, and refuses
// whatever two readers could understand differently or one of them could
// drop: unknown members, members named twice at any depth, names in another
// letter case, null where nothing may be missing, wrong types, text that is
// not UTF-8, lone surrogates, and anything after the value; and lists, nests
// and texts beyond all use. The error is an *Error whose field is the path of
// the offence, such as steps[1].name.
//
// Everything that is signed, verified or submitted is read with it. Inside
// json.RawMessage and interfaces any member is known, but none twice.
func Decode(data []byte, v any) error {
	if !utf8.Valid(data) {
		return Errorf(MalformedRequest, "the text is not UTF-8.").Hint("Send JSON in UTF-8.")
	}
	if !json.Valid(data) {
		return notJSON(data)
	}
	r := jsonReader{data: data}
	if err := r.value(reflect.TypeOf(v).Elem()); err != nil {
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

func notJSON(data []byte) error {
	return Errorf(MalformedRequest, "this is not JSON: %w.", json.Unmarshal(data, new(json.RawMessage))).
		Hint("Send one whole JSON value; jq finds the place.")
}

// jsonReader walks data that json.Valid has accepted, so that it needs no
// syntax checks of its own, and holds it against the type that it is for.
type jsonReader struct {
	data   []byte
	pos    int
	values int
	path   []place // to the present value; written out only for an error
}

// place is a member's name, or an element's index.
type place struct {
	name  string
	index int
}

// at returns the path as errors name it. Names are the sender's, and as long
// as he likes; what is shown is not.
func (r *jsonReader) at() string {
	var b strings.Builder
	for _, p := range r.path {
		switch {
		case b.Len() > 500:
			return b.String() + "…"
		case p.index >= 0:
			fmt.Fprintf(&b, "[%d]", p.index)
		case b.Len() > 0:
			b.WriteString("." + Brief(p.name, 80))
		default:
			b.WriteString(Brief(p.name, 80))
		}
	}
	return b.String()
}

// Brief cuts others' text for a message, at a character's start.
func Brief(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

func (r *jsonReader) space() {
	for r.pos < len(r.data) && strings.IndexByte(" \t\r\n:,", r.data[r.pos]) >= 0 {
		r.pos++
	}
}

// value reads a value that is to become a t; nil takes everything.
func (r *jsonReader) value(t reflect.Type) error {
	if r.values++; r.values > maxValues {
		return Errorf(InvalidField, "the text holds more than %d values.", maxValues).Hint("Send it in several parts.")
	}
	if len(r.path) > maxDepth {
		return Errorf(MalformedRequest, "nested more than %d levels deep.", maxDepth).At(r.at())
	}
	r.space()
	start, kind := r.pos, r.data[r.pos]
	t, want := expect(t, kind)
	var err error
	switch {
	case kind == '{' && (want == object || want == mapping):
		err = r.object(t, want)
	case kind == '{':
		err = r.object(nil, anything)
	case kind == '[' && want == list:
		err = r.list(t.Elem())
	case kind == '[':
		err = r.list(nil)
	case kind == '"':
		err = r.text()
	default:
		for r.pos < len(r.data) && strings.IndexByte(" \t\r\n,]}", r.data[r.pos]) < 0 {
			r.pos++
		}
	}
	if err != nil {
		return err
	}
	return r.conform(r.data[start:r.pos], t, want)
}

// object reads an object into a struct or a map, or into nothing.
func (r *jsonReader) object(t reflect.Type, want shape) error {
	var seen map[string]bool
	depth := len(r.path)
	defer func() { r.path = r.path[:depth] }()
	r.pos++
	for r.space(); r.data[r.pos] != '}'; r.space() {
		name, err := r.name()
		if err != nil {
			return err
		}
		r.path = append(r.path[:depth], place{name, -1})
		if seen[name] {
			return Errorf(InvalidField, "%q is given twice.", Brief(name, 80)).At(r.at())
		}
		if seen == nil {
			seen = map[string]bool{}
		}
		seen[name] = true
		var member reflect.Type
		switch want {
		case object:
			if member, err = r.member(t, name); err != nil {
				return err
			}
		case mapping:
			member = t.Elem()
		}
		if err := r.value(member); err != nil {
			return err
		}
	}
	r.pos++
	return nil
}

func (r *jsonReader) list(element reflect.Type) error {
	depth := len(r.path)
	r.path = append(r.path, place{})
	r.pos++
	for i := 0; ; i++ {
		r.space()
		if r.data[r.pos] == ']' {
			break
		}
		if i == maxList {
			r.path = r.path[:depth]
			return Errorf(InvalidField, "the list has more than %d elements.", maxList).At(r.at())
		}
		r.path[depth] = place{index: i}
		if err := r.value(element); err != nil {
			return err
		}
	}
	r.path = r.path[:depth]
	r.pos++
	return nil
}

// name reads a member's name.
func (r *jsonReader) name() (string, error) {
	start := r.pos
	if err := r.text(); err != nil {
		return "", err
	}
	var s string
	if err := json.Unmarshal(r.data[start:r.pos], &s); err != nil {
		return "", Errorf(MalformedRequest, "this is not JSON: %w.", err).At(r.at())
	}
	return s, nil
}

// text reads a string. Escapes that are half a surrogate pair are refused:
// readers replace them differently.
func (r *jsonReader) text() error {
	start := r.pos
	for r.pos++; r.data[r.pos] != '"'; r.pos++ {
		if r.data[r.pos] == '\\' {
			r.pos++
		}
	}
	r.pos++
	if loneSurrogate(r.data[start:r.pos]) {
		return Errorf(MalformedRequest, "the text holds half a surrogate pair.").At(r.at())
	}
	return nil
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
