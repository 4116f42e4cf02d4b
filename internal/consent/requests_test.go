package consent_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
)

func TestNobodyDecidesForAnother(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	allow := form("action", "allow", "roles", "1", "until", "asked")
	for _, c := range []struct {
		name, user string
		status     int
	}{
		{"nobody", "", http.StatusSeeOther},
		{"somebody else", "bob", http.StatusNotFound},
	} {
		if got := w.submit(c.user, path("hpc", r.ID), allow); got.status != c.status {
			t.Errorf("%s: got status %d, want %d", c.name, got.status, c.status)
		}
		if got := w.get(c.user, path("hpc", r.ID)); got.status != c.status || strings.Contains(got.body, "gitlab") {
			t.Errorf("%s looks: got status %d, want %d and nothing of the request", c.name, got.status, c.status)
		}
		w.none(c.name)
	}
	if got := w.get("bob", "/auth/"); strings.Contains(got.body, "gitlab") {
		t.Errorf("bob's inbox shows alice's request: %s", got.body)
	}
	if got := w.submit("alice", path("other", r.ID), allow); got.status != http.StatusNotFound {
		t.Errorf("under another deployment's name: got status %d, want 404", got.status)
	}
	w.none("another deployment")
}

func TestADecisionNeedsASecondFactorOfTheLastMinutes(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	w.clock.pass(6 * time.Minute)
	for _, action := range []string{"allow", "deny", "mute"} {
		got := w.submit("alice", path("hpc", r.ID), form("action", action, "roles", "1", "until", "asked"))
		if got.status != http.StatusSeeOther || got.header.Get("Location") != "/auth/stepup" {
			t.Errorf("%s: got status %d to %q, want to step up", action, got.status, got.header.Get("Location"))
		}
	}
	w.none("an old second factor")
	w.people.arrive("alice")
	w.submit("alice", path("hpc", r.ID), form("action", "deny"))
	if got := w.decisions(); len(got) != 1 || got[0].Granted {
		t.Errorf("after stepping up: got %+v, want a denial", got)
	}
}

func TestAUserGrantsLessThanWasAskedForAndNeverMore(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	for _, c := range []struct {
		name string
		form url.Values
	}{
		{"a role that was not asked for", form("action", "allow", "roles", "1", "roles", "4", "until", "asked")},
		{"no role", form("action", "allow", "until", "asked")},
		{"a role that is none", form("action", "allow", "roles", "9", "until", "asked")},
		{"a later end", form("action", "allow", "roles", "1", "until", "31536000")},
		{"an end in the past", form("action", "allow", "roles", "1", "until", "-1")},
		{"no end", form("action", "allow", "roles", "1")},
		{"nothing", form()},
		{"another word", form("action", "sign")},
	} {
		if got := w.submit("alice", path("hpc", r.ID), c.form); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: got status %d, want 422", c.name, got.status)
		}
		w.none(c.name)
	}
	got := w.submit("alice", path("hpc", r.ID), form("action", "allow", "roles", "1", "roles", "6", "until", "3600"))
	if got.status != http.StatusSeeOther {
		t.Fatalf("got status %d: %s", got.status, got.body)
	}
	all := w.decisions()
	if len(all) != 1 {
		t.Fatalf("got %d decisions, want 1", len(all))
	}
	d := all[0]
	if d.Roles != hpcsera.RolesOf(1, 6) || !d.Until.Equal(w.clock.now().Add(time.Hour)) || !d.Granted || d.User != "alice" {
		t.Errorf("got %+v, want roles 1 and 6 for an hour", d)
	}
	if err := d.Answers(r); err != nil {
		t.Errorf("the deployment: %v", err)
	}
}

