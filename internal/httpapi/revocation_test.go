package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// ends are the ways in which access ends; token is whose id is named, agent
// the agent's.
var ends = map[string]struct {
	tokens, agents bool // whose access ends
	by             func(ctx context.Context, a *access.Service, token, agent string) error
}{
	"the token is revoked": {true, false, func(ctx context.Context, a *access.Service, token, _ string) error {
		return one(a.RevokeToken(ctx, auth.OperatorOnHost(), access.Revocation{ID: token}))
	}},
	"the user is disabled": {true, true, func(ctx context.Context, a *access.Service, _, _ string) error {
		return one(a.SetUser(ctx, auth.OperatorOnHost(), access.Switch{Name: "alice", Disabled: true}))
	}},
	"the client is disabled": {true, false, func(ctx context.Context, a *access.Service, _, _ string) error {
		return one(a.SetClient(ctx, auth.OperatorOnHost(), access.Switch{Name: "cli", Disabled: true}))
	}},
	"the member is removed": {true, false, func(ctx context.Context, a *access.Service, _, _ string) error {
		return one(a.SetMember(ctx, auth.OperatorOnHost(), access.NewMember{Project: "cfd", User: "alice"}))
	}},
	"the agent is removed": {false, true, func(ctx context.Context, a *access.Service, _, agent string) error {
		return one(a.RemoveAgent(ctx, auth.OperatorOnHost(), access.Removal{ID: agent, Abandon: true}))
	}},
}

func idOf(secret string) string {
	id, _, _ := hpcsera.ParseSecret(secret)
	return id
}

func TestARevocationHoldsOnEveryReplicaFromTheNextRequest(t *testing.T) {
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(d *deployment, replicas [2]replica) {
				token, agent := d.token(everyone), d.enrolled("alice", "cfd")
				ask := func(r replica) (asToken, asAgent int) {
					on := d.at(d.t.(*testing.T), r)
					agent.d = on
					path := "/api/v1/agents/" + agent.id + "/work"
					return on.call(token, "GET", "/api/v1/jobs", nil).status,
						agent.direct("POST", path, probe{body: hpcsera.WorkRequest{Instance: "i_00000000000000000001"}}).status
				}
				for i, r := range replicas {
					if asToken, asAgent := ask(r); asToken != 200 || asAgent != 200 {
						d.t.Errorf("replica %d, before: the token got %d and the agent %d, want 200", i, asToken, asAgent)
					}
				}
				must(d.t, end.by(d.t.Context(), replicas[0].access, idOf(token), agent.id))
				want := map[bool]int{true: 401, false: 200}
				for i, r := range replicas {
					if asToken, asAgent := ask(r); asToken != want[end.tokens] || asAgent != want[end.agents] {
						d.t.Errorf("replica %d, after: the token got %d and the agent %d, want %d and %d", i, asToken, asAgent, want[end.tokens], want[end.agents])
					}
				}
			})
		})
	}
}

// open is a request that lasts, and the moment of its end.
type open struct {
	name  string
	ended chan struct{}
	last  string // the status, or how it was cut
}

// opened starts a request and reads what comes until it ends.
func (d *deployment) opened(name string, authorize func(*http.Request), method, path, body string) *open {
	d.t.Helper()
	o := &open{name: name, ended: make(chan struct{})}
	r, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, strings.NewReader(body))
	must(d.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if strings.HasSuffix(path, "/events") {
		r.Header.Set("Accept", "text/event-stream")
	}
	authorize(r)
	go func() {
		defer close(o.ended)
		res, err := d.web.Do(r)
		if err != nil {
			o.last = err.Error()
			return
		}
		defer res.Body.Close()
		o.last = fmt.Sprint(res.StatusCode)
		lines := bufio.NewReader(res.Body)
		for err == nil {
			_, err = lines.ReadString('\n')
		}
		if err != io.EOF {
			o.last = "cut: " + err.Error()
		}
	}()
	return o
}

func (o *open) over() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

