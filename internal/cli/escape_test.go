package cli

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestDangerousCharactersAreShownEscaped(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "cavity 0.02 äöü 漢字 ✓", "cavity 0.02 äöü 漢字 ✓"},
		{"colour", "\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"C1 control", "a\u009bb", `a\x9bb`},
		{"line end", "a\nb\r\n", `a\nb\r\n`},
		{"right-to-left override", "exe.\u202egnp", `exe.\u202egnp`},
		{"isolate", "\u2066x\u2069", `\u2066x\u2069`},
		{"zero width", "pay\u200bload", `pay\u200bload`},
		{"byte order mark", "\ufeffx", `\ufeffx`},
		{"invisible letter", "a\u3164b", `a\u3164b`},
		{"tag character", "a\U000e0041", `a\U000e0041`},
		{"not UTF-8", "a\xffb", `a\xffb`},
		{"bell and delete", "\a\x7f", `\x07\x7f`},
		{"line separator", "a\u2028b", `a\u2028b`},
	} {
		if got := clean(tt.in); got != tt.want {
			t.Errorf("%s: clean(%q): got %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
	if got, want := cleanLines("a\n\tb\x1bc"), "a\n\tb\\x1bc"; got != want {
		t.Errorf("cleanLines: got %q, want %q", got, want)
	}
}

func TestNoTextReachesATerminalWithAControlCharacter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(in)), 0, 5).Draw(t, "cuts")
		var got bytes.Buffer
		e := &escaper{w: &got}
		from := 0
		for _, cut := range cuts {
			if cut > from {
				_, _ = e.Write(in[from:cut])
				from = cut
			}
		}
		_, _ = e.Write(in[from:])
		_ = e.Flush()
		var whole bytes.Buffer
		once := &escaper{w: &whole}
		_, _ = once.Write(in)
		_ = once.Flush()
		if !bytes.Equal(got.Bytes(), whole.Bytes()) {
			t.Fatalf("cut at %v: got %q, want %q as in one piece", cuts, got.Bytes(), whole.Bytes())
		}
		for _, text := range []string{got.String(), clean(string(in))} {
			if !utf8.ValidString(text) {
				t.Fatalf("got %q, which is not UTF-8", text)
			}
			for _, r := range text {
				if r != '\n' && r != '\t' && dangerous(r) {
					t.Fatalf("got %q, which holds %U", text, r)
				}
			}
		}
	})
}

func TestCarriageReturnsOverwriteNothing(t *testing.T) {
	var got bytes.Buffer
	e := &escaper{w: &got}
	for _, part := range []string{"10%\r", "20%\r\nnext\r", "\nlast"} {
		_, _ = e.Write([]byte(part))
	}
	if want := "10%\n20%\nnext\nlast"; got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}
