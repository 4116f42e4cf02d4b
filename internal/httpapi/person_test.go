package httpapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// wishes remembers what users asked themselves for. Like internal/oauth it
// takes only what could be granted.
type wishes struct {
	d     *deployment
	filed []hpcsera.Token
}

// Ask implements httpapi.Grants.
func (w *wishes) Ask(ctx context.Context, by *auth.Principal, t hpcsera.Token) (hpcsera.AskedToken, error) {
	if err := auth.Allow(by, auth.RequestToken, auth.Target{User: t.User}); err != nil {
		return hpcsera.AskedToken{}, err
	}
	if err := w.d.db.Read(ctx, func(r store.Reader) error { return w.d.access.Usable(r, t) }); err != nil {
		return hpcsera.AskedToken{}, err
	}
	w.filed = append(w.filed, t)
	return hpcsera.AskedToken{ID: "rq_1", URL: "https://auth.example.org/rq_1", Expires: t.Expires, Interval: 5, DeviceCode: "x"}, nil
}

func refusedWith(t *testing.T, name string, err error, want hpcsera.Code) {
	t.Helper()
	if got := hpcsera.CodeOf(err); got != want {
		t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
	}
}

func TestWhatIsDoneInPersonNeedsAPersonAndOnlyTheirs(t *testing.T) {
	d := newDeployment(t)
	token, alice, bob := d.token(everyone), d.login("alice"), d.login("bob")
	id, _, _ := hpcsera.ParseSecret(token)
	agent := d.agent()
	own, err := alice.Session()
	must(t, err)
	for method, paths := range map[string][]string{
		"GET":    {"/tokens", "/agents", "/projects", "/clients", "/sessions", "/audit"},
		"DELETE": {"/tokens/" + id, "/agents/" + agent.ID(), "/sessions/" + own},
	} {
		for _, path := range paths {
			d.call(token, method, "/api/v1"+path, nil).refused(t, 404, hpcsera.NotFound, "")
			d.call("", method, "/api/v1"+path, nil).refused(t, 401, hpcsera.Unauthenticated, "")
		}
	}
	d.call(token, "POST", "/api/v1/tokens", hpcsera.TokenWish{Project: "cfd", Client: "cli", For: "ci"}).refused(t, 404, hpcsera.NotFound, "")
	// Nothing is looked at before that: not even whether the wish makes sense.
	d.call(token, "POST", "/api/v1/tokens", `{"project":"cfd","client":"cli","for":"ci","days":999}`).refused(t, 404, hpcsera.NotFound, "")
	d.call(token, "POST", "/api/v1/tokens", `{"project":`).refused(t, 404, hpcsera.NotFound, "")
	d.call(token, "GET", "/api/v1/audit?before=x", nil).refused(t, 404, hpcsera.NotFound, "")

	_, err = bob.RevokeToken(t.Context(), id, false)
	refusedWith(t, "bob revokes alice's token", err, hpcsera.NotFound)
	_, err = bob.RemoveAgent(t.Context(), agent.ID(), true)
	refusedWith(t, "bob removes alice's agent", err, hpcsera.NotFound)
	refusedWith(t, "bob ends alice's session", bob.EndSession(t.Context(), own), hpcsera.NotFound)
	for name, count := range map[string]func(*client.Client) (int, error){
		"tokens": func(c *client.Client) (int, error) { l, err := c.Tokens(t.Context()); return len(l), err },
		"agents": func(c *client.Client) (int, error) { l, err := c.Agents(t.Context()); return len(l), err },
	} {
		for user, c := range map[string]*client.Client{"alice": alice, "bob": bob} {
			want := map[string]int{"alice": 1, "bob": 0}[user]
			if got, err := count(c); err != nil || got != want {
				t.Errorf("%s of %s: got %d (%v), want %d", name, user, got, err, want)
			}
		}
	}
	projects, err := bob.Projects(t.Context())
	if err != nil || len(projects) != 1 || projects[0].Name != "bio" {
		t.Errorf("bob's projects: got %v (%v), want bio", projects, err)
	}
	lines, err := bob.Audit(t.Context(), 0, 1000)
	must(t, err)
	for _, line := range lines.Lines {
		if line.User != "bob" {
			t.Errorf("bob reads %+v", line)
		}
	}
}

func TestASessionDoesNothingThatTokensDo(t *testing.T) {
	d := newDeployment(t)
	job := d.submitted(d.token(everyone))
	alice := d.login("alice")
	_, err := alice.Job(t.Context(), job.ID)
	refusedWith(t, "get a job", err, hpcsera.NotFound)
	_, err = alice.Self(t.Context())
	refusedWith(t, "what am I", err, hpcsera.NotFound)
	_, err = alice.Sites(t.Context())
	refusedWith(t, "list sites", err, hpcsera.NotFound)
}