func TestWhatIsOpenEndsWithinFiveSecondsOfARevocationOnEveryReplica(t *testing.T) {
	for name, end := range ends {
		for _, busy := range []time.Duration{0, 1500 * time.Millisecond, 3900 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s, something happens every %v", name, busy), func(t *testing.T) {
				inBubble(t, func(d *deployment, replicas [2]replica) {
					t := d.t.(*testing.T)
					token, agent := d.token(everyone), d.enrolled("alice", "cfd")
					must(t, one(d.access.SetMember(t.Context(), auth.OperatorOnHost(), access.NewMember{Project: "cfd", User: "bob", Role: hpcsera.Owner})))
					other := d.tokenOf(access.NewToken{User: "bob", Project: "cfd", Client: "ci", Scope: hpcsera.ProjectScope, Roles: everyone})
					job := d.submitted(token)
					instance := hpcsera.NewID("i")
					var client, agents []*open
					bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
					for i, r := range replicas {
						on := d.at(t, r)
						start := func(what, path string) {
							client = append(client, on.opened(fmt.Sprintf("%s at replica %d", what, i), bearer, "GET", path, ""))
						}
						start("the events", "/api/v1/events")
						start("a job's events", jobPath(job, "/events"))
						start("a followed log", jobPath(job, "/logs/stdout?follow=true"))
						start("a wait", jobPath(job, "?wait=60&since=1000000"))
						agent.d = on
						work := "/api/v1/agents/" + agent.id + "/work"
						agent.direct("POST", work, probe{body: hpcsera.WorkRequest{Instance: instance}}) // brings a nonce
						proven := func(r *http.Request) {
							r.Header.Set("Authorization", "DPoP "+agent.credential)
							r.Header.Set("DPoP", agent.proof("POST", work))
						}
						agents = append(agents, on.opened(fmt.Sprintf("the agent's poll at replica %d", i), proven, "POST", work,
							fmt.Sprintf(`{"instance":%q,"term":0,"epoch":0,"acked":"","free":1,"wait":60}`, instance)))
					}
					ctx, quiet := context.WithCancel(t.Context())
					noise := make(chan struct{})
					go func() {
						defer close(noise)
						d.noise(ctx, other, job, busy)
					}()
					time.Sleep(9700 * time.Millisecond) // of the bubble
					synctest.Wait()
					for _, o := range append(client, agents...) {
						if o.over() {
							t.Errorf("%s ended before the revocation: %s", o.name, o.last)
						}
					}
					must(t, end.by(t.Context(), replicas[0].access, idOf(token), agent.id))
					time.Sleep(5 * time.Second)
					synctest.Wait()
					check := func(list []*open, ended bool) {
						for _, o := range list {
							if o.over() != ended {
								t.Errorf("%s, five seconds later: over is %v, want %v (%s)", o.name, o.over(), ended, o.last)
							}
						}
					}
					check(client, end.tokens)
					check(agents, end.agents)
					quiet()
					<-noise
				})
			})
		}
	}
}

func TestWhoWaitsIsToldNothingOfWhatHappensAfterTheRevocation(t *testing.T) {
	inBubble(t, func(d *deployment, replicas [2]replica) {
		t := d.t.(*testing.T)
		token, agent := d.token(everyone), d.enrolled("alice", "cfd")
		must(t, one(d.access.SetMember(t.Context(), auth.OperatorOnHost(), access.NewMember{Project: "cfd", User: "bob", Role: hpcsera.Owner})))
		owner := d.tokenOf(access.NewToken{User: "bob", Project: "cfd", Client: "ci", Scope: hpcsera.ProjectScope, Roles: everyone})
		job := d.approved(token)
		job = as[hpcsera.Job](t, d.call(token, "PATCH", jobPath(job, ""), `{"hold":true}`), 200)
		bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
		wait := d.opened("the wait", bearer, "GET", jobPath(job, fmt.Sprintf("?wait=60&since=%d", job.Version)), "")
		work := "/api/v1/agents/" + agent.id + "/work"
		agent.direct("POST", work, probe{body: hpcsera.WorkRequest{Instance: "i_00000000000000000001"}}) // brings a nonce
		proven := func(r *http.Request) {
			r.Header.Set("Authorization", "DPoP "+agent.credential)
			r.Header.Set("DPoP", agent.proof("POST", work))
		}
		poll := d.opened("the agent's poll", proven, "POST", work, `{"instance":"i_00000000000000000001","term":1,"epoch":0,"acked":"","free":1,"wait":60}`)
		time.Sleep(time.Second)
		must(t, one(replicas[1].access.SetUser(t.Context(), auth.OperatorOnHost(), access.Switch{Name: "alice", Disabled: true})))
		// The job is ready for the agent from here on.
		as[hpcsera.Job](t, d.call(owner, "PATCH", jobPath(job, ""), `{"hold":false}`), 200)
		synctest.Wait()
		for _, o := range []*open{wait, poll} {
			if !o.over() || o.last != "401" {
				t.Errorf("%s: over is %v, got %s, want 401 at once", o.name, o.over(), o.last)
			}
		}
		if got := as[hpcsera.Job](t, d.call(owner, "GET", jobPath(job, ""), nil), 200); got.Agent != "" || got.State != hpcsera.Pending {
			t.Errorf("the job went to %q and is %s, want it to stay pending", got.Agent, got.State)
		}
	})
}

