package oauth_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
)

func TestWhatCannotBeAskedForIsRefused(t *testing.T) {
	w := newWorld(t)
	const details = "authorization_details"
	far := w.clock().Add(91 * 24 * time.Hour).Format(time.RFC3339)
	past := w.clock().Add(-time.Hour).Format(time.RFC3339)
	for i, c := range []struct{ param, value, code string }{
		{"scope", "", "invalid_scope"},
		{"scope", "openid", "invalid_scope"},
		{"scope", "project:cfd", "invalid_scope"},
		{"scope", "role:1", "invalid_scope"},
		{"scope", "project:cfd role:9", "invalid_scope"},
		{"scope", "project:cfd role:GET_Everything", "invalid_scope"},
		{"scope", "project:cfd for:all", "invalid_scope"},
		{"scope", "project:cfd project:bio role:1", "invalid_scope"},
		{"scope", "project:cfd role:1 admin", "invalid_scope"},
		{"scope", "project:C/F/D role:1", "invalid_scope"},
		{"scope", "project:cfd role:1 scope:world", "invalid_scope"},
		{details, `{}`, "invalid_authorization_details"},
		{details, `[]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera"},{"type":"hpcsera"}]`, "invalid_authorization_details"},
		{details, `[{"type":"payment","project":"cfd","roles":["1"]}]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera","project":"cfd"}]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera","project":"cfd","roles":["1"],"admin":true}]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera","project":"cfd","project":"bio","roles":["1"]}]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera","project":"cfd","roles":["1"],"end":"` + far + `"}]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera","project":"cfd","roles":["1"],"end":"` + past + `"}]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera","project":"cfd","roles":["1"],"replace":true}]`, "invalid_authorization_details"},
		{details, `[{"type":"hpcsera_session","host":"x"}]`, "unauthorized_client"},
		{details, `[{"type":"hpcsera_agent","site":"gwdg","projects":["cfd"]}]`, "unauthorized_client"},
	} {
		w.wait(time.Minute)
		w.refused(fmt.Sprintf("%d %s", i, c.value), w.post("tool", "/oauth/device_authorization", c.param, c.value), 400, c.code)
	}
	w.refused("both", w.post("tool", "/oauth/device_authorization", details, `[{"type":"hpcsera","project":"cfd","roles":["1"]}]`, "scope", ciScope), 400, "invalid_scope")
	w.refused("a bound token", w.post("tool", "/oauth/device_authorization", "scope", ciScope, "dpop_jkt", strings.Repeat("A", 43)), 400, "invalid_request")
	if n := len(w.app.posted); n != 0 {
		t.Errorf("users were asked %d times, want 0", n)
	}
}

func TestWhatADeviceShowsIsTyped(t *testing.T) {
	w := newWorld(t)
	got, r := w.device("tool", "scope", "openid offline_access project:cfd role:1 role:POST_Job site:gwdg scope:project")
	hash, ok := decision.HashUserCode(got.str("user_code"))
	if !ok || hash != r.CodeHash || r.User != "" {
		t.Errorf("the code %q does not lead to the request %+v", got.str("user_code"), r)
	}
	if got.str("verification_uri") != authApp+"/code" || got.body["verification_uri_complete"] != nil || got.body["interval"] != 5.0 || got.body["expires_in"] != 600.0 {
		t.Errorf("got %s, want the Auth app's page for codes and no link that fills one in", got.text)
	}
	want := decision.Request{ID: r.ID, Kind: decision.Token, CodeHash: hash, Client: "tool", ClientName: "tool", Project: "cfd", Site: "gwdg",
		Roles: hpcsera.RolesOf(1, 6), Scope: hpcsera.ProjectScope, Until: w.clock().Add(30 * 24 * time.Hour), Expires: w.clock().Add(10 * time.Minute)}
	if fmt.Sprint(r) != fmt.Sprint(want) {
		t.Errorf("the user is asked\n%+v, want\n%+v", r, want)
	}
}

