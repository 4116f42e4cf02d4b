package strictyaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Format returns a JSON object as a YAML file, with the names and the order
// of the JSON. [Parse] reads the same JSON values back from it: text that any
// reader of YAML could take for something else is quoted.
func Format(object []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	n, err := readNode(dec)
	if err != nil {
		return nil, fmt.Errorf("formatting YAML: %w", err)
	}
	if n.kind != '{' {
		return nil, errors.New("formatting YAML: not an object")
	}
	var out bytes.Buffer
	n.members(&out, 0)
	return out.Bytes(), nil
}

// node is a JSON value that remembers the order of its members.
type node struct {
	kind   json.Delim // '{', '[' or 0 for a scalar
	scalar any
	names  []string
	items  []node
}

func readNode(dec *json.Decoder) (node, error) {
	tk, err := dec.Token()
	if err != nil {
		return node{}, err
	}
	delim, ok := tk.(json.Delim)
	if !ok {
		return node{scalar: tk}, nil
	}
	n := node{kind: delim}
	for dec.More() {
		if delim == '{' {
			name, err := dec.Token()
			if err != nil {
				return n, err
			}
			n.names = append(n.names, fmt.Sprint(name))
		}
		item, err := readNode(dec)
		if err != nil {
			return n, err
		}
		n.items = append(n.items, item)
	}
	if _, err := dec.Token(); err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	return n, nil
}

// members writes an object's members, one a line, the first where out stands.
func (n node) members(out *bytes.Buffer, indent int) {
	for i, item := range n.items {
		if i > 0 {
			out.WriteString(strings.Repeat(" ", indent))
		}
		out.WriteString(scalarText(n.names[i]) + ":")
		item.value(out, indent)
	}
}

// value writes what stands behind a name's colon, up to the line's end.
func (n node) value(out *bytes.Buffer, indent int) {
	switch s, isText := n.scalar.(string); {
	case n.kind == 0 && isText && isBlock(s):
		out.WriteString(" " + block(s, indent+2) + "\n")
	case n.kind == 0:
		out.WriteString(" " + scalarText(n.scalar) + "\n")
	case len(n.items) == 0 || n.flat():
		out.WriteString(" " + n.flow() + "\n")
	case n.kind == '{':
		out.WriteString("\n" + strings.Repeat(" ", indent+2))
		n.members(out, indent+2)
	default:
		out.WriteByte('\n')
		for _, item := range n.items {
			out.WriteString(strings.Repeat(" ", indent+2) + "-")
			switch {
			case item.kind == '{' && len(item.items) > 0:
				out.WriteByte(' ')
				item.members(out, indent+4)
			default:
				item.value(out, indent+2)
			}
		}
	}
}

// maxFlow is the length up to which lists of scalars stand on one line.
const maxFlow = 80

// flat reports whether a list is short and holds nothing but scalars.
func (n node) flat() bool {
	if n.kind != '[' {
		return false
	}
	for _, item := range n.items {
		if item.kind != 0 {
			return false
		}
	}
	return len(n.flow()) <= maxFlow
}

// flow writes an empty value, or a list of scalars, in brackets.
func (n node) flow() string {
	if n.kind == '{' {
		return "{}"
	}
	var words []string
	for _, item := range n.items {
		words = append(words, scalarText(item.scalar))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

var (
	plainForm = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./+@-]*( [A-Za-z0-9_./+@-]+)*$|^([0-9]{1,9}[dhms]){1,4}$|^[0-9]{1,18}[KMGT]iB$`)
	// readAs are words that some reader takes for something else.
	readAs = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)
)

func scalarText(v any) string {
	if s, ok := v.(string); ok && plainForm.MatchString(s) && !readAs.MatchString(s) {
		return s
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // scalars cannot fail
	var out strings.Builder
	for _, r := range strings.TrimSuffix(text.String(), "\n") {
		if unprintable(r) {
			fmt.Fprintf(&out, `\u%04x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// unprintable reports whether YAML wants r escaped, or a terminal would obey
// or hide it. None is above 0xffff.
func unprintable(r rune) bool {
	return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e ||
		r >= 0x2066 && r <= 0x2069 || r == 0xfeff || r >= 0xfffd && r <= 0xffff
}

// isBlock reports whether s is lines that a literal block gives back byte by
// byte: printable, the first not indented, no blank ones or
// spaces at the end.
func isBlock(s string) bool {
	body, ended := strings.CutSuffix(s, "\n")
	if !ended && !strings.Contains(s, "\n") || body == "" || strings.HasSuffix(body, "\n") || strings.ContainsAny(body[:1], " \t\n") {
		return false
	}
	for line := range strings.Lines(body + "\n") {
		if strings.TrimRight(line, " \t\n") != strings.TrimSuffix(line, "\n") {
			return false // spaces at a line's end are easily lost
		}
	}
	return !strings.ContainsFunc(s, unprintable)
}

func block(s string, indent int) string {
	body, ended := strings.CutSuffix(s, "\n")
	head := "|-"
	if ended {
		head = "|"
	}
	lines := strings.Split(body, "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = strings.Repeat(" ", indent) + line
		}
	}
	return head + "\n" + strings.Join(lines, "\n")
}