func TestTheAgentOfARemovedMemberServesTheProjectNoMore(t *testing.T) {
	inBubble(t, func(d *deployment, _ [2]replica) {
		t := d.t.(*testing.T)
		token, agent := d.token(everyone), d.enrolled("alice", "cfd")
		blob := "/api/v1/blobs/" + hpcsera.DigestOf([]byte("x"))
		d.call(token, "PUT", blob, []byte("x"))
		d.approved(token)
		work := probe{body: hpcsera.WorkRequest{Instance: "i_00000000000000000001", Free: 1}}
		ask := func() (bytes int, orders int) {
			answer := as[hpcsera.WorkAnswer](t, agent.direct("POST", "/api/v1/agents/"+agent.id+"/work", work), 200)
			return agent.direct("GET", blob, probe{}).status, len(answer.Orders)
		}
		must(t, one(d.access.SetMember(t.Context(), auth.OperatorOnHost(), access.NewMember{Project: "cfd", User: "alice"})))
		if bytes, orders := ask(); bytes != 404 || orders != 0 {
			t.Errorf("removed: the blob got %d, and the agent %d orders, want 404 and none", bytes, orders)
		}
		must(t, one(d.access.SetMember(t.Context(), auth.OperatorOnHost(), access.NewMember{Project: "cfd", User: "alice", Role: hpcsera.Member})))
		if bytes, orders := ask(); bytes != 200 || orders != 1 {
			t.Errorf("a member again: the blob got %d, and the agent %d orders, want 200 and one", bytes, orders)
		}
	})
}

func TestASlowReaderOfALongLogIsCutAsWell(t *testing.T) {
	inBubble(t, func(d *deployment, replicas [2]replica) {
		t := d.t.(*testing.T)
		token := d.token(everyone)
		job, run := d.runningAt(token, d.agent())
		const size = 1 << 20
		must(t, run.PutLog(t.Context(), job.ID, "stdout", 1, 0, bytes.Repeat([]byte("x"), size)))
		r, err := http.NewRequestWithContext(t.Context(), "GET", d.url+jobPath(job, "/logs/stdout?follow=true"), nil)
		must(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := d.web.Do(r)
		must(t, err)
		defer res.Body.Close()
		_, err = res.Body.Read(make([]byte, 100))
		must(t, err)
		must(t, one(replicas[1].access.RevokeToken(t.Context(), auth.OperatorOnHost(), access.Revocation{ID: idOf(token)})))
		time.Sleep(5 * time.Second)
		rest, err := io.Copy(io.Discard, res.Body)
		if err != nil || rest > 128<<10 {
			t.Errorf("after the revocation: got %d of %d bytes (%v), want what was on its way, and the end", rest, size, err)
		}
	})
}

// noise makes something happen to the job now and then, which wakes whoever
// listens.
func (d *deployment) noise(ctx context.Context, token string, job hpcsera.Job, every time.Duration) {
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.call(token, "PUT", jobPath(job, "/status"), `{"message":"still here"}`)
		case <-ctx.Done():
			return
		}
	}
}