func TestNobodyButTheClientThatAskedCollectsAndOnlyOnce(t *testing.T) {
	w := newWorld(t)
	asked, r := w.device("gitlab")
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	code := asked.str("device_code")
	w.refused("another client", w.collect("tool", asked), 400, "invalid_grant")
	w.refused("as CIBA", w.post("gitlab", "/oauth/token", "grant_type", cibaGrant, "auth_req_id", code), 400, "invalid_grant")
	w.refused("with a key", w.withProof(newSigner(t), "gitlab", code), 400, "invalid_request")
	other, _ := w.device("gitlab")
	id, _, _ := strings.Cut(code, ".")
	_, mac, _ := strings.Cut(other.str("device_code"), ".")
	for name, text := range map[string]string{
		"no code": "x", "the request's id": r.ID, "the id without a MAC": id, "another grant's MAC": id + "." + mac, "a cut one": code[:len(code)-1],
		"one made longer": code + "A", "the user's code": asked.str("user_code"),
	} {
		w.refused(name, w.post("gitlab", "/oauth/token", "grant_type", deviceGrant, "device_code", text), 400, "invalid_grant")
	}
	for name, grant := range map[string]string{"refresh": "refresh_token", "password": "password", "code": "authorization_code", "itself": "client_credentials"} {
		w.refused(name, w.post("gitlab", "/oauth/token", "grant_type", grant, "device_code", code), 400, "unsupported_grant_type")
	}
	w.refused("no grant type", w.post("gitlab", "/oauth/token", "device_code", code), 400, "invalid_request")
	w.refused("nothing", w.post("gitlab", "/oauth/token", "grant_type", deviceGrant), 400, "invalid_request")

	got := w.collect("gitlab", asked)
	if got.status != http.StatusOK || got.str("token_type") != "Bearer" || got.str("scope") != "project:cfd role:GET_JobStatus role:POST_Job role:DELETE_Job" {
		t.Fatalf("got %d %s", got.status, got.text)
	}
	p, err := w.auth.Authenticate(t.Context(), auth.Request{Authorization: "Bearer " + got.str("access_token")})
	if err != nil || p.Token.User != "alice" || p.Token.Project != "cfd" || p.Token.Client != "gitlab" || p.Token.Roles != hpcsera.Presets["ci"] {
		t.Errorf("the token is %+v (%v)", p, err)
	}
	w.refused("again", w.collect("gitlab", asked), 400, "invalid_grant")
	if got, want := w.audit(r.ID), []string{"client:gitlab grant.ask", "user:alice grant.decide"}; !slices.Equal(got, want) {
		t.Errorf("audit: got %q, want %q", got, want)
	}
	if got, want := w.audit(p.Token.ID), []string{"user:alice createToken"}; !slices.Equal(got, want) {
		t.Errorf("audit of the token: got %q, want %q", got, want)
	}
}

func TestAClientThatPollsIsToldWhereItsRequestIs(t *testing.T) {
	w := newWorld(t)
	asked, r := w.device("tool")
	w.refused("at once", w.collect("tool", asked), 400, "authorization_pending")
	w.wait(time.Second)
	poll := func() reply {
		return w.post("tool", "/oauth/token", "grant_type", deviceGrant, "device_code", asked.str("device_code"))
	}
	w.refused("too soon", poll(), 400, "slow_down")
	w.wait(6 * time.Second)
	w.refused("as soon as before", poll(), 400, "slow_down")
	w.wait(15 * time.Second)
	w.refused("slower", poll(), 400, "authorization_pending")
	w.must(w.apply(w.app.sign(w.app.no(r))))
	w.refused("after a no", w.collect("tool", asked), 400, "access_denied")

	asked, r = w.device("tool")
	w.wait(10 * time.Minute)
	w.refused("after its end", w.collect("tool", asked), 400, "expired_token")
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	w.refused("after a yes that came too late", w.collect("tool", asked), 400, "access_denied")

	asked, r = w.device("tool")
	w.wait(10*time.Minute - time.Second)
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	if got := w.collect("tool", asked); got.status != http.StatusOK {
		t.Errorf("a yes in the last second: got %d %s, want the token", got.status, got.text)
	}
	asked, r = w.device("tool")
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	w.wait(15 * time.Minute)
	w.refused("collected too late", w.collect("tool", asked), 400, "expired_token")
}

func TestTheUserGrantsLessThanWasAskedFor(t *testing.T) {
	w := newWorld(t)
	asked, r := w.device("tool", "authorization_details", `[{"type":"hpcsera","project":"cfd","roles":["GET_JobStatus","4","POST_Job"]}]`)
	d := w.app.yes(r)
	d.Roles, d.Until = hpcsera.RolesOf(1), w.clock().Add(time.Hour).Truncate(time.Second)
	w.must(w.apply(w.app.sign(d)))
	got := w.collect("tool", asked)
	want := `"authorization_details":[{"type":"hpcsera","project":"cfd","roles":["GET_JobStatus"],"scope":"client","end":"` + d.Until.Format(time.RFC3339) + `"}]`
	if !strings.Contains(got.text, want) || got.body["expires_in"] != 3594.0 || got.body["scope"] != nil {
		t.Errorf("got %s, want %s", got.text, want)
	}
}

