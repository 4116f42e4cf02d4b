package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean returns s as it may be shown in one line: every character that could
// move the cursor, colour the screen, reorder or hide text is escaped, as
// \n, \x1b or \u202e. Names, messages and labels go through it; a job's name
// could otherwise rewrite the line that says what will be signed.
func clean(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || dangerous(r) }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		escapeRune(&b, r, s[i:i+size])
		i += size
	}
	return b.String()
}

// cleanLines is clean for text of several lines: line ends and tabs stay.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		cells := strings.Split(line, "\t")
		for j := range cells {
			cells[j] = clean(cells[j])
		}
		lines[i] = strings.Join(cells, "\t")
	}
	return strings.Join(lines, "\n")
}

// dangerous reports whether r is a control character, a format character
// (which the bidirectional and most invisible ones are), a line separator, or
// takes room without a sign.
func dangerous(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Cs, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}

func escapeRune(b *strings.Builder, r rune, raw string) {
	switch {
	case r == utf8.RuneError && len(raw) == 1:
		fmt.Fprintf(b, `\x%02x`, raw[0])
	case r == '\n':
		b.WriteString(`\n`)
	case r == '\t':
		b.WriteString(`\t`)
	case r == '\r':
		b.WriteString(`\r`)
	case !dangerous(r):
		b.WriteString(raw)
	case r < 0x100:
		fmt.Fprintf(b, `\x%02x`, r)
	case r < 0x10000:
		fmt.Fprintf(b, `\u%04x`, r)
	default:
		fmt.Fprintf(b, `\U%08x`, r)
	}
}

// escaper passes a stream of a job's output to a terminal, escaped. Line ends
// and tabs stay; a carriage return becomes a line end, so that progress bars
// read well and nothing that was shown can be overwritten. A character that
// is split over two writes is held back until it is whole; Flush shows what
// is left of one that never was.
type escaper struct {
	w    io.Writer
	rest []byte
	cr   bool
}

// Write escapes p. It reports len(p) unless w fails.
func (e *escaper) Write(p []byte) (int, error) {
	buf := append(e.rest, p...)
	var b strings.Builder
	i := 0
	for i < len(buf) && utf8.FullRune(buf[i:]) {
		r, size := utf8.DecodeRune(buf[i:])
		e.put(&b, r, string(buf[i:i+size]))
		i += size
	}
	e.rest = append([]byte(nil), buf[i:]...)
	if _, err := io.WriteString(e.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (e *escaper) put(b *strings.Builder, r rune, raw string) {
	after := e.cr
	e.cr = r == '\r'
	switch {
	case r == '\n' && after:
	case r == '\r', r == '\n':
		b.WriteByte('\n')
	case r == '\t':
		b.WriteByte('\t')
	default:
		escapeRune(b, r, raw)
	}
}

// Flush shows the bytes of an unfinished character.
func (e *escaper) Flush() error {
	var b strings.Builder
	for _, c := range e.rest {
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	e.rest = nil
	_, err := io.WriteString(e.w, b.String())
	return err
}
