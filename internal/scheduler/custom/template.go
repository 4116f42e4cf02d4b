package custom

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// command is an argument vector. Each element is an argument, or a mapping of
// conditions to arguments that are there only if the condition holds:
//
//   - --job-name={tag}
//   - memory: ["--mem={memory:MiB}M"]
//   - not requeue: [--no-requeue]
//
// An argument {ids} or {tags} alone becomes one for each.
type command []argument

// name is the program that a command names; "" where that depends on the job.
func (c command) name() string {
	if len(c) > 0 && len(c[0]) == 1 && c[0][0].field == "" && len(c[0][0].args) == 1 && len(c[0][0].args[0]) == 1 {
		return c[0][0].args[0][0].text
	}
	return ""
}

type argument []group

type group struct {
	field string // "": always
	not   bool
	args  []template
}

// UnmarshalJSON reads text or a mapping.
func (a *argument) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		var t template
		if err := t.UnmarshalJSON(b); err != nil {
			return err
		}
		*a = argument{{args: []template{t}}}
		return nil
	}
	var m map[string][]template
	if err := json.Unmarshal(b, &m); err != nil {
		if e, ok := errors.AsType[*hpcsera.Error](err); ok {
			return e
		}
		return hpcsera.Errorf(hpcsera.InvalidField, "an argument is text, or a mapping of a field to a list of arguments.")
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		field, not := strings.CutPrefix(key, "not ")
		if field == "" {
			return hpcsera.Errorf(hpcsera.InvalidField, "a condition is the name of a field, or not and the name.")
		}
		*a = append(*a, group{field: field, not: not, args: m[key]})
	}
	return nil
}

// template is text with placeholders: {name} or {name:format}; {{ and }} are
// braces.
type template []piece

type piece struct{ text, name, format string }

var placeholder = regexp.MustCompile(`\{\{|\}\}|\{([a-z_]+)(?::([^{}]*))?\}|[{}]`)

// UnmarshalJSON reads the text.
func (t *template) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "an argument is text; put a number into quotes.")
	}
	for text != "" {
		at := placeholder.FindStringSubmatchIndex(text)
		if at == nil {
			*t = append(*t, piece{text: text})
			break
		}
		if at[0] > 0 {
			*t = append(*t, piece{text: text[:at[0]]})
		}
		switch found := text[at[0]:at[1]]; {
		case at[2] >= 0:
			p := piece{name: text[at[2]:at[3]]}
			if at[4] >= 0 {
				p.format = text[at[4]:at[5]]
			}
			*t = append(*t, p)
		case len(found) == 2:
			*t = append(*t, piece{text: found[:1]})
		default:
			return hpcsera.Errorf(hpcsera.InvalidField, "the brace %s belongs to no placeholder.", found).Hint("Write {{ or }} for a brace, and {name} or {name:format} for a value.")
		}
		text = text[at[1]:]
	}
	return nil
}

// values are what placeholders stand for: string, int, bool, []string,
// hpcsera.Bytes or hpcsera.Duration.
type values map[string]any

func (v values) set(name string) bool {
	switch x := v[name].(type) {
	case nil:
		return false
	case string:
		return x != ""
	case int:
		return x > 0
	case bool:
		return x
	case hpcsera.Bytes:
		return x > 0
	case hpcsera.Duration:
		return x > 0
	case []string:
		return len(x) > 0
	}
	return false
}

// build makes the arguments. Values were checked before.
func (c command) build(v values) ([]string, *scheduler.Refused) {
	var argv []string
	for _, a := range c {
		for _, g := range a {
			if g.field != "" && v.set(g.field) == g.not {
				continue
			}
			for _, t := range g.args {
				if list, ok := t.several(v); ok {
					argv = append(argv, list...)
					continue
				}
				argv = append(argv, t.text(v))
			}
		}
	}
	if slices.ContainsFunc(argv, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return nil, &scheduler.Refused{Message: "an argument of a command would hold a NUL"}
	}
	return argv, nil
}

// several returns a list that stands for arguments of its own.
func (t template) several(v values) ([]string, bool) {
	if len(t) != 1 || t[0].name == "" || t[0].format != "" {
		return nil, false
	}
	list, ok := v[t[0].name].([]string)
	return list, ok
}

func (t template) text(v values) string {
	var b strings.Builder
	for _, p := range t {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		switch x := v[p.name].(type) {
		case string:
			b.WriteString(x)
		case int:
			b.WriteString(strconv.Itoa(x))
		case []string:
			b.WriteString(strings.Join(x, p.format))
		case hpcsera.Bytes:
			unit := units[p.format]
			b.WriteString(strconv.FormatInt((int64(x)+unit-1)/unit, 10)) // never less than asked for
		case hpcsera.Duration:
			b.WriteString(length(time.Duration(x), p.format))
		}
	}
	return b.String()
}

var units = map[string]int64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

// lengths are the formats of a length of time.
var lengths = []string{"s", "min", "hms"}

func length(d time.Duration, format string) string {
	s := int64((d + time.Second - 1) / time.Second)
	switch format {
	case "min":
		return strconv.FormatInt((s+59)/60, 10)
	case "hms":
		return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return strconv.FormatInt(s, 10)
}
