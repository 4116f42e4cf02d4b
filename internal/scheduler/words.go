package scheduler

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/hpcsera/hpcsera"
)

// What every driver needs to read what its batch system prints, and to say what
// is wrong with it.

// Product is the name by which users know a batch system.
type Product string

// Failed is the error of a command that did not do its work.
func (p Product) Failed(out Output) error {
	said := FirstLine(out.Stderr)
	if said == "" {
		said = FirstLine(out.Stdout)
	}
	if said == "" {
		said = fmt.Sprintf("it ended with status %d and said nothing", out.Exit)
	}
	return hpcsera.Errorf(hpcsera.Unavailable, "%s: %s", p, said)
}

// Garbled is the error of a listing that cannot be trusted.
func (p Product) Garbled(how string, text []byte) error {
	return hpcsera.Errorf(hpcsera.Unavailable, "%s printed a listing %s: %q.", p, how, FirstLine(text))
}

// Acted reads what a cancel, hold or release that did not end with 0 said: an
// error, unless all it has to say is that nothing can be done any more about
// jobs, in words that gone matches.
func (p Product) Acted(out Output, gone *regexp.Regexp) error {
	if out.Exit == 0 {
		return nil
	}
	said := false
	for line := range bytes.Lines(out.Stderr) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if !gone.Match(line) {
			return p.Failed(Output{Stderr: line, Exit: out.Exit})
		}
		said = true
	}
	if !said {
		return p.Failed(out)
	}
	return nil
}

// Sentences makes one line of what a command said: its first eight lines that say
// something. own takes from a line what is not the batch system's own word; what
// it leaves nothing of says nothing.
func Sentences(text []byte, own func(line string) string) string {
	var lines []string
	for line := range bytes.Lines(text) {
		if s := strings.TrimSpace(own(strings.TrimSpace(string(line)))); s != "" && len(lines) < 8 {
			lines = append(lines, s)
		}
	}
	return strings.ToValidUTF8(strings.Join(lines, "; "), "?")
}

// Unprintable reports whether a text could not stand in one line of a listing.
func Unprintable(text string) bool { return strings.ContainsFunc(text, unprintable) }

func unprintable(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }

// Printable makes a text one that can stand in a batch system's listings: no
// control characters, nor those of but, and at most 250 bytes.
func Printable(text, but string) string {
	text = strings.Map(func(r rune) rune {
		if unprintable(r) || strings.ContainsRune(but, r) {
			return ' '
		}
		return r
	}, text)
	for len(text) > 250 {
		text = strings.ToValidUTF8(text[:250], "")
	}
	return strings.TrimSpace(text)
}

// Indices reads a list of array indices, 1-3,7,10-20:2, of at most so many. ok is
// false for what it cannot read: to skip it would make a member vanish.
func Indices(text string, most int) (list []int, ok bool) {
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, stepped := strings.Cut(part, ":")
		first, last, isSpan := strings.Cut(span, "-")
		if !isSpan {
			last = first
		}
		if !stepped {
			stepText = "1"
		}
		from, err1 := strconv.ParseUint(first, 10, 31)
		to, err2 := strconv.ParseUint(last, 10, 31)
		step, err3 := strconv.ParseUint(stepText, 10, 31)
		if err1 != nil || err2 != nil || err3 != nil || step == 0 || to < from || (to-from)/step+uint64(len(list)) >= uint64(most) {
			return nil, false
		}
		for i := from; i <= to; i += step {
			list = append(list, int(i))
		}
	}
	return list, true
}
