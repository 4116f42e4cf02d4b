// Package strictyaml reads the YAML files that people write for us (job.yaml,
// the agent's trust file) and refuses what could be read in two ways: unknown
// and repeated keys, wrong types, several documents, anchors, tags, merge
// keys. It turns the text into JSON and leaves the rules to hpcsera.Decode, so
// that a file and a request are judged by the same code; what it adds is the
// line in which an offence stands.
//
// Scalars are those of YAML 1.2's core schema: yes and 12:30 are text. A
// number with a leading zero is refused, because readers disagree about it.
//
// The syntax comes from go.yaml.in/yaml, whose nodes tell how a scalar was
// written; what it means is decided here. (goccy/go-yaml drops tabs inside
// plain text and takes an unindented line for the value above it, which would
// sign something else than its author reads.)
package strictyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/hpcsera/hpcsera"
)

// maxSize bounds a file; none that a person writes comes near it.
const maxSize = 8 << 20

// Document is a YAML file as JSON. It is immutable.
type Document struct {
	File string // as the caller named it, for messages
	JSON []byte // one object

	lines map[string]int // by field path
}

// Parse reads the one document in text, which must be a mapping; nothing at
// all is an empty one. file names it in errors, which are *hpcsera.Error with
// the field "FILE:LINE" and, where there is one, the path of the key.
func Parse(file string, text []byte) (*Document, error) {
	d := &Document{File: file, lines: map[string]int{}}
	switch {
	case len(text) > maxSize:
		return nil, hpcsera.Errorf(hpcsera.MalformedRequest, "%d bytes are too many; %d can be read.", len(text), maxSize).At(file)
	case !utf8.Valid(text):
		return nil, hpcsera.Errorf(hpcsera.MalformedRequest, "the file is not UTF-8.").At(file)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		d.JSON = []byte("{}")
		return d, nil
	case err != nil:
		return nil, syntaxError(file, err)
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, d.offence(&more, "", "a second document begins here.").Hint("One file holds one.")
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(file, err)
	}
	body := doc.Content[0]
	if body.Kind == yaml.ScalarNode && body.Value == "" && body.Style == 0 {
		d.JSON = []byte("{}") // a document mark and nothing below
		return d, nil
	}
	if body.Kind != yaml.MappingNode {
		return nil, d.offence(body, "", "the file is not a mapping of keys to values.").Hint("Write key: value.")
	}
	var out bytes.Buffer
	if err := d.write(&out, body, ""); err != nil {
		return nil, err
	}
	d.JSON = out.Bytes()
	return d, nil
}

// Decode reads the document into v by the rules of hpcsera.Decode.
func (d *Document) Decode(v any) error { return d.Locate(hpcsera.Decode(d.JSON, v)) }