func TestARequestIsDecidedOnce(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	allow := form("action", "allow", "roles", "1", "until", "asked")
	w.submit("alice", path("hpc", r.ID), allow)
	if got := w.submit("alice", path("hpc", r.ID), allow); got.status != http.StatusNotFound {
		t.Errorf("again: got status %d, want 404", got.status)
	}
	all := w.decisions()
	if len(all) != 1 {
		t.Fatalf("got %d decisions, want 1", len(all))
	}
	// It is delivered until it is acknowledged, and not to others.
	if texts, err := w.other.Decisions(t.Context(), 0); err != nil || len(texts) > 0 {
		t.Errorf("another deployment: got %v, %v, want nothing", texts, err)
	}
	if err := w.other.Ack(t.Context(), all[0].ID); err != nil || len(w.decisions()) != 1 {
		t.Errorf("another deployment's acknowledgement: %v; got %d decisions, want it still there", err, len(w.decisions()))
	}
	if err := w.api.Ack(t.Context(), all[0].ID); err != nil || len(w.decisions()) != 0 {
		t.Errorf("acknowledged: %v; got %d decisions, want none", err, len(w.decisions()))
	}
}

func TestAnotherKeyThanTheOneReadIsNotAllowed(t *testing.T) {
	w := newWorld(t)
	r, code := w.enrolment()
	w.post(r)
	w.submit("alice", "/auth/code", form("code", code))
	read := shownOf(w.get("alice", path("hpc", r.ID)).body)
	w.submit("alice", path("hpc", r.ID), form("action", "deny"))
	swapped := r
	swapped.Thumbprint = strings.Repeat("K", 43)
	if err := w.api.Post(t.Context(), swapped); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("another key under a decided id: got %v, want a conflict", err)
	}
	swapped, code = w.enrolment()
	swapped.Thumbprint = strings.Repeat("K", 43)
	w.post(swapped)
	w.submit("alice", "/auth/code", form("code", code))
	for name, had := range map[string]string{"what was read": read, "nothing": ""} {
		got := w.submit("alice", path("hpc", swapped.ID), form("action", "allow", "until", "asked", "shown", had))
		if got.status != http.StatusUnprocessableEntity {
			t.Errorf("allow after %s: got status %d, want 422", name, got.status)
		}
		got.has(t, "has changed since you looked at it", swapped.Thumbprint)
	}
	if all := w.decisions(); len(all) != 1 || all[0].Granted {
		t.Errorf("got %+v, want the denial alone", all)
	}
}

func TestWhatAUsersOwnSessionAsksLooksLikeNoClients(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	if got := w.get("alice", path("hpc", r.ID)); strings.Contains(got.body, "hpcsera login") {
		t.Errorf("what the client asks names a session: %s", got.body)
	}
	r = w.tokenRequest()
	r.Host = "alices-laptop"
	w.post(r)
	w.get("alice", path("hpc", r.ID)).has(t, "hpcsera login", "alices-laptop", "goes to that terminal, not to the client", "deny it")
}

func TestARequestEnds(t *testing.T) {
	w := newWorld(t)
	expired, cancelled := w.post(w.tokenRequest()), w.post(w.tokenRequest())
	if err := w.other.Cancel(t.Context(), cancelled.ID); err != nil {
		t.Errorf("another deployment cancels: got %v, want nothing done and no error", err)
	}
	if got := w.get("alice", path("hpc", cancelled.ID)); got.status != http.StatusOK {
		t.Errorf("after another deployment cancelled: got status %d, want the request", got.status)
	}
	if err := w.api.Cancel(t.Context(), cancelled.ID); err != nil {
		t.Error(err)
	}
	w.clock.pass(11 * time.Minute)
	w.people.arrive("alice")
	for name, r := range map[string]decision.Request{"expired": expired, "cancelled": cancelled} {
		if got := w.submit("alice", path("hpc", r.ID), form("action", "allow", "roles", "1", "until", "asked")); got.status != http.StatusNotFound {
			t.Errorf("%s: got status %d, want 404", name, got.status)
		}
		w.none(name)
	}
}

func TestALongPollAnswersWhenTheUserDecides(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	got := make(chan int, 1)
	go func() {
		texts, err := w.api.Decisions(t.Context(), 30*time.Second)
		if err != nil {
			t.Error(err)
		}
		got <- len(texts)
	}()
	w.submit("alice", path("hpc", r.ID), form("action", "deny"))
	if n := <-got; n != 1 {
		t.Errorf("got %d decisions, want 1", n)
	}
}

