package page

import (
	"fmt"
	"html/template"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

func (f *Frame) functions() template.FuncMap {
	return template.FuncMap{
		"path": f.Path,
		"asset": func(name string) (string, error) {
			hashed, ok := f.names[name]
			if !ok {
				return "", fmt.Errorf("no file %s", name)
			}
			return f.Path("/assets/" + hashed), nil
		},
		"show":     Show,
		"browser":  Browser,
		"showText": showText,
		"when":     when,
		"count":    count,
	}
}

// Show returns text of others with every character visible that could hide,
// move or recolour what stands around it: control characters (so terminal
// sequences), direction marks, zero-width and private ones. It is not HTML;
// templates escape it.
func Show(s string) string { return visible(s, "") }

// showText keeps the line ends and tabs of longer text.
func showText(s string) string { return visible(strings.ReplaceAll(s, "\r\n", "\n"), "\n\t") }

func visible(s, keep string) string {
	var b strings.Builder
	for len(s) > 0 {
		c, n := utf8.DecodeRuneInString(s)
		switch {
		case c == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case strings.ContainsRune(keep, c):
			b.WriteRune(c)
		case unicode.In(c, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp), invisible(c):
			fmt.Fprintf(&b, `\u{%x}`, c)
		default:
			b.WriteRune(c)
		}
		s = s[n:]
	}
	return b.String()
}

// invisible reports whether a character that counts as a letter or a mark
// shows nothing: fillers, and selectors of variants.
func invisible(c rune) bool {
	return c == 0x115f || c == 0x1160 || c == 0x3164 || c == 0xffa0 || c == 0x034f || c == 0x2800 ||
		c >= 0xfe00 && c <= 0xfe0e || c >= 0xe0100 && c <= 0xe01ef
}

// when shows a time to people and programs alike, in UTC: a server does not
// know where its reader sits, and says so.
func when(t any) template.HTML {
	at := Time(t)
	if at.IsZero() {
		return "never"
	}
	at = at.UTC()
	return template.HTML(`<time datetime="` + at.Format(time.RFC3339) + `">` + at.Format("2 Jan 2006, 15:04") + ` UTC</time>`)
}

// Time is the time that a template was given, or none for a pointer to none.
func Time(t any) time.Time {
	switch t := t.(type) {
	case time.Time:
		return t
	case *time.Time:
		if t != nil {
			return *t
		}
	}
	return time.Time{}
}

// Browser makes a short name of what a browser says of itself. Whatever is
// not known is shown as it came.
func Browser(agent string) string {
	known := func(list ...[2]string) string {
		for _, k := range list {
			if strings.Contains(agent, k[0]) {
				return k[1]
			}
		}
		return ""
	}
	// Most claim to be others as well: the order tells them apart.
	name := known([2]string{"Edg/", "Edge"}, [2]string{"Firefox/", "Firefox"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := known([2]string{"Android", "Android"}, [2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"}, [2]string{"Windows", "Windows"},
		[2]string{"Mac OS X", "macOS"}, [2]string{"Linux", "Linux"})
	switch {
	case agent == "":
		return "Unknown browser"
	case name == "" || system == "":
		return Show(agent)
	}
	return name + " on " + system
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
