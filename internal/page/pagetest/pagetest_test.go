package pagetest

import (
	"net/http"
	"strings"
	"testing"
)

const start = `<!doctype html><html lang="en"><title>T</title><body><a href="#main">Skip</a><main id="main"><h1>T</h1>`

func good() http.Header {
	return http.Header{
		"Content-Security-Policy": {"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"},
		"X-Frame-Options":         {"DENY"}, "X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"same-origin"}, "Cache-Control": {"no-store"},
		"Content-Type": {"text/html; charset=utf-8"},
	}
}

func TestWhatIsWrongIsFound(t *testing.T) {
	for html, want := range map[string]string{
		start + `<input name="a">`:                                       `"a" has no label`,
		start + `<input type="password" name="p" aria-label="P">`:        "password managers",
		start + `<p style="color:red">`:                                  "inline style",
		start + `<style>p{}</style>`:                                     "inline style",
		start + `<script>alert(1)</script>`:                              "inline script",
		start + `<p onclick="x()">`:                                      "inline script",
		start + `<img src="https://a.example/x.png" alt="">`:             "leads elsewhere",
		start + `<a href="javascript:alert(1)">x</a>`:                    "leads elsewhere",
		start + `<a href="//a.example">x</a>`:                            "leads elsewhere",
		start + `<form method="post" action="https://a.example"></form>`: "leads elsewhere",
		start + `<form></form>`:                                          "method",
		start + `<img src="/x.png">`:                                     "alt",
		start + `<button></button>`:                                      "no text",
		start + `<h3>x</h3>`:                                             "skips a level",
		start + `<h1>again</h1>`:                                         "2 <h1>",
		start + `<table><tr><th>x</table>`:                               "scope",
		start + `<i id="a"></i><i id="a"></i>`:                           "twice",
		start + "\u202e":                                                 "U+202E",
		start + "\x1b[31m":                                               "U+001B",
		start + `<iframe src="/"></iframe>`:                              "<iframe>",
		`<!doctype html><html><title>T</title><h1>T</h1>`:                "language",
	} {
		if got := strings.Join(Problems(good(), []byte(html)), "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want something with %q", html, got, want)
		}
	}
	for name := range good() {
		h := good()
		h.Del(name)
		if len(Problems(h, []byte(start))) == 0 {
			t.Errorf("that %s is missing is not found", name)
		}
	}
}

func TestAGoodPageHasNoProblems(t *testing.T) {
	const page = start + `<label for="a">A</label><input id="a" name="a"><label><input type="checkbox" name="b"> B</label>` +
		`<a href="/x">x</a><a href="https://a.example/" rel="noreferrer">out</a><img src="data:image/png;base64,AA" alt="code">`
	if got := Problems(good(), []byte(page)); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}