func TestPostingTwiceIsPostingOnce(t *testing.T) {
	w := newWorld(t)
	r := w.tokenRequest()
	w.post(r)
	w.post(r)
	changed := r
	changed.Roles = hpcsera.RolesOf(1, 2, 3, 4, 5, 6, 7, 8)
	if err := w.api.Post(t.Context(), changed); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("the same id for more: got %v, want a conflict", err)
	}
	// Another deployment's request of the same id is another request.
	if err := w.other.Post(t.Context(), changed); err != nil {
		t.Errorf("another deployment: got %v, want its own request", err)
	}
	if got := w.get("alice", path("hpc", r.ID)); strings.Contains(got.body, "POST_Code") {
		t.Error("the request was changed")
	}
}

func TestATiredUserIsNotBombed(t *testing.T) {
	w := newWorld(t)
	var err error
	for n := range 20 {
		if err = w.api.Post(t.Context(), w.tokenRequest()); err != nil {
			if n != 3 {
				t.Errorf("refused the request after %d open ones, want after 3", n)
			}
			break
		}
	}
	if hpcsera.CodeOf(err) != hpcsera.QuotaExceeded {
		t.Errorf("many at once: got %v, want %s", err, hpcsera.QuotaExceeded)
	}
	// One after the other as well: the client takes back what was not answered.
	w = newWorld(t)
	posted := 0
	for range 40 {
		r := w.tokenRequest()
		if err = w.api.Post(t.Context(), r); err != nil {
			break
		}
		posted++
		if err := w.api.Cancel(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
	}
	if hpcsera.CodeOf(err) != hpcsera.QuotaExceeded || posted != 10 {
		t.Errorf("again and again: %d were posted, then %v, want 10 and %s", posted, err, hpcsera.QuotaExceeded)
	}
	// Others are not punished for it.
	bobs := w.tokenRequest()
	bobs.User = "bob"
	flowable := w.tokenRequest()
	flowable.Client = "flowable"
	for name, r := range map[string]decision.Request{"another user": bobs, "another client": flowable} {
		if err := w.api.Post(t.Context(), r); err != nil {
			t.Errorf("%s: got %v, want no error", name, err)
		}
	}
	w.clock.pass(11 * time.Minute)
	if err := w.api.Post(t.Context(), w.tokenRequest()); err != nil {
		t.Errorf("later: got %v, want no error", err)
	}
}

func TestAClientThatAsksStrangersStopsOnlyItself(t *testing.T) {
	w := newWorld(t)
	ask := func(client string) error {
		r := w.tokenRequest()
		r.User, r.Client = "", client
		r.CodeHash, _ = decision.HashUserCode(decision.NewUserCode())
		return w.api.Post(t.Context(), r)
	}
	for n := range 600 {
		if err := ask("cli"); err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
	}
	if err := ask("cli"); hpcsera.CodeOf(err) != hpcsera.QuotaExceeded {
		t.Errorf("one too many: got %v, want %s", err, hpcsera.QuotaExceeded)
	}
	if err := ask("tool"); err != nil {
		t.Errorf("another client: got %v, want no error", err)
	}
	enrolment, _ := w.enrolment()
	login := enrolment
	login.ID, login.Kind, login.Client, login.Site, login.Projects = hpcsera.NewID("rq"), decision.Session, "cli", "", nil
	login.CodeHash, _ = decision.HashUserCode(decision.NewUserCode())
	for _, r := range []decision.Request{enrolment, login} {
		if err := w.api.Post(t.Context(), r); err != nil {
			t.Errorf("our own program's %s: got %v, want no error", r.Kind, err)
		}
	}
}

func TestAMutedClientIsNotHeard(t *testing.T) {
	w := newWorld(t)
	first, second := w.post(w.tokenRequest()), w.post(w.tokenRequest())
	if got := w.submit("alice", path("hpc", first.ID), form("action", "mute", "days", "7")); got.status != http.StatusSeeOther {
		t.Fatalf("mute: got status %d: %s", got.status, got.body)
	}
	all := w.decisions()
	if len(all) != 2 || all[0].Granted || all[1].Granted {
		t.Errorf("got %+v, want both requests denied: %s, %s", all, first.ID, second.ID)
	}
	if err := w.api.Post(t.Context(), w.tokenRequest()); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("a muted client: got %v, want %s", err, hpcsera.Forbidden)
	}
	w.get("alice", "/auth/").has(t, "Muted", "gitlab")
	elsewhere := w.tokenRequest()
	if err := w.other.Post(t.Context(), elsewhere); err != nil {
		t.Errorf("another deployment's client of that name: got %v, want no error", err)
	}
	w.submit("alice", "/auth/mutes", form("deployment", "hpc", "client", "gitlab"))
	if err := w.api.Post(t.Context(), w.tokenRequest()); err != nil {
		t.Errorf("unmuted: got %v, want no error", err)
	}
}