func TestWhatCannotBeGivenAnyMoreIsDenied(t *testing.T) {
	for name, change := range map[string]func(*world){
		"the user left the project": func(w *world) {
			_, err := w.access.SetMember(w.Context(), auth.OperatorOnHost(), access.NewMember{Project: "cfd", User: "alice"})
			w.must(err)
		},
		"the user was disabled": func(w *world) {
			_, err := w.access.SetUser(w.Context(), auth.OperatorOnHost(), access.Switch{Name: "alice", Disabled: true})
			w.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			asked, r := w.device("tool")
			w.must(w.apply(w.app.sign(w.app.yes(r))))
			change(w)
			w.refused(name, w.collect("tool", asked), 400, "access_denied")
			w.refused("again", w.collect("tool", asked), 400, "access_denied")
			if got := w.audit(r.ID); got[len(got)-1] != "user:alice grant.issue!" {
				t.Errorf("audit: got %q, want the refusal at the end", got)
			}
		})
	}
	w := newWorld(t)
	asked, r := w.device("tool")
	stranger := w.app.yes(r)
	stranger.User = "mallory"
	w.must(w.apply(w.app.sign(stranger)))
	w.refused("a user whom we do not know", w.collect("tool", asked), 400, "access_denied")
	asked, r = w.device("tool")
	other := w.app.yes(r)
	other.User = "bob"
	w.must(w.apply(w.app.sign(other)))
	w.refused("a user who is not in the project", w.collect("tool", asked), 400, "access_denied")
}

func TestNothingStaysBehindWhenTheAuthAppCannotBeAsked(t *testing.T) {
	w := newWorld(t)
	w.app.down = true
	got := w.post("tool", "/oauth/device_authorization", "scope", ciScope)
	w.refused("the Auth app is down", got, 503, "temporarily_unavailable")
	if len(w.app.cancelled) != 1 || got.header.Get("Retry-After") == "" {
		t.Errorf("took back %v, Retry-After %q", w.app.cancelled, got.header.Get("Retry-After"))
	}
	w.app.down = false
	if got, _ := w.device("tool"); got.status != http.StatusOK {
		t.Errorf("later: got %d %s", got.status, got.text)
	}
}

func TestPollsForNothingAreBounded(t *testing.T) {
	w := newWorld(t)
	asked, _ := w.device("tool")
	poll := func(code string) reply {
		return w.post("tool", "/oauth/token", "grant_type", deviceGrant, "device_code", code)
	}
	for range 200 {
		w.refused("nothing", poll("x.y"), 400, "invalid_grant")
	}
	w.refused("too often", poll("x.y"), 429, "slow_down")
	w.refused("what there is", poll(asked.str("device_code")), 400, "authorization_pending")
	w.wait(time.Second)
	w.refused("later", poll("x.y"), 400, "invalid_grant")
	w.wait(10 * time.Minute)
	w.refused("what expired", poll(asked.str("device_code")), 400, "expired_token")
}

func TestCodesCannotBeAskedForWithoutEnd(t *testing.T) {
	w := newWorld(t)
	ask := func(from string) reply {
		form := url.Values{"client_id": {"tool"}, "scope": {ciScope}}
		r := httptest.NewRequest(http.MethodPost, publicURL+"/oauth/device_authorization", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = net.JoinHostPort(from, "4711")
		return w.send(r)
	}
	for i := range 20 {
		if got := ask("192.0.2.1"); got.status != http.StatusOK {
			t.Fatalf("%d: got %d %s", i, got.status, got.text)
		}
	}
	w.refused("one too many", ask("192.0.2.1"), 429, "slow_down")
	if got := ask("192.0.2.2"); got.status != http.StatusOK {
		t.Errorf("from another address: got %d %s", got.status, got.text)
	}
	for i := range 20 {
		ask(fmt.Sprintf("2001:db8:1:2::%x", i))
	}
	w.refused("from the same network of version 6", ask("2001:db8:1:2::ffff"), 429, "slow_down")
	w.wait(6 * time.Second)
	if got := ask("192.0.2.1"); got.status != http.StatusOK {
		t.Errorf("later: got %d %s", got.status, got.text)
	}
}
