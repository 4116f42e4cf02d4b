// Package strictyaml reads the YAML files that people write for us (job.yaml,
// the agent's trust file) and refuses what could be read in two ways: unknown
// and repeated keys, wrong types, several documents, anchors, tags, merge
// keys. It turns the text into JSON and leaves the rules to hpcsera.Decode, so
// that a file and a request are judged by the same code; what it adds is the
// line in which an offence stands.
//
// Scalars are those of YAML 1.2's core schema: yes and 12:30 are text. A
// number with a leading zero is refused, because readers disagree about it.
package strictyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

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
	parsed, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, syntaxError(file, err)
	}
	var body ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.DirectiveType {
			continue
		}
		if body != nil {
			return nil, d.offence(doc.Body, "", "a second document begins here.").Hint("One file holds one.")
		}
		body = doc.Body
	}
	if body == nil {
		d.JSON = []byte("{}")
		return d, nil
	}
	if _, ok := body.(ast.MapNode); !ok {
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

func (d *Document) offence(n ast.Node, path, format string, args ...any) *hpcsera.Error {
	at := fmt.Sprintf("%s:%d %s", d.File, n.GetToken().Position.Line, path)
	return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(strings.TrimSpace(at))
}

func syntaxError(file string, err error) error {
	var syntax *yaml.SyntaxError
	if !errors.As(err, &syntax) {
		return hpcsera.Errorf(hpcsera.MalformedRequest, "this is not YAML: %w.", err).At(file)
	}
	at := fmt.Sprintf("%s:%d", file, syntax.GetToken().Position.Line)
	return hpcsera.Errorf(hpcsera.MalformedRequest, "this is not YAML: %s.", syntax.GetMessage()).At(at)
}

// write appends n as JSON.
func (d *Document) write(out *bytes.Buffer, n ast.Node, path string) error {
	switch n := n.(type) {
	case *ast.MappingNode:
		return d.writeMapping(out, n.Values, path)
	case *ast.MappingValueNode:
		return d.writeMapping(out, []*ast.MappingValueNode{n}, path)
	case *ast.SequenceNode:
		out.WriteByte('[')
		for i, value := range n.Values {
			if i > 0 {
				out.WriteByte(',')
			}
			item := fmt.Sprintf("%s[%d]", path, i)
			d.lines[item] = value.GetToken().Position.Line
			if err := d.write(out, value, item); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	case *ast.LiteralNode:
		writeText(out, n.Value.Value)
		return nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		return d.offence(n, path, "anchors, aliases and tags are not read.").Hint("Write the value itself; quote text that begins with &, * or !.")
	case ast.ScalarNode:
		return d.writeScalar(out, n, path)
	}
	return d.offence(n, path, "this kind of YAML is not read.")
}

func (d *Document) writeMapping(out *bytes.Buffer, pairs []*ast.MappingValueNode, path string) error {
	seen := map[string]bool{}
	out.WriteByte('{')
	for i, pair := range pairs {
		key, ok := pair.Key.(ast.ScalarNode)
		if !ok || pair.Key.IsMergeKey() {
			return d.offence(pair.Key, path, "only plain keys are read, no merge keys and no keys of several parts.")
		}
		name := key.GetToken().Value
		at := name
		if path != "" {
			at = path + "." + name
		}
		if seen[name] {
			return d.offence(pair.Key, at, "%q is given twice.", name)
		}
		seen[name] = true
		d.lines[at] = pair.Key.GetToken().Position.Line
		if i > 0 {
			out.WriteByte(',')
		}
		writeText(out, name)
		out.WriteByte(':')
		if err := d.write(out, pair.Value, at); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
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

func (d *Document) writeScalar(out *bytes.Buffer, n ast.ScalarNode, path string) error {
	tk := n.GetToken()
	s := tk.Value
	plain := tk.Type != token.SingleQuoteType && tk.Type != token.DoubleQuoteType
	switch {
	case !plain:
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