func TestUsersTakeBackWhatTheyGaveFromTheNextRequestOn(t *testing.T) {
	d := newDeployment(t)
	token, alice := d.token(everyone), d.login("alice")
	id, _, _ := hpcsera.ParseSecret(token)
	job := d.submitted(token)
	revoked, err := alice.RevokeToken(t.Context(), id, true)
	if err != nil || revoked.Revoked == nil {
		t.Errorf("got %+v (%v), want it revoked", revoked, err)
	}
	d.call(token, "GET", "/api/v1/jobs", nil).refused(t, 401, hpcsera.TokenInvalid, "")
	if got := as[hpcsera.Job](t, d.call(d.token("1"), "GET", jobPath(job, ""), nil), 200); got.State != hpcsera.Cancelled {
		t.Errorf("with stop the job is %s, want cancelled", got.State)
	}
	agent := d.agent()
	gone, err := alice.RemoveAgent(t.Context(), agent.ID(), false)
	if err != nil || gone.ID != agent.ID() {
		t.Errorf("got %+v (%v)", gone, err)
	}
	_, err = agent.Work(t.Context(), hpcsera.WorkRequest{Instance: hpcsera.NewID("i")})
	refusedWith(t, "the agent afterwards", err, hpcsera.TokenInvalid)
	page, err := alice.Audit(t.Context(), 0, 1)
	if err != nil || len(page.Lines) != 1 || page.Lines[0].Action != "removeAgent" || page.Next == 0 {
		t.Errorf("audit: got %+v (%v), want that the agent was removed, and more", page, err)
	}
	id, err = alice.Session()
	must(t, err)
	must(t, alice.EndSession(t.Context(), id))
	_, err = alice.Tokens(t.Context())
	refusedWith(t, "the session after its end", err, hpcsera.TokenInvalid)
}

func TestAWishIsFiledAndGrantsNothing(t *testing.T) {
	d := newDeployment(t)
	alice := d.login("alice")
	for name, c := range map[string]struct {
		wish hpcsera.TokenWish
		want hpcsera.Code
	}{
		"no roles":          {hpcsera.TokenWish{Project: "cfd", Client: "cli"}, hpcsera.InvalidField},
		"roles and a set":   {hpcsera.TokenWish{Project: "cfd", Client: "cli", Roles: 1, For: "ci"}, hpcsera.InvalidField},
		"a set that is not": {hpcsera.TokenWish{Project: "cfd", Client: "cli", For: "all"}, hpcsera.InvalidField},
		"for ever":          {hpcsera.TokenWish{Project: "cfd", Client: "cli", For: "ci", Days: 91}, hpcsera.LimitExceeded},
	} {
		_, err := alice.RequestToken(t.Context(), c.wish)
		refusedWith(t, name, err, c.want)
	}
	asked, err := alice.RequestToken(t.Context(), hpcsera.TokenWish{Project: "cfd", Client: "ci", For: "ci", Site: "lab", Days: 3})
	if err != nil || asked.URL == "" || len(d.wishes.filed) != 1 {
		t.Fatalf("got %+v (%v), %d wishes", asked, err, len(d.wishes.filed))
	}
	if w := d.wishes.filed[0]; w.User != "alice" || w.Project != "cfd" || w.Client != "ci" || w.Site != "lab" || w.Roles != hpcsera.Presets["ci"] || time.Until(w.Expires) > 73*time.Hour {
		t.Errorf("the wish is %+v", w)
	}
	if list, err := alice.Tokens(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("a wish alone makes %d tokens (%v), want 0", len(list), err)
	}
}

func TestAnAgentRenewsItsCredentialByItsKey(t *testing.T) {
	d := newDeployment(t)
	enrolled := d.enrolled("alice", "cfd")
	agent := enrolled.agent()
	d.call(d.token(everyone), "POST", "/api/v1/agents/"+agent.ID()+"/renew", nil).refused(t, 404, hpcsera.NotFound, "")
	instance, term, epoch := hpcsera.NewID("i"), int64(0), int64(0)
	work := func(a *client.Agent) error {
		answer, err := a.Work(t.Context(), hpcsera.WorkRequest{Instance: instance, Term: term, Epoch: epoch})
		if err == nil {
			term, epoch = answer.Term, answer.Epoch
		}
		return err
	}
	renewed, err := agent.Renew(t.Context())
	must(t, err)
	must(t, work(agent))
	next, err := client.NewAgent(d.url, renewed.Credential, enrolled.key, d.web.Transport)
	must(t, err)
	must(t, work(next))
	refusedWith(t, "the old credential, after the new one was used", work(agent), hpcsera.TokenInvalid)
	other, _ := d.keyed("thief")
	thief, err := client.NewAgent(d.url, renewed.Credential, other, d.web.Transport)
	must(t, err)
	refusedWith(t, "the new credential with another key", work(thief), hpcsera.DPoPRequired)
	list, err := d.access.Agents(t.Context(), auth.OperatorOnHost(), access.Filter{})
	if err != nil || len(list) != 1 || !list[0].Expires.Equal(renewed.Expires) {
		t.Errorf("got %v (%v), want the same end as before", list, err)
	}
}