func TestACodeIsTypedByAPersonAndFilledInByNobody(t *testing.T) {
	w := newWorld(t)
	r, code := w.enrolment()
	w.post(r)
	for _, link := range []string{"/auth/code?code=" + code, "/auth/code?user_code=" + code} {
		got := w.get("alice", link)
		if strings.Contains(got.body, code) || got.status != http.StatusOK {
			t.Errorf("%s: got status %d, and the code is filled in", link, got.status)
		}
	}
	// Nor does a form whose code stands in the address count.
	if got := w.submit("alice", "/auth/code?code="+code, form()); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a code in the address of a form: got status %d, want 422", got.status)
	}
	if got := w.get("alice", path("hpc", r.ID)); got.status != http.StatusNotFound {
		t.Errorf("by the request's address alone: got status %d, want 404", got.status)
	}
	got := w.submit("alice", "/auth/code", form("code", strings.ToLower(code)))
	if got.status != http.StatusSeeOther || got.header.Get("Location") != path("hpc", r.ID) {
		t.Fatalf("typed: got status %d to %q", got.status, got.header.Get("Location"))
	}
	w.get("alice", path("hpc", r.ID)).has(t, thumbprint, "login1.gwdg.de", "by its own word", "gwdg", "hpc.example.org")
	// Whoever types it second, does not see it.
	if got := w.submit("bob", "/auth/code", form("code", code)); got.status != http.StatusUnprocessableEntity {
		t.Errorf("typed by another: got status %d, want 422", got.status)
	}
	w.submit("alice", path("hpc", r.ID), form("action", "allow", "until", "asked"))
	if all := w.decisions(); len(all) != 1 || all[0].User != "alice" || all[0].Answers(r) != nil {
		t.Errorf("got %+v, want alice's", all)
	}
	if got := w.submit("alice", "/auth/code", form("code", code)); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a code that was used: got status %d, want 422", got.status)
	}
}

func TestGuessingCodesEndsSoon(t *testing.T) {
	w := newWorld(t)
	r, code := w.enrolment()
	w.post(r)
	for n := range 5 {
		if got := w.submit("bob", "/auth/code", form("code", decision.NewUserCode())); got.status != http.StatusUnprocessableEntity {
			t.Fatalf("wrong code %d: got status %d, want 422", n+1, got.status)
		}
	}
	if got := w.submit("bob", "/auth/code", form("code", code)); got.status != http.StatusTooManyRequests {
		t.Errorf("the right one after five wrong ones: got status %d, want 429", got.status)
	}
	if got := w.submit("alice", "/auth/code", form("code", code)); got.status != http.StatusSeeOther {
		t.Errorf("somebody else: got status %d, want the request", got.status)
	}
	w.clock.pass(11 * time.Minute)
	r, code = w.enrolment()
	w.post(r)
	if got := w.submit("bob", "/auth/code", form("code", code)); got.status != http.StatusSeeOther {
		t.Errorf("ten minutes later: got status %d, want the request", got.status)
	}
}

