package e2e

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// browser is what somebody without JavaScript has: it keeps cookies, follows
// every redirect, and sends the forms that it was shown.
type browser struct {
	client *http.Client
	at     *url.URL // of the page that it shows
	status int
	text   string
	page   *html.Node
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{client: &http.Client{Jar: jar, Transport: transport, Timeout: 30 * time.Second}}
}

// window returns a window of the same browser, with the same cookies.
func (b *browser) window() *browser { return &browser{client: b.client} }

// open goes to an address, relative to the page that is shown.
func (b *browser) open(t *testing.T, address string) {
	t.Helper()
	b.send(t, http.MethodGet, b.resolve(t, address), nil)
}

func (b *browser) resolve(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if b.at != nil {
		u = b.at.ResolveReference(u)
	}
	return u
}

func (b *browser) send(t *testing.T, method string, to *url.URL, form url.Values) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to.String(), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.at.Scheme+"://"+b.at.Host)
	}
	res, err := b.client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, to, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, to, err)
	}
	b.at, b.status, b.text = res.Request.URL, res.StatusCode, string(text)
	if b.page, err = html.Parse(strings.NewReader(b.text)); err != nil {
		t.Fatalf("%s %s: %v", method, to, err)
	}
	if next := b.find(func(n *html.Node) bool { return n.Data == "meta" && attr(n, "http-equiv") == "refresh" }); next != nil {
		if _, address, found := strings.Cut(attr(next, "content"), "url="); found {
			b.open(t, address)
		}
	}
}

// submit fills in the form of the page whose action ends with action, and
// sends it with what it says itself.
func (b *browser) submit(t *testing.T, action string, fields ...string) {
	t.Helper()
	form := b.find(func(n *html.Node) bool {
		to, _, _ := strings.Cut(attr(n, "action"), "?")
		return n.Data == "form" && strings.HasSuffix(to, action)
	})
	if form == nil {
		t.Fatalf("%s (status %d) has no form for %s; it says: %s", b.at, b.status, action, b.said())
	}
	b.fill(t, form, fields)
}

// press sends the form that has a button with a text.
func (b *browser) press(t *testing.T, button string, fields ...string) {
	t.Helper()
	n := b.find(func(n *html.Node) bool { return n.Data == "button" && textOf(n) == button })
	for n != nil && n.Data != "form" {
		n = n.Parent
	}
	if n == nil {
		t.Fatalf("%s (status %d) has no button %q; it says: %s", b.at, b.status, button, b.said())
	}
	b.fill(t, n, fields)
}

// fill sends a form with what stands in it, and what is given in the place of
// that; a name that is given twice is sent twice.
func (b *browser) fill(t *testing.T, form *html.Node, fields []string) {
	t.Helper()
	values := url.Values{}
	for n := range form.Descendants() {
		name := attr(n, "name")
		_, checked := value(n, "checked")
		boxed := attr(n, "type") == "checkbox" || attr(n, "type") == "radio"
		switch {
		case name == "":
		case n.Data == "input" && (!boxed || checked), n.Data == "button" && attr(n, "value") != "" && !values.Has(name):
			values.Add(name, attr(n, "value"))
		case n.Data == "textarea":
			values.Add(name, textOf(n))
		case n.Data == "select":
			values.Add(name, selected(n))
		}
	}
	given := map[string]bool{}
	for i := 0; i < len(fields); i += 2 {
		if !given[fields[i]] {
			values.Del(fields[i])
		}
		given[fields[i]] = true
		values.Add(fields[i], fields[i+1])
	}
	b.send(t, http.MethodPost, b.resolve(t, attr(form, "action")), values)
}

// selected is the option of a list that is sent.
func selected(list *html.Node) string {
	first, found := "", false
	for n := range list.Descendants() {
		if n.Data != "option" {
			continue
		}
		if _, ok := value(n, "selected"); ok {
			return attr(n, "value")
		}
		if !found {
			first, found = attr(n, "value"), true
		}
	}
	return first
}

// find returns the first element of the page that is wanted, nil for none.
func (b *browser) find(wanted func(*html.Node) bool) *html.Node {
	for n := range b.page.Descendants() {
		if n.Type == html.ElementNode && wanted(n) {
			return n
		}
	}
	return nil
}

// link follows the page's link with a text.
func (b *browser) link(t *testing.T, text string) {
	t.Helper()
	n := b.find(func(n *html.Node) bool { return n.Data == "a" && textOf(n) == text })
	if n == nil {
		t.Fatalf("%s (status %d) has no link %q; it says: %s", b.at, b.status, text, b.said())
	}
	b.open(t, attr(n, "href"))
}

// marked is the text of the first element of a class.
func (b *browser) marked(t *testing.T, class string) string {
	t.Helper()
	n := b.find(func(n *html.Node) bool { return slices.Contains(strings.Fields(attr(n, "class")), class) })
	if n == nil {
		t.Fatalf("%s (status %d) shows no %s; it says: %s", b.at, b.status, class, b.said())
	}
	return textOf(n)
}

// title is the page's heading.
func (b *browser) title() string {
	if n := b.find(func(n *html.Node) bool { return n.Data == "h1" }); n != nil {
		return textOf(n)
	}
	return ""
}

// said is what the page's main part says.
func (b *browser) said() string {
	if n := b.find(func(n *html.Node) bool { return n.Data == "main" }); n != nil {
		return textOf(n)
	}
	return b.text
}

// want fails unless the page is as expected.
func (b *browser) want(t *testing.T, status int, says string) {
	t.Helper()
	if b.status != status || !strings.Contains(b.said(), says) {
		t.Fatalf("%s: got status %d and %q, want %d and %q", b.at, b.status, b.said(), status, says)
	}
}

func textOf(n *html.Node) string {
	var words []string
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			words = append(words, strings.Fields(d.Data)...)
		}
	}
	return strings.Join(words, " ")
}

func attr(n *html.Node, name string) string {
	text, _ := value(n, name)
	return text
}

func value(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}
