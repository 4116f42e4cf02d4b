package decision_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
)

const issuer = "https://auth.example.org"

func clock() time.Time { return now }

// client returns a client of an Auth app that is h.
func client(k decision.Key, h http.HandlerFunc) *decision.Client {
	return decision.NewClient(decision.Config{Issuer: issuer, Name: "hpc", Key: k, HTTP: &http.Client{Transport: decision.Local(h)}, Now: clock})
}

func bearer(r *http.Request) string {
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func TestAnAssertionOfAnotherIsRefused(t *testing.T) {
	k, other := newKey(t), newKey(t)
	keys := []jose.JSONWebKey{k.Public()}
	made := func(k decision.Key, name, aud string, at time.Time) string {
		text, err := decision.Assert(k, name, aud, at)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	long := decision.Assertion{Issuer: "hpc", Subject: "hpc", Audience: issuer, ID: hpcsera.NewID("as"), Issued: now.Unix(), Expires: now.Add(time.Hour).Unix()}
	forged := func(typ string, a decision.Assertion) string {
		text, err := k.Sign(typ, a)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	short := long
	short.Expires = now.Add(time.Minute).Unix()
	bare := short
	bare.ID = ""
	for name, text := range map[string]string{
		"another's key":       made(other, "hpc", issuer, now),
		"another's name":      made(k, "other", issuer, now),
		"another Auth app":    made(k, "hpc", "https://evil.example.org", now),
		"an old one":          made(k, "hpc", issuer, now.Add(-time.Hour)),
		"one of the future":   made(k, "hpc", issuer, now.Add(time.Hour)),
		"one that holds long": forged("client-authentication+jwt", long),
		"another type":        forged("JWT", short),
		"one without id":      forged("client-authentication+jwt", bare),
		"a decision":          sign(t, k, granted()),
		"a word":              "x",
	} {
		if id, _, err := decision.CheckAssertion(text, "hpc", issuer, keys, now); hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
			t.Errorf("%s: got %q, %v, want it refused", name, id, err)
		}
	}
	first, end, err := decision.CheckAssertion(made(k, "hpc", issuer, now), "hpc", issuer, keys, now)
	if err != nil || first == "" || !end.After(now.Add(time.Minute)) {
		t.Errorf("a good one: got %q until %v, %v", first, end, err)
	}
	if got, ok := decision.Sender(made(k, "hpc", issuer, now)); !ok || got != "hpc" {
		t.Errorf("Sender: got %q %t, want hpc", got, ok)
	}
}

func TestEveryRequestCarriesAnAssertionOfItsOwn(t *testing.T) {
	k := newKey(t)
	seen := map[string]bool{}
	c := client(k, func(w http.ResponseWriter, r *http.Request) {
		id, _, err := decision.CheckAssertion(bearer(r), "hpc", issuer, []jose.JSONWebKey{k.Public()}, now)
		if err != nil || seen[id] {
			t.Errorf("%s %s: assertion %q, %v", r.Method, r.URL, id, err)
		}
		seen[id] = true
		switch r.Method + " " + r.URL.RequestURI() {
		case "POST /api/requests":
			var got decision.Request
			body, _ := io.ReadAll(r.Body)
			if err := hpcsera.Decode(body, &got); err != nil || got.ID != request().ID {
				t.Errorf("posted: %s: %v", body, err)
			}
		case "DELETE /api/requests/rq_0123456789abcdefghjk", "POST /api/decisions/ack", "POST /api/approvals", "POST /api/notices":
		case "GET /api/decisions?wait=20":
			_, _ = io.WriteString(w, `{"decisions":["a","b"]}`)
		case "GET /api/events?wait=0":
			_, _ = io.WriteString(w, `{"events":[{"id":"ev_1","type":"left","user":"alice","at":"2026-11-22T14:00:00Z"}]}`)
		case "GET /api/status-list":
			_, _ = io.WriteString(w, "list")
		case "GET /api/status-list?has=a330395cc0a53ad1207736546afff4735940937564bbf75ce1edad40780d9139&wait=20":
			_, _ = io.WriteString(w, "newer")
		case "GET /oidc/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k.Public()}})
		default:
			t.Errorf("asked for %s %s", r.Method, r.URL.RequestURI())
		}
	})
	ctx := t.Context()
	if err := errors.Join(c.Post(ctx, request()), c.Cancel(ctx, request().ID), c.Ack(ctx, "dc_1"), c.Filed(ctx, []byte("{}"), "sig"), c.Mail(ctx, "alice", "s", "t")); err != nil {
		t.Error(err)
	}
	if got, err := c.Decisions(ctx, 20*time.Second); err != nil || len(got) != 2 {
		t.Errorf("Decisions: got %v, %v", got, err)
	}
	if got, err := c.Events(ctx, 0); err != nil || len(got) != 1 || got[0].Type != decision.Left {
		t.Errorf("Events: got %v, %v", got, err)
	}
	if got, err := c.StatusList(ctx, "", 20*time.Second); err != nil || string(got) != "list" {
		t.Errorf("StatusList: got %s, %v", got, err)
	}
	if got, err := c.StatusList(ctx, "list", 20*time.Second); err != nil || string(got) != "newer" {
		t.Errorf("StatusList: got %s, %v", got, err)
	}
	if got, err := c.Keys(ctx); err != nil || len(got) != 1 || got[0].KeyID != k.ID() {
		t.Errorf("Keys: got %v, %v", got, err)
	}
}

func TestARefusalKeepsItsWords(t *testing.T) {
	c := client(newKey(t), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"code":"quota_exceeded","detail":"alice has too many.","field":"user","hint":"Wait."}`)
	})
	err := c.Post(t.Context(), request())
	if hpcsera.CodeOf(err) != hpcsera.QuotaExceeded || err.Error() != "user: alice has too many. Wait." {
		t.Errorf("got %v", err)
	}
	c = client(newKey(t), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"code":"unauthenticated","detail":"no such deployment."}`)
	})
	if err := c.Post(t.Context(), request()); err == nil || !strings.Contains(err.Error(), "calls itself hpc there (auth.name)") {
		t.Errorf("another name: got %v, want the setting named", err)
	}
	c = client(newKey(t), func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://evil.example.org", http.StatusFound)
	})
	if err := c.Post(t.Context(), request()); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("a redirect: got %v, want it not followed", err)
	}
}

