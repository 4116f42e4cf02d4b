package oauth

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"unicode/utf8"
)

// maxForm bounds a form. An assertion is its largest part.
const maxForm = 64 << 10

// form is the parameters of a request, each once.
type form map[string]string

// readForm reads the body strictly. Parameters in the URL are refused: they
// would stand in logs. Empty ones count as omitted, and unknown ones are
// ignored, as RFC 6749 section 3.2 wants.
func readForm(w http.ResponseWriter, r *http.Request) (form, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, fault{status: http.StatusMethodNotAllowed, code: invalidRequest, text: "the endpoint takes POST only"}
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || kind != "application/x-www-form-urlencoded" || charset != "" && charset != "utf-8" && charset != "UTF-8" {
		return nil, bad(invalidRequest, "the body must be application/x-www-form-urlencoded")
	}
	if r.URL.RawQuery != "" {
		return nil, bad(invalidRequest, "parameters belong into the body, not into the URL")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, fault{status: http.StatusRequestEntityTooLarge, code: invalidRequest, text: "the body is too large"}
	case err != nil:
		return nil, bad(invalidRequest, "the body broke off")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, bad(invalidRequest, "the body is no form")
	}
	f := form{}
	for name, list := range values {
		if len(list) > 1 {
			return nil, bad(invalidRequest, "a parameter is given more than once: "+name)
		}
		if !utf8.ValidString(list[0]) {
			return nil, bad(invalidRequest, "a parameter is not UTF-8: "+name)
		}
		if list[0] != "" {
			f[name] = list[0]
		}
	}
	return f, nil
}

// writeJSON answers. The header's no-store was set before.
func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that is gone asks again
}
