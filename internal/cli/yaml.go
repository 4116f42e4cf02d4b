package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// yamlText returns v as YAML with the names and the order of its JSON. It is
// written here because every text that could be read as something else, or
// that holds a dangerous character, must be quoted with that character
// escaped; JSON's quoted strings are YAML's.
func yamlText(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	n, err := readNode(dec)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	n.write(&b, 0)
	return bytes.TrimLeft(b.Bytes(), "\n "), nil
}

// yamlNode is a JSON value that remembers the order of its members.
type yamlNode struct {
	kind   json.Delim // '{', '[' or 0 for a scalar
	scalar any
	keys   []string
	items  []yamlNode
}

func readNode(dec *json.Decoder) (yamlNode, error) {
	token, err := dec.Token()
	if err != nil {
		return yamlNode{}, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return yamlNode{scalar: token}, nil
	}
	n := yamlNode{kind: delim}
	for dec.More() {
		if delim == '{' {
			key, err := dec.Token()
			if err != nil {
				return n, err
			}
			name, _ := key.(string)
			n.keys = append(n.keys, name)
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

// write appends the node as it stands behind a key or a dash, with its line
// end.
func (n yamlNode) write(b *bytes.Buffer, depth int) {
	pad := strings.Repeat("  ", depth)
	switch {
	case n.kind == 0:
		b.WriteString(" " + scalarText(n.scalar, depth) + "\n")
	case len(n.items) == 0 && n.kind == '{':
		b.WriteString(" {}\n")
	case len(n.items) == 0:
		b.WriteString(" []\n")
	case n.kind == '{':
		b.WriteByte('\n')
		for i, item := range n.items {
			b.WriteString(pad + scalarText(n.keys[i], -1) + ":")
			item.write(b, depth+1)
		}
	default:
		b.WriteByte('\n')
		for _, item := range n.items {
			b.WriteString(pad + "-")
			if item.kind == '{' && len(item.items) > 0 {
				// The first member stands beside the dash.
				var inner bytes.Buffer
				item.write(&inner, depth+1)
				b.WriteString(" " + strings.TrimLeft(inner.String(), "\n "))
				continue
			}
			item.write(b, depth+1)
		}
	}
}

var (
	plainText  = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./:@+ -]*$`)
	yamlsWords = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null|nan|inf)$`)
)

// scalarText returns a scalar; a depth below 0 forbids text of several lines.
func scalarText(v any, depth int) string {
	s, ok := v.(string)
	if !ok {
		if v == nil {
			return "null"
		}
		return fmt.Sprint(v)
	}
	plain := plainText.MatchString(s) && !yamlsWords.MatchString(s) && !strings.HasSuffix(s, " ") &&
		!strings.Contains(s, ": ") && !strings.HasSuffix(s, ":")
	switch {
	case plain:
		return s
	case depth >= 0 && strings.Contains(s, "\n") && blockable(s):
		pad := strings.Repeat("  ", depth)
		mark := "|-"
		if strings.HasSuffix(s, "\n") {
			mark = "|"
		}
		lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
		for i, line := range lines {
			if line != "" {
				lines[i] = pad + line
			}
		}
		return mark + "\n" + strings.Join(lines, "\n")
	}
	quoted, err := jsonText(s)
	if err != nil {
		return `""`
	}
	return string(quoted)
}

// blockable reports whether text of several lines can stand as a literal
// block and be read back byte by byte.
func blockable(s string) bool {
	first, _, _ := strings.Cut(s, "\n")
	return first != "" && first[0] != ' ' && first[0] != '\t' && !strings.HasSuffix(s, "\n\n") &&
		!strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && r != '\t' && dangerous(r) || r == '\ufffd' })
}