func TestALocalAuthAppIsLikeOneElsewhere(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wait":
			_, _ = io.Copy(io.Discard, r.Body) // net/http watches for the peer's end only then
			<-r.Context().Done()
		case "/panic":
			panic("boom")
		default:
			body, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Host", r.Host)
			w.WriteHeader(http.StatusTeapot)
			w.Header().Set("X-Late", "yes")
			_, _ = w.Write(body)
		}
	})
	remote := httptest.NewUnstartedServer(h)
	remote.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	remote.Start()
	defer remote.Close()
	for name, c := range map[string]*http.Client{"here": {Transport: decision.Local(h)}, "elsewhere": remote.Client()} {
		ask := func(ctx context.Context, path string) (*http.Response, string, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, remote.URL+path, strings.NewReader("text"))
			if err != nil {
				t.Fatal(err)
			}
			res, err := c.Do(r)
			if err != nil {
				return nil, "", err
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			return res, string(body), err
		}
		res, body, err := ask(t.Context(), "/")
		if err != nil || res.StatusCode != http.StatusTeapot || body != "text" || res.Header.Get("X-Host") == "" || res.Header.Get("X-Late") != "" {
			t.Errorf("%s: got %v, %q, %v", name, res, body, err)
		}
		if _, _, err := ask(t.Context(), "/panic"); err == nil {
			t.Errorf("%s: a panic: got an answer", name)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, _, err := ask(ctx, "/wait"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: a long poll that is given up: got %v, want its end", name, err)
		}
		cancel()
	}
}