func TestADeploymentSpeaksForItselfOnly(t *testing.T) {
	w := newWorld(t)
	stranger, err := decision.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*decision.Client{
		"nobody known":           w.client("unknown", stranger),
		"another key":            w.client("hpc", stranger),
		"another's name":         w.client("other", w.key),
		"a name that is no name": w.client("../hpc", w.key),
	} {
		if err := c.Post(t.Context(), w.tokenRequest()); hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
			t.Errorf("%s: got %v, want %s", name, err, hpcsera.Unauthenticated)
		}
	}
	assertion, err := w.api.Assertion()
	if err != nil {
		t.Fatal(err)
	}
	if got := w.call(http.MethodGet, "/auth/api/decisions", assertion, nil); got.status != http.StatusOK {
		t.Fatalf("got status %d: %s", got.status, got.body)
	}
	if got := w.call(http.MethodGet, "/auth/api/decisions", assertion, nil); got.status != http.StatusUnauthorized {
		t.Errorf("an assertion used again: got status %d, want 401", got.status)
	}
	for _, path := range []string{"/auth/api/decisions", "/auth/api/events", "/auth/api/status-list"} {
		if got := w.call(http.MethodGet, path, "", nil); got.status != http.StatusUnauthorized {
			t.Errorf("%s without assertion: got status %d, want 401", path, got.status)
		}
	}
	if err := w.auth.RemoveDeployment(t.Context(), "hpc"); err != nil {
		t.Fatal(err)
	}
	if err := w.api.Post(t.Context(), w.tokenRequest()); hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
		t.Errorf("after its removal: got %v, want %s", err, hpcsera.Unauthenticated)
	}
}

func TestADeploymentChangesItsKeyWithoutAGap(t *testing.T) {
	w := newWorld(t)
	before := w.api
	_, second := w.deployment("hpc", apiURL)
	for name, c := range map[string]*decision.Client{"the old key": before, "the new key": second} {
		if _, err := c.Decisions(t.Context(), 0); err != nil {
			t.Errorf("%s: got %v, want no error", name, err)
		}
	}
	_, third := w.deployment("hpc", apiURL)
	if _, err := before.Decisions(t.Context(), 0); hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
		t.Errorf("the key before the last: got %v, want it refused", err)
	}
	if _, err := third.Decisions(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

func TestOnlyStrictMessagesAreTaken(t *testing.T) {
	w := newWorld(t)
	for name, body := range map[string]string{
		"an unknown member": `{"id":"rq_0123456789abcdefghjk","kind":"token","admin":true}`,
		"a member twice":    `{"id":"rq_0123456789abcdefghjk","id":"rq_0123456789abcdefghjk","kind":"token"}`,
		"no JSON":           `x`,
		"two values":        `{}{}`,
	} {
		assertion, err := w.api.Assertion()
		if err != nil {
			t.Fatal(err)
		}
		if got := w.call(http.MethodPost, "/auth/api/requests", assertion, strings.NewReader(body)); got.status != http.StatusBadRequest {
			t.Errorf("%s: got status %d, want 400: %s", name, got.status, got.body)
		}
	}
}

func TestWhatOthersWroteIsShownAsItIs(t *testing.T) {
	w := newWorld(t)
	r := w.tokenRequest()
	r.ClientName, r.Words = `<b>GitLab`, `<script>alert(1)</script>"'&{{.}}`
	w.post(r)
	got := w.get("alice", path("hpc", r.ID))
	got.has(t, "in its own words", "&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;b&gt;GitLab")
	if strings.Contains(got.body, "<script>alert") || strings.Contains(got.body, "<b>GitLab") {
		t.Errorf("markup of the client's: %s", got.body)
	}
	r = w.tokenRequest()
	r.Words = "safe\u202egnp.exe"
	if err := w.api.Post(t.Context(), r); hpcsera.CodeOf(err) != hpcsera.InvalidField {
		t.Errorf("words that turn the direction: got %v, want them refused", err)
	}
	for _, text := range []string{`<script>x</script>`, "a\u202eb"} {
		got := w.submit("alice", "/auth/code", form("code", text))
		if strings.Contains(got.body, text) {
			t.Errorf("the form repeats %q", text)
		}
	}
}

func TestAnotherSiteDecidesNothing(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	_, code := w.enrolment()
	for address, f := range map[string]url.Values{
		path("hpc", r.ID):            form("action", "allow", "roles", "1", "until", "asked"),
		"/auth/code":                 form("code", code),
		"/auth/mutes":                form("deployment", "hpc", "client", "gitlab"),
		"/auth/approvals/keys":       form("name", "x", "credential", "{}"),
		"/auth/approvals/x/withdraw": form(),
	} {
		for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
			req := httptest.NewRequest(http.MethodPost, "https://auth.example.org"+address, strings.NewReader(f.Encode()))
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set(header, value)
			if got := w.send("alice", req); got.status != http.StatusForbidden {
				t.Errorf("%s with %s %s: got status %d, want 403", address, header, value, got.status)
			}
		}
	}
	w.none("another site's forms")
	// A link decides nothing either.
	w.get("alice", path("hpc", r.ID)+"?action=allow&roles=1&until=asked")
	w.none("a link")
	// Every page refuses to be framed: pagetest has checked the headers of all.
}

