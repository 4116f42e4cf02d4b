// Package pagetest checks pages as browsers, screen readers and attackers
// would find them. Every test that gets a page of ours hands it to [Check].
package pagetest

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// Check fails the test for everything that is wrong with a page. where names
// the page.
func Check(t testing.TB, where string, header http.Header, body []byte) {
	t.Helper()
	for _, p := range Problems(header, body) {
		t.Errorf("page %s: %s", where, p)
	}
}

// Problems lists what is wrong with a page.
func Problems(header http.Header, body []byte) []string {
	c := checker{ids: map[string]bool{}, labels: map[string]bool{}, count: map[atom.Atom]int{}}
	c.headers(header)
	c.characters(body)
	doc, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		return append(c.found, err.Error())
	}
	if !bytes.HasPrefix(body, []byte("<!doctype html>")) {
		c.problem("no doctype")
	}
	c.collect(doc)
	c.walk(doc, false)
	c.whole()
	return c.found
}

type checker struct {
	found   []string
	ids     map[string]bool
	labels  map[string]bool // ids that a label names
	count   map[atom.Atom]int
	level   int // of the last heading
	hasLang bool
	hasTitl bool
	skip    bool // there is a link to #main
}

func (c *checker) problem(format string, args ...any) {
	c.found = append(c.found, fmt.Sprintf(format, args...))
}

// headers checks that no other site can frame the page, run something in it,
// or learn of it.
func (c *checker) headers(h http.Header) {
	directives := map[string]string{}
	for d := range strings.SplitSeq(h.Get("Content-Security-Policy"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), " ")
		directives[name] = value
	}
	for name, want := range map[string]string{
		"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "img-src": "'self' data:",
		"form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
	} {
		if directives[name] != want {
			c.problem("Content-Security-Policy has %s %q, want %q", name, directives[name], want)
		}
	}
	for name, want := range map[string]string{
		"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
		"Content-Type": "text/html; charset=utf-8",
	} {
		if got := h.Get(name); got != want {
			c.problem("header %s is %q, want %q", name, got, want)
		}
	}
}

func (c *checker) characters(body []byte) {
	for _, r := range string(body) {
		if r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co, unicode.Zl, unicode.Zp) {
			c.problem("the character %U is not shown visibly", r)
		}
	}
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// collect finds ids and labels, which may come after what uses them.
func (c *checker) collect(n *html.Node) {
	for d := range n.Descendants() {
		if id, ok := attr(d, "id"); ok {
			if c.ids[id] {
				c.problem("the id %q is there twice", id)
			}
			c.ids[id] = true
		}
		if of, ok := attr(d, "for"); ok && d.DataAtom == atom.Label {
			c.labels[of] = true
		}
	}
}

func (c *checker) walk(n *html.Node, labelled bool) {
	if n.Type == html.ElementNode {
		c.count[n.DataAtom]++
		c.element(n, labelled)
		labelled = labelled || n.DataAtom == atom.Label
	}
	for child := range n.ChildNodes() {
		c.walk(child, labelled)
	}
}

func (c *checker) element(n *html.Node, labelled bool) {
	for _, a := range n.Attr {
		c.attribute(n, a)
	}
	switch n.DataAtom {
	case atom.Html:
		lang, _ := attr(n, "lang")
		c.hasLang = lang != ""
	case atom.Title:
		c.hasTitl = words(n) != ""
	case atom.Style:
		c.problem("there is an inline style sheet")
	case atom.Script:
		if _, ok := attr(n, "src"); !ok || words(n) != "" {
			c.problem("there is an inline script")
		}
	case atom.Base, atom.Iframe, atom.Object, atom.Embed:
		c.problem("there is a <%s>", n.Data)
	case atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6:
		level := int(n.Data[1] - '0')
		if level > c.level+1 {
			c.problem("the heading %q skips a level", words(n))
		}
		if words(n) == "" {
			c.problem("a heading is empty")
		}
		c.level = level
	case atom.Input, atom.Select, atom.Textarea:
		c.input(n, labelled)
	case atom.Img:
		if _, ok := attr(n, "alt"); !ok {
			c.problem("a picture has no alt text")
		}
	case atom.A, atom.Button:
		c.pressable(n)
	case atom.Th:
		if _, ok := attr(n, "scope"); !ok {
			c.problem("the table heading %q has no scope", words(n))
		}
	case atom.Nav:
		if _, ok := attr(n, "aria-label"); !ok {
			c.problem("a nav has no label")
		}
	case atom.Form:
		if method, _ := attr(n, "method"); method != "post" && method != "get" {
			c.problem("a form has the method %q", method)
		}
	}
}

// urls are the attributes that make a browser load or send something.
var urls = []string{"src", "href", "action", "formaction", "poster", "srcset", "data-options-from"}

func (c *checker) attribute(n *html.Node, a html.Attribute) {
	switch {
	case a.Key == "style":
		c.problem("<%s> has an inline style", n.Data)
	case strings.HasPrefix(a.Key, "on"):
		c.problem("<%s> has an inline script in %s", n.Data, a.Key)
	case slices.Contains([]string{"aria-describedby", "aria-labelledby", "for"}, a.Key):
		for id := range strings.FieldsSeq(a.Val) {
			if !c.ids[id] {
				c.problem("<%s> names the id %q in %s, which is not there", n.Data, id, a.Key)
			}
		}
	case slices.Contains(urls, a.Key):
		local := strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//") || strings.HasPrefix(a.Val, "#")
		rel, _ := attr(n, "rel")
		switch {
		case local:
		case n.DataAtom == atom.Img && strings.HasPrefix(a.Val, "data:image/"):
		case n.DataAtom == atom.A && strings.HasPrefix(a.Val, "http") && strings.Contains(rel, "noreferrer"):
		default:
			c.problem("<%s %s=%q> leads elsewhere", n.Data, a.Key, a.Val)
		}
		c.skip = c.skip || n.DataAtom == atom.A && a.Val == "#main"
	}
}

func (c *checker) input(n *html.Node, labelled bool) {
	kind, _ := attr(n, "type")
	if slices.Contains([]string{"hidden", "submit", "button"}, kind) {
		return
	}
	id, _ := attr(n, "id")
	name, _ := attr(n, "name")
	_, named := attr(n, "aria-label")
	if !labelled && !named && !c.labels[id] {
		c.problem("the input %q has no label", name)
	}
	if _, ok := attr(n, "autocomplete"); kind == "password" && !ok {
		c.problem("the password %q does not tell password managers what it is", name)
	}
}

func (c *checker) pressable(n *html.Node) {
	label, _ := attr(n, "aria-label")
	if words(n) == "" && label == "" {
		c.problem("a <%s> has no text", n.Data)
	}
}

func (c *checker) whole() {
	if !c.hasLang {
		c.problem("the language is not told")
	}
	if !c.hasTitl {
		c.problem("no title")
	}
	for element, want := range map[atom.Atom]int{atom.H1: 1, atom.Main: 1, atom.Title: 1} {
		if c.count[element] != want {
			c.problem("%d <%s>, want %d", c.count[element], element, want)
		}
	}
	if !c.skip || !c.ids["main"] {
		c.problem("the keyboard cannot skip to the content")
	}
}

func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
		if alt, ok := attr(d, "alt"); ok {
			b.WriteString(alt)
		}
	}
	return strings.TrimSpace(b.String())
}
