package consent

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hpcsera/hpcsera"
)

// part is a piece of code as a person reads it: a script, a file, or the rest
// of the manifest, held against the same piece of the version before.
type part struct {
	Title          string
	Lines          []line
	Note           string // why there are no lines, or what to know of them
	Added, Removed int
}

// line is one line, and whether it is new, gone or as before.
type line struct {
	Mark string // "ins", "del" or ""
	Text string
}

// text is a piece before it is compared.
type text struct {
	title string
	body  string
	note  string
}

// difference returns the parts of code m, compared with old where there is a
// version before. The code's own parts come first, those that are gone last.
func difference(m hpcsera.Manifest, contents map[string][]byte, old *hpcsera.Manifest, oldContents map[string][]byte) []part {
	now := texts(m, contents)
	before := map[string]text{}
	if old != nil {
		for _, t := range texts(*old, oldContents) {
			before[t.title] = t
		}
	}
	parts := []part{}
	for _, t := range now {
		b, was := before[t.title]
		delete(before, t.title)
		switch {
		case old == nil:
			parts = append(parts, compare(t, t))
		case was:
			parts = append(parts, compare(b, t))
		default:
			p := compare(text{}, t)
			p.Title += " (new)"
			parts = append(parts, p)
		}
	}
	if old != nil {
		for _, t := range texts(*old, oldContents) {
			if _, gone := before[t.title]; gone {
				p := compare(t, text{title: t.title})
				p.Title += " (gone)"
				parts = append(parts, p)
			}
		}
	}
	return parts
}

// texts takes code apart. Together the parts say all that the digest covers.
func texts(m hpcsera.Manifest, contents map[string][]byte) []text {
	var all []text
	for _, step := range m.Plan() {
		if step.Script != "" {
			all = append(all, text{title: "Script of step " + step.Name, body: step.Script})
		}
	}
	rest := m
	rest.Script, rest.Files, rest.Parameters = "", nil, nil
	rest.Steps = slices.Clone(m.Steps)
	for i := range rest.Steps {
		if rest.Steps[i].Script != "" {
			rest.Steps[i].Script = "(above)"
		}
	}
	if m.Script != "" {
		rest.Script = "(above)"
	}
	all = append(all, text{title: "Everything else", body: indented(rest)})
	if len(m.Parameters) > 0 {
		all = append(all, text{title: "Parameters that jobs may give", body: indented(m.Parameters)})
	}
	if len(m.Files) > 0 {
		all = append(all, text{title: "List of files", body: listed(m.Files)})
	}
	for _, f := range m.Files {
		t := text{title: "File " + f.Path}
		body, there := contents[f.Path]
		switch {
		case !there:
			t.body = fmt.Sprintf("%d bytes, SHA-256 %s\n", f.Size, f.SHA256)
			t.note = "The server did not send what is in this file. You sign its digest without having seen it here."
		case !readable(body):
			t.body = fmt.Sprintf("%d bytes, SHA-256 %s\n", f.Size, f.SHA256)
			t.note = "This is not text, so it is not shown. You sign its digest."
		default:
			t.body = string(body)
		}
		all = append(all, t)
	}
	return all
}

// listed says of files what their bytes do not: names, modes, and that they
// are there at all.
func listed(files []hpcsera.File) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%s %s %d bytes, SHA-256 %s\n", f.Mode, f.Path, f.Size, f.SHA256)
	}
	return b.String()
}

// readable reports whether bytes are text that a page can show as it is.
func readable(b []byte) bool { return utf8.Valid(b) && !slices.Contains(b, 0) }

// indented writes JSON for people. It cannot fail: what it is given was read
// from JSON.
func indented(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
	return b.String()
}

// shownWidth is where lines are broken: what stands far to the right of a line
// is hidden as well as if it were not there.
const shownWidth = 160

// compare marks the lines of b against a.
func compare(a, b text) part {
	p := part{Title: b.title, Note: b.note}
	for _, l := range lcs(split(a.body), split(b.body)) {
		switch l.Mark {
		case "ins":
			p.Added++
		case "del":
			p.Removed++
		}
		p.Lines = append(p.Lines, wrapped(l)...)
	}
	return p
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(s, "\n"), "\n")
	if !strings.HasSuffix(s, "\n") {
		lines[len(lines)-1] += " (no line end)"
	}
	return lines
}

func wrapped(l line) []line {
	runes := []rune(l.Text)
	if len(runes) <= shownWidth {
		return []line{l}
	}
	var rows []line
	for i := 0; i < len(runes); i += shownWidth {
		row := string(runes[i:min(len(runes), i+shownWidth)])
		if i > 0 {
			row = "⤷ " + row
		}
		rows = append(rows, line{l.Mark, row})
	}
	return rows
}

// maxTable bounds the memory of a comparison. Beyond it two texts are shown as
// all gone and all new, which is true, if not short.
const maxTable = 4_000_000

// lcs compares two lists of lines by their longest common subsequence.
func lcs(a, b []string) []line {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out []line
	for _, s := range a[:head] {
		out = append(out, line{"", s})
	}
	out = append(out, middle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, s := range a[len(a)-tail:] {
		out = append(out, line{"", s})
	}
	return out
}

// middle compares what is left between a common head and tail.
func middle(a, b []string) []line {
	var out []line
	i, j := 0, 0
	if len(a)*len(b) <= maxTable {
		// long[i][j] is the length of what a[i:] and b[j:] have in common.
		long := make([][]int32, len(a)+1)
		for i := range long {
			long[i] = make([]int32, len(b)+1)
		}
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					long[i][j] = long[i+1][j+1] + 1
				} else {
					long[i][j] = max(long[i+1][j], long[i][j+1])
				}
			}
		}
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				out = append(out, line{"", a[i]})
				i, j = i+1, j+1
			case long[i+1][j] >= long[i][j+1]:
				out = append(out, line{"del", a[i]})
				i++
			default:
				out = append(out, line{"ins", b[j]})
				j++
			}
		}
	}
	for _, s := range a[i:] {
		out = append(out, line{"del", s})
	}
	for _, s := range b[j:] {
		out = append(out, line{"ins", s})
	}
	return out
}