// Line returns the line of the field at path, or of the nearest one around it
// that stands in the file; 0 where none does.
func (d *Document) Line(path string) int {
	for path != "" {
		if n, ok := d.lines[path]; ok {
			return n
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 0
}

// Locate puts file and line before the field of an *hpcsera.Error, as in
// "job.yaml:4 resources.node_count"; other errors it returns as they are. It
// serves for a server's refusals as well.
func (d *Document) Locate(err error) error {
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Field == "" && e.Code != hpcsera.MalformedRequest {
		return err
	}
	located := *e
	where := d.File
	if n := d.Line(e.Field); n > 0 {
		where += ":" + strconv.Itoa(n)
	}
	located.Field = strings.TrimSpace(where + " " + e.Field)
	return &located
}

func (d *Document) offence(n *yaml.Node, path, format string, args ...any) *hpcsera.Error {
	at := fmt.Sprintf("%s:%d %s", d.File, n.Line, path)
	return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(strings.TrimSpace(at))
}

var errorLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

func syntaxError(file string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	switch m := errorLine.FindStringSubmatch(err.Error()); {
	case m != nil:
		file, text = file+":"+m[1], m[2]
	case strings.HasPrefix(text, "control characters"), strings.HasPrefix(text, "unknown anchor"):
	default:
		file += ":1" // the parser names every line but the first
	}
	return hpcsera.Errorf(hpcsera.MalformedRequest, "this is not YAML: %s.", text).At(file)
}

// write appends n as JSON.
func (d *Document) write(out *bytes.Buffer, n *yaml.Node, path string) error {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "", n.Style&yaml.TaggedStyle != 0:
		return d.offence(n, path, "anchors, aliases and tags are not read.").Hint("Write the value itself; quote text that begins with &, * or !.")
	case n.Kind == yaml.MappingNode:
		return d.writeMapping(out, n.Content, path)
	case n.Kind == yaml.SequenceNode:
		out.WriteByte('[')
		for i, value := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			item := fmt.Sprintf("%s[%d]", path, i)
			d.lines[item] = value.Line
			if err := d.write(out, value, item); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	}
	return d.writeScalar(out, n, path)
}

// writeMapping appends an object; pairs are key, value, key, value.
func (d *Document) writeMapping(out *bytes.Buffer, pairs []*yaml.Node, path string) error {
	seen := map[string]bool{}
	out.WriteByte('{')
	for i := 0; i+1 < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.Style&(yaml.TaggedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 ||
			key.Value == "<<" && isPlain(key) {
			return d.offence(key, path, "only plain keys are read, no merge keys and no keys of several parts.")
		}
		at := key.Value
		if path != "" {
			at = path + "." + key.Value
		}
		if seen[key.Value] {
			return d.offence(key, at, "%q is given twice.", key.Value)
		}
		seen[key.Value] = true
		d.lines[at] = key.Line
		if i > 0 {
			out.WriteByte(',')
		}
		writeText(out, key.Value)
		out.WriteByte(':')
		if err := d.write(out, value, at); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

func isPlain(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
}

// The plain scalars of YAML 1.2's core schema that are not text.
var (
	nullForm  = regexp.MustCompile(`^(null|Null|NULL|~|)$`)
	trueForm  = regexp.MustCompile(`^(true|True|TRUE)$`)
	falseForm = regexp.MustCompile(`^(false|False|FALSE)$`)
	intForm   = regexp.MustCompile(`^[-+]?[0-9]+$`)
	baseForm  = regexp.MustCompile(`^0(o[0-7]+|x[0-9a-fA-F]+)$`)
	floatForm = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	noNumber  = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
	zeroFirst = regexp.MustCompile(`^[-+]?0[0-9]`)
)

func (d *Document) writeScalar(out *bytes.Buffer, n *yaml.Node, path string) error {
	s := n.Value
	switch {
	case !isPlain(n):
		writeText(out, s)
	case nullForm.MatchString(s):
		out.WriteString("null")
	case trueForm.MatchString(s):
		out.WriteString("true")
	case falseForm.MatchString(s):
		out.WriteString("false")
	case noNumber.MatchString(s):
		return d.offence(n, path, "%s is not a number that can be used.", s)
	case baseForm.MatchString(s):
		v, err := strconv.ParseInt(s, 0, 64)
		if err != nil {
			return d.offence(n, path, "%s is too large.", s)
		}
		out.WriteString(strconv.FormatInt(v, 10))
	case zeroFirst.MatchString(s) && floatForm.MatchString(s):
		return d.offence(n, path, "readers of YAML disagree about %s.", s).Hint("Write it without leading zeros, or in quotes if it is text.")
	case intForm.MatchString(s) || floatForm.MatchString(s):
		out.WriteString(jsonNumber(s))
	default:
		writeText(out, s)
	}
	return nil
}

// jsonNumber rewrites the numbers that YAML has and JSON has not: +1, .5, 1.
func jsonNumber(s string) string {
	s = strings.TrimPrefix(s, "+")
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	if strings.HasPrefix(s, ".") {
		s = "0" + s
	}
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i:]
	}
	return sign + strings.TrimSuffix(mantissa, ".") + exponent
}

func writeText(out *bytes.Buffer, s string) {
	text, _ := json.Marshal(s) // strings cannot fail
	out.Write(text)
}
