package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hpcsera/hpcsera"
)

// scripted answers requests one after another, as a server on a bad day does.
// Time stands still meanwhile (synctest), so pauses cost nothing and can be
// measured exactly.
type scripted struct {
	answers []func(*http.Request) (*http.Response, error)
	asked   []time.Time
	bodies  []string
}

func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, time.Now())
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		s.bodies = append(s.bodies, string(b))
	}
	next := s.answers[min(len(s.asked), len(s.answers))-1]
	return next(r)
}

func answer(status int, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/json"}}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Header: h,
			Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func refuse(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// torn is an answer whose connection breaks in the middle of its body.
func torn(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 201, Header: http.Header{}, Request: r,
		Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"id":"j_`), failing{}))}, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

const jobJSON = `{"id":"j_00000000000000000000","state":"pending"}`

func clientOf(t *testing.T, rt http.RoundTripper, patience time.Duration) *Client {
	t.Helper()
	c, err := New(Options{Server: "https://hpcsera.example.org", Transport: rt, Patience: patience})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}

func TestRequestsAreRepeatedWhereThatIsSafe(t *testing.T) {
	submit := func(c *Client) error {
		_, err := c.Submit(context.Background(), hpcsera.JobSpec{Code: "x"}, "key")
		return err
	}
	get := func(c *Client) error { _, err := c.Job(context.Background(), "j_1"); return err }
	for _, tt := range []struct {
		name    string
		answers []func(*http.Request) (*http.Response, error)
		do      func(*Client) error
		asked   int
		code    hpcsera.Code
	}{
		{"connection refused, then there", list(refuse, refuse, answer(200, jobJSON)), get, 3, ""},
		{"answer lost in its middle", list(torn, answer(201, jobJSON)), submit, 2, ""},
		{"bad gateway", list(answer(502, "<html>"), answer(200, jobJSON)), get, 2, ""},
		{"unavailable by the server's own word", list(answer(503, `{"code":"unavailable","detail":"stopping."}`, "Content-Type", "application/problem+json"), answer(201, jobJSON)), submit, 2, ""},
		{"refused by the server", list(answer(422, `{"code":"invalid_value","detail":"no."}`, "Content-Type", "application/problem+json")), submit, 1, hpcsera.InvalidValue},
		{"disk full is not mended by asking", list(answer(507, `{"code":"storage_full","detail":"full."}`, "Content-Type", "application/problem+json")), submit, 1, hpcsera.StorageFull},
		{"a quota is not lifted by asking", list(answer(429, `{"code":"quota_exceeded","detail":"9 of 9."}`, "Content-Type", "application/problem+json")), submit, 1, hpcsera.QuotaExceeded},
		{"too many requests with a time to come back", list(answer(429, "", "Retry-After", "2"), answer(200, jobJSON)), get, 2, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt := &scripted{answers: tt.answers}
				err := tt.do(clientOf(t, rt, time.Minute))
				if got := hpcsera.CodeOf(err); got != tt.code || len(rt.asked) != tt.asked {
					t.Errorf("got %v after %d requests, want code %q after %d", err, len(rt.asked), tt.code, tt.asked)
				}
				for _, body := range rt.bodies {
					if body != rt.bodies[0] {
						t.Errorf("a repetition sent %q, the first try %q", body, rt.bodies[0])
					}
				}
			})
		})
	}
}

func list(f ...func(*http.Request) (*http.Response, error)) []func(*http.Request) (*http.Response, error) {
	return f
}

func TestPausesGrowAndNeverPassTheTimeTheServerAsksFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &scripted{answers: list(refuse, refuse, refuse, refuse, answer(503, "", "Retry-After", "17"), answer(200, jobJSON))}
		if _, err := clientOf(t, rt, time.Minute).Job(t.Context(), "j_1"); err != nil {
			t.Fatalf("Job: %v", err)
		}
		for i := 1; i < 5; i++ {
			full := firstPause << (i - 1)
			if got := rt.asked[i].Sub(rt.asked[i-1]); got < full/2 || got > full {
				t.Errorf("pause %d: got %v, want between %v and %v", i, got, full/2, full)
			}
		}
		if got := rt.asked[5].Sub(rt.asked[4]); got != 17*time.Second {
			t.Errorf("pause after Retry-After: 17: got %v", got)
		}
	})
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &scripted{answers: list(refuse)}
		var told []Trouble
		c := clientOf(t, rt, 0).With(20*time.Second, func(x Trouble) { told = append(told, x) })
		start := time.Now()
		_, err := c.Job(t.Context(), "j_1")
		if !IsUnreachable(err) {
			t.Errorf("got %v, want unavailable", err)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("it went on for %v, want at most 20s", took)
		}
		if len(told) != len(rt.asked)-1 {
			t.Errorf("told of %d failures, want one for each of the %d tries but the last", len(told), len(rt.asked))
		}
	})
}

func TestARetryAfterBeyondThePatienceEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &scripted{answers: list(answer(503, "", "Retry-After", "3600"))}
		if _, err := clientOf(t, rt, time.Minute).Job(t.Context(), "j_1"); !IsUnreachable(err) || len(rt.asked) != 1 {
			t.Errorf("got %v after %d requests, want unavailable after 1", err, len(rt.asked))
		}
	})
}

func TestTheContextEndsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		rt := &scripted{answers: list(answer(503, "", "Retry-After", "60"))}
		if _, err := clientOf(t, rt, time.Hour).Job(ctx, "j_1"); err == nil || err.Error() != "enough" {
			t.Errorf("got %v, want the context's cause", err)
		}
	})
}

func TestATokenIsNotSentAlongARedirect(t *testing.T) {
	var leaked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { leaked.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusFound))
	defer server.Close()
	text, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	c, err := New(Options{Server: server.URL, Token: NewSecret(text)})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	if _, err := c.Self(t.Context()); !IsUnreachable(err) {
		t.Errorf("got %v, want unavailable", err)
	}
	if leaked.Load() != 0 {
		t.Errorf("the other server got %d requests, want none", leaked.Load())
	}
}

func TestATokenPrintsNowhere(t *testing.T) {
	text, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	secret := NewSecret(text)
	json, err := secret.MarshalJSON()
	if err != nil {
		t.Fatalf("MarshalJSON: %v", err)
	}
	for how, got := range map[string]string{
		"%v": fmt.Sprintf("%v", secret), "%+v": fmt.Sprintf("%+v", Options{Token: secret}), "%#v": fmt.Sprintf("%#v", secret),
		"%s": fmt.Sprintf("%s", secret), "%x": fmt.Sprintf("%x", secret), "json": string(json), "log": secret.LogValue().String(),
		"redact": Redact("the header was Bearer " + text + "."),
	} {
		if strings.Contains(got, text[20:40]) {
			t.Errorf("%s shows the token: %s", how, got)
		}
	}
}

func TestServersThatWouldGiveATokenAwayAreRefused(t *testing.T) {
	for _, tt := range []struct {
		server string
		allow  bool
		ok     bool
	}{
		{"https://hpcsera.example.org", false, true},
		{"https://hpcsera.example.org/hpc/api/v1/", false, true},
		{"http://127.0.0.1:8080", false, true},
		{"http://localhost:8080", false, true},
		{"http://hpcsera.example.org", false, false},
		{"http://hpcsera.example.org", true, true},
		{"https://user:secret@hpcsera.example.org", true, false},
		{"https://hpcsera.example.org?token=secret", true, false},
		{"ftp://hpcsera.example.org", true, false},
		{"hpcsera.example.org", true, false},
		{"", true, false},
	} {
		u, err := CheckServer(tt.server, tt.allow)
		if (err == nil) != tt.ok {
			t.Errorf("CheckServer(%q, %v): got %v, want ok %v", tt.server, tt.allow, err, tt.ok)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("CheckServer(%q) shows the password: %v", tt.server, err)
		}
		if err == nil && (strings.HasSuffix(u.String(), "/") || strings.Contains(u.String(), "/api/v1")) {
			t.Errorf("CheckServer(%q): got %s, want it without /api/v1 and slash", tt.server, u)
		}
	}
}

func TestAProxysPasswordIsNotInMessages(t *testing.T) {
	e := unreachable(mustRequest(t), fmt.Errorf("invalid proxy address %q: port", "http://me:pa55word@proxy:x"))
	if strings.Contains(e.Error(), "pa55word") {
		t.Errorf("the message shows the password: %v", e)
	}
}

func mustRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://hpcsera.example.org/x", http.NoBody)
	if err != nil {
		t.Fatalf("NewRequest: %v", err)
	}
	return r
}

func TestAnswersThatNoServerOfOursWroteAreUnavailable(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*http.Request) (*http.Response, error)
	}{
		{"a web page with 200", answer(200, "<html>It works!</html>", "Content-Type", "text/html")},
		{"a proxy's 404", answer(404, "<html>nginx</html>", "Content-Type", "text/html")},
		{"a proxy's 403", answer(403, "blocked", "Content-Type", "text/plain")},
		{"a login page", answer(302, "", "Location", "https://login.example.org/?x=1")},
	} {
		_, err := clientOf(t, &scripted{answers: list(tt.do)}, 0).Job(t.Context(), "j_1")
		if !IsUnreachable(err) {
			t.Errorf("%s: got %v, want unavailable", tt.name, err)
		}
	}
}

func TestAProblemKeepsAllThatItSays(t *testing.T) {
	body := `{"type":"about:blank","title":"Unprocessable","status":422,"code":"limit_exceeded","detail":"400 exceeds 128.","field":"jobs[3].resources.node_count","hint":"Queue large takes 512.","index":3,"request":"r1"}`
	_, err := clientOf(t, &scripted{answers: list(answer(422, body, "Content-Type", "application/problem+json; charset=utf-8"))}, 0).Job(t.Context(), "j_1")
	var e *hpcsera.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *hpcsera.Error", err)
	}
	if e.Code != hpcsera.LimitExceeded || e.Field != "jobs[3].resources.node_count" || e.Advice != "Queue large takes 512." || e.Index != 3 || e.Message != "400 exceeds 128." {
		t.Errorf("got %+v", e)
	}
}

func TestARepeatedLongPollDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var urls []string
		note := func(next func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
			return func(r *http.Request) (*http.Response, error) { urls = append(urls, r.URL.RawQuery); return next(r) }
		}
		rt := &scripted{answers: list(note(refuse), note(answer(200, jobJSON)))}
		if _, err := clientOf(t, rt, time.Minute).Wait(t.Context(), "j_1", 7, 30*time.Second); err != nil {
			t.Fatalf("Wait: %v", err)
		}
		if got, want := strings.Join(urls, " "), "wait=30&since=7 since=7"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
