package custom

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
)

// rows says how to take a listing apart: by exactly one of its members. What
// precedes a listing (warnings, a banner) is passed over; a listing that breaks
// off, or that has anything between its rows, is an error, since to skip a
// row would make its job vanish.
type rows struct {
	Columns *columns     `json:"columns"`
	JSON    *jsonRows    `json:"json"`
	Pattern *patternRows `json:"pattern"`
}

// columns are lines of fields below a header.
type columns struct {
	Header    string   `json:"header"`    // the first column's title, at the beginning of a line
	Separator string   `json:"separator"` // between fields; left out: blanks
	End       string   `json:"end"`       // of every row and of the header; default a newline
	Fields    []string `json:"fields"`    // what each column is; "" is none of ours. With a separator the last may hold any text
}

// jsonRows are the elements of a list, or the members of an object.
type jsonRows struct {
	Path   string            `json:"path"`   // to them, such as data.jobs; left out: the document
	Fields map[string]string `json:"fields"` // paths from a row; @key is a member's name
}

// patternRows are pieces of text. Fields are looked for in a row: their first
// group, or all that matches.
type patternRows struct {
	Begin  pattern            `json:"begin"` // what precedes the first row
	Row    next               `json:"row"`
	End    next               `json:"end"` // what follows the last row
	Fields map[string]pattern `json:"fields"`
}

// read returns the fields of each row.
func (r rows) read(text []byte) ([]map[string]string, error) {
	switch {
	case r.Columns != nil:
		return r.Columns.read(string(text))
	case r.JSON != nil:
		return r.JSON.read(text)
	}
	return r.Pattern.read(text)
}

var (
	errHeader = errors.New("without its beginning")
	errCut    = errors.New("that breaks off")
	errRow    = errors.New("with something that is no job")
)

func (c columns) read(text string) ([]map[string]string, error) {
	end := c.End
	if end == "" {
		end = "\n"
	}
	at := 0
	if !strings.HasPrefix(text, c.Header) {
		if at = strings.Index(text, "\n"+c.Header) + 1; at == 0 {
			return nil, errHeader
		}
	}
	lines := strings.Split(text[at:], end)
	if lines[len(lines)-1] != "" {
		return nil, errCut
	}
	if len(c.split(lines[0])) != len(c.Fields) {
		return nil, errHeader
	}
	list := []map[string]string{}
	for _, line := range lines[1 : len(lines)-1] {
		texts := c.split(line)
		if len(texts) != len(c.Fields) || line == lines[0] {
			return nil, errRow
		}
		row := map[string]string{}
		for i, field := range c.Fields {
			if field != "" {
				row[field] = texts[i]
			}
		}
		list = append(list, row)
	}
	return list, nil
}

func (c columns) split(line string) []string {
	if c.Separator == "" {
		return strings.Fields(line)
	}
	return strings.SplitN(line, c.Separator, len(c.Fields))
}

func (j jsonRows) read(text []byte) ([]map[string]string, error) {
	at := 0
	for at < len(text) && text[at] != '{' && text[at] != '[' {
		next := bytes.IndexByte(text[at:], '\n')
		if next < 0 {
			return nil, errHeader
		}
		at += next + 1
	}
	dec := json.NewDecoder(bytes.NewReader(text[at:]))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return nil, errCut
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errRow
	}
	list := []map[string]string{}
	switch all := follow(doc, j.Path).(type) {
	case []any:
		for _, v := range all {
			list = append(list, j.row("", v))
		}
	case map[string]any:
		for key, v := range all {
			list = append(list, j.row(key, v))
		}
	default:
		return nil, errHeader
	}
	if slices.ContainsFunc(list, func(row map[string]string) bool { return row == nil }) {
		return nil, errRow
	}
	return list, nil
}

// row returns the fields of an element or member; nil of what is no job.
func (j jsonRows) row(key string, v any) map[string]string {
	members, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	fields := map[string]string{}
	for name, path := range j.Fields {
		if path == "@key" {
			fields[name] = key
		} else {
			fields[name] = scalar(follow(members, path))
		}
	}
	return fields
}

// follow goes down a path of members' names; nil where it ends.
func follow(v any, path string) any {
	if path == "" {
		return v
	}
	for name := range strings.SplitSeq(path, ".") {
		members, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = members[name]
	}
	return v
}

func scalar(v any) string {
	switch x := v.(type) {
	case string:
		return x
	case json.Number:
		return x.String()
	case bool:
		if x {
			return "true"
		}
		return "false"
	}
	return ""
}

func (p patternRows) read(text []byte) ([]map[string]string, error) {
	if p.Begin.Regexp != nil {
		at := p.Begin.FindIndex(text)
		if at == nil {
			return nil, errHeader
		}
		text = text[at[1]:]
	}
	list := []map[string]string{}
	for {
		text = bytes.TrimLeft(text, " \t\r\n")
		if p.End.Regexp != nil {
			if at := p.End.FindIndex(text); at != nil {
				if len(bytes.TrimSpace(text[at[1]:])) > 0 {
					return nil, errRow
				}
				return list, nil
			}
		}
		if len(text) == 0 {
			if p.End.Regexp != nil {
				return nil, errCut
			}
			return list, nil
		}
		at := p.Row.FindIndex(text)
		if at == nil || at[1] == 0 {
			return nil, errRow
		}
		row := map[string]string{}
		for field, re := range p.Fields {
			if m := re.FindSubmatch(text[:at[1]]); m != nil {
				row[field] = string(m[min(1, len(m)-1)])
			}
		}
		list = append(list, row)
		text = text[at[1]:]
	}
}