func TestUsersSeeWhatHappenedAboutThem(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	w.submit("alice", path("hpc", r.ID), form("action", "deny"))
	w.get("alice", "/auth/activity").has(t, r.ID, "You were asked", "Request denied")
	if got := w.get("bob", "/auth/activity"); strings.Contains(got.body, r.ID) {
		t.Error("bob sees what is alice's")
	}
	w.get("bob", "/auth/activity").has(t, "Nothing yet")
}

func TestEmptyPagesSayWhatToDoFirst(t *testing.T) {
	w := newWorld(t)
	w.get("alice", "/auth/").has(t, "Nothing waits for you", "type it")
	w.get("alice", "/auth/approvals").has(t, "No passkey of yours signs code", "hpcsera approve", "You signed nothing yet", "hpcsera-auth-key ")
	w.get("alice", "/auth/code").has(t, "Did somebody send you the code")
	w.get("alice", "/auth/approvals/keys/new").has(t, "it never signs you in")
}

func TestADeploymentMustBeReachedSafely(t *testing.T) {
	w := newWorld(t)
	public, _ := w.key.Public().MarshalJSON()
	for _, c := range []struct{ name, url, key string }{
		{"Big Name", "https://x.example.org", string(public)},
		{"x", "http://x.example.org", string(public)},
		{"x", "x.example.org", string(public)},
		{"x", "https://x.example.org", `{"kty":"oct","k":"AAAA"}`},
		{"hpc", "https://evil.example.org", string(public)},
	} {
		if _, err := w.auth.AddDeployment(t.Context(), newDeployment(c.name, c.url, c.key)); err == nil {
			t.Errorf("%s at %s: got no error", c.name, c.url)
		}
	}
	if all, err := w.auth.Deployments(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("got %s, %v, want the two", fmt.Sprint(all), err)
	}
}

func TestTheServerAroundTheAuthAppRegistersItself(t *testing.T) {
	w := newWorld(t)
	public, err := w.key.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	own := newDeployment("here", "http://127.0.0.1:8470", string(public))
	if err := w.auth.Own(t.Context(), own); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("at an Auth app on its own: got %v, want %s", err, hpcsera.Conflict)
	}
	w.start(func(c *consent.Config) { c.InProcess = true })
	for _, address := range []string{"http://127.0.0.1:8470", "http://127.0.0.1:8470", "http://127.0.0.1:9999"} {
		own.URL = address
		if err := w.auth.Own(t.Context(), own); err != nil {
			t.Fatal(err)
		}
	}
	all, err := w.auth.Deployments(t.Context())
	if err != nil || len(all) != 3 || all[0].Name != "here" || all[0].URL != "http://127.0.0.1:9999" || len(all[0].Keys) != 1 {
		t.Errorf("got %+v, %v", all, err)
	}
	if _, err := w.client("here", w.key).Decisions(t.Context(), 0); err != nil {
		t.Error(err)
	}
}
