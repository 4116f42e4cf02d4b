package decision_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
)

const thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

func codeRequest() decision.Request {
	return decision.Request{
		ID: "rq_0123456789abcdefghjk", Kind: decision.Code, User: "alice", Project: "cfd", Client: "gitlab", Expires: now.Add(24 * time.Hour),
		Code: &decision.CodeDetails{
			Manifest: hpcsera.Manifest{Name: "cavity", Program: hpcsera.Program{Script: "echo"}}, Deployment: "https://hpc.example.org", Sender: "alice",
			Sites: []string{"gwdg"}, Clients: []string{"*"}, Submitters: []string{"alice"},
			Agents: []decision.CodeAgent{{Thumbprint: thumbprint, Site: "gwdg"}}, Days: 30, Runs: 10,
		},
	}
}

func enrolment() decision.Request {
	code, _ := decision.HashUserCode("BCDF-GHJK")
	return decision.Request{
		ID: "rq_0123456789abcdefghjk", Kind: decision.Agent, CodeHash: code, Site: "gwdg", Projects: []string{"cfd"},
		Thumbprint: thumbprint, Host: "login1", Until: now.Add(180 * 24 * time.Hour), Expires: now.Add(10 * time.Minute),
	}
}

func TestARequestThatNobodyCanMeanIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, field string
		of          func() decision.Request
		change      func(*decision.Request)
	}{
		{"no kind", "kind", request, func(r *decision.Request) { r.Kind = "" }},
		{"an id of another's making", "id", request, func(r *decision.Request) { r.ID = "../../x" }},
		{"nobody to decide", "user", request, func(r *decision.Request) { r.User = "" }},
		{"an agent that needs no code", "code_hash", enrolment, func(r *decision.Request) { r.User, r.CodeHash = "alice", "" }},
		{"an agent without a key", "thumbprint", enrolment, func(r *decision.Request) { r.Thumbprint = "" }},
		{"an agent of no project", "projects", enrolment, func(r *decision.Request) { r.Projects = nil }},
		{"an agent with roles", "roles", enrolment, func(r *decision.Request) { r.Roles = 1 }},
		{"a host of control characters", "host", enrolment, func(r *decision.Request) { r.Host = "a\x1b[2J" }},
		{"a host of control characters that wants a token", "host", request, func(r *decision.Request) { r.Host = "a\x1b[2J" }},
		{"a token that does nothing", "roles", request, func(r *decision.Request) { r.Roles = 0 }},
		{"a token without end", "until", request, func(r *decision.Request) { r.Until = time.Time{} }},
		{"a request without end", "expires", request, func(r *decision.Request) { r.Expires = time.Time{} }},
		{"a token of no client", "client", request, func(r *decision.Request) { r.Client = "" }},
		{"too many words", "words", request, func(r *decision.Request) { r.Words = strings.Repeat("ä", 65) }},
		{"words that turn the direction", "words", request, func(r *decision.Request) { r.Words = "pay\u202eevil" }},
		{"words of several lines", "words", request, func(r *decision.Request) { r.Words = "a\nb" }},
		{"words that are no text", "words", request, func(r *decision.Request) { r.Words = "\xff" }},
		{"code in a token", "code", request, func(r *decision.Request) { r.Code = codeRequest().Code }},
		{"consent to nothing", "code", codeRequest, func(r *decision.Request) { r.Code = nil }},
		{"consent of whoever comes", "user", codeRequest, func(r *decision.Request) { r.User, r.CodeHash = "", enrolment().CodeHash }},
		{"code that nobody could run", "code.agents", codeRequest, func(r *decision.Request) { r.Code.Agents = nil }},
		{"code for every site", "code.sites[0]", codeRequest, func(r *decision.Request) { r.Code.Sites = []string{"*"} }},
		{"code for ever", "code.days", codeRequest, func(r *decision.Request) { r.Code.Days = 91 }},
		{"a broken manifest", "name", codeRequest, func(r *decision.Request) { r.Code.Manifest.Name = "<script>" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.of()
			c.change(&r)
			err := r.Validate()
			var got string
			if e, ok := err.(*hpcsera.Error); ok {
				got = e.Field
			}
			if err == nil || got != c.field {
				t.Errorf("got %v (field %q), want an error at %q", err, got, c.field)
			}
		})
	}
	for _, r := range []decision.Request{request(), enrolment(), codeRequest()} {
		if err := r.Validate(); err != nil {
			t.Errorf("a %s: got %v, want no error", r.Kind, err)
		}
	}
}

func TestUserCodesAreTypedInAnyFormAndGuessedInNone(t *testing.T) {
	form := regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`)
	seen := map[string]bool{}
	for range 1000 {
		code := decision.NewUserCode()
		want, ok := decision.HashUserCode(code)
		if !form.MatchString(code) || !ok || seen[code] {
			t.Fatalf("%q: hashed %t, seen before %t", code, ok, seen[code])
		}
		seen[code] = true
		for _, typed := range []string{strings.ToLower(code), strings.ReplaceAll(code, "-", ""), " " + strings.ReplaceAll(code, "-", " ") + "\n"} {
			if got, ok := decision.HashUserCode(typed); !ok || got != want {
				t.Fatalf("%q: got %s, want that of %q", typed, got, code)
			}
		}
	}
	for _, typed := range []string{"", "BCDF", "BCDF-GHJA", "BCDF-GHJ1", "BCDF-GHJKL", "BCDF\x00GHJK", "ЬCDF-GHJK"} {
		if _, ok := decision.HashUserCode(typed); ok {
			t.Errorf("%q: taken for a code", typed)
		}
	}
}
