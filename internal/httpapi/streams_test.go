package httpapi_test

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// approved submits a job whose code alice has approved.
func (d *deployment) approved(token string) hpcsera.Job {
	d.t.Helper()
	spec := script("hello")
	job := as[hpcsera.Job](d.t, d.call(token, "POST", "/api/v1/jobs", spec), 201)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	must(d.t, err)
	signer, err := ssh.NewSignerFromKey(private)
	must(d.t, err)
	agents, err := d.access.Agents(d.t.Context(), auth.OperatorOnHost(), access.Filter{User: "alice"})
	must(d.t, err)
	statement, err := approval.ForManifest(spec.Manifest, spec.RunPart, approval.Options{
		Deployment: d.url, User: "alice", Project: "cfd", Sites: []string{"lab"}, Agents: []string{agents[0].Thumbprint},
	})
	must(d.t, err)
	text, err := statement.Canonical()
	must(d.t, err)
	signature, err := approval.SignSSH(signer, statement)
	must(d.t, err)
	filed := as[hpcsera.Approval](d.t, d.call(token, "POST", "/api/v1/approvals", hpcsera.ApprovalRequest{Statement: text, Signature: signature}), 201)
	if got := as[hpcsera.Approval](d.t, d.call(token, "GET", "/api/v1/approvals/"+filed.ID, nil), 200); got.Signature != signature {
		d.t.Errorf("the approval on file: got signature %q, want %q", got.Signature, signature)
	}
	return job
}

// events reads a stream of events.
type events struct {
	t   *testing.T
	res *http.Response
	in  *bufio.Scanner
}

func (d *deployment) stream(token, path string, header ...string) *events {
	t := d.t.(*testing.T)
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", d.url+path, nil)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := d.web.Do(r)
	must(t, err)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: got %d %s, want a stream", path, res.StatusCode, res.Header.Get("Content-Type"))
	}
	t.Cleanup(func() { res.Body.Close() })
	return &events{t: t, res: res, in: bufio.NewScanner(res.Body)}
}

// next returns the next event, or false at the end of the stream.
func (s *events) next() (hpcsera.Event, bool) {
	s.t.Helper()
	var id, kind string
	for s.in.Scan() {
		switch name, text, _ := strings.Cut(s.in.Text(), ": "); name {
		case "id":
			id = text
		case "event":
			kind = text
		case "data":
			var e hpcsera.Event
			must(s.t, json.Unmarshal([]byte(text), &e))
			if fmt.Sprint(e.Seq) != id || e.Type != kind {
				s.t.Errorf("event %+v came with id %q and type %q", e, id, kind)
			}
			return e, true
		}
	}
	if err := s.in.Err(); err != nil {
		s.t.Fatalf("the stream broke: %v", err)
	}
	return hpcsera.Event{}, false
}

func TestAStreamOfEventsMissesNothingAndEndsWithItsJob(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	job := d.submitted(token)
	all := d.stream(token, "/api/v1/events")
	mine := d.stream(token, jobPath(job, "/events"))
	first, _ := mine.next()
	if first.Job != job.ID || first.State != hpcsera.Pending {
		t.Fatalf("first: got %+v, want the job's beginning", first)
	}
	as[hpcsera.Job](t, d.call(token, "PATCH", jobPath(job, ""), `{"hold":true}`), 200)
	as[hpcsera.Job](t, d.call(token, "PATCH", jobPath(job, ""), `{"hold":false}`), 200)
	final := as[hpcsera.Job](t, d.call(token, "DELETE", jobPath(job, ""), nil), 200)
	if final.State != hpcsera.Cancelled {
		t.Fatalf("cancelled: got %s", final.State)
	}
	var seen []int64
	for e, ok := mine.next(); ok; e, ok = mine.next() {
		seen = append(seen, e.Seq)
	}
	if len(seen) < 3 || seen[len(seen)-1] != final.Version {
		t.Errorf("the job's stream: got %v, want hold, release and the end at %d", seen, final.Version)
	}
	for _, want := range seen {
		if e, ok := all.next(); !ok || e.Seq != want {
			t.Errorf("the stream of all: got %+v, %v, want seq %d", e, ok, want)
		}
	}
	// A reader comes back behind the first event and in the middle.
	again := d.stream(token, jobPath(job, "/events"), "Last-Event-ID", fmt.Sprint(first.Seq))
	for _, want := range seen {
		if e, ok := again.next(); !ok || e.Seq != want {
			t.Errorf("resumed: got %+v, %v, want seq %d", e, ok, want)
		}
	}
	if _, ok := d.stream(token, jobPath(job, "/events"), "Last-Event-ID", fmt.Sprint(final.Version)).next(); ok {
		t.Error("a stream behind the last event of a final job went on")
	}
	page := as[hpcsera.EventList](t, d.call(token, "GET", fmt.Sprintf("/api/v1/events?after=%d&limit=2", first.Seq), nil), 200)
	if len(page.Events) != 2 || page.Events[0].Seq != seen[0] || page.Next != page.Events[1].Seq {
		t.Errorf("a page: got %+v, want two events from seq %d", page, seen[0])
	}
}

func TestAStreamEndsWhenItsTokenIsRevoked(t *testing.T) {
	d := newDeployment(t)
	token, other := d.token(everyone), d.token(everyone)
	job := d.submitted(token)
	streams := []*events{d.stream(token, "/api/v1/events"), d.stream(token, jobPath(job, "/events"))}
	if a := d.call(token, "DELETE", "/api/v1/tokens/self", nil); a.status != 204 {
		t.Fatalf("give the token up: got %d %s", a.status, a.body)
	}
	for _, s := range streams {
		for _, ok := s.next(); ok; _, ok = s.next() {
		}
	}
	d.call(token, "GET", "/api/v1/tokens/self", nil).refused(t, 401, hpcsera.TokenInvalid, "")
	if a := d.call(other, "GET", "/api/v1/tokens/self", nil); a.status != 200 {
		t.Errorf("another token: got %d, want 200", a.status)
	}
}

func TestAStopEndsStreamsAndLongPollsInOrder(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	job := d.submitted(token)
	s := d.stream(token, "/api/v1/events")
	agent := d.agent()
	polled, waited, sent := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() {
		answer, err := agent.Work(t.Context(), hpcsera.WorkRequest{Instance: hpcsera.NewID("i"), Free: 1, Wait: 60})
		if err == nil && !answer.Stopping {
			err = fmt.Errorf("the poll ended without a word that the server stops: %+v", answer)
		}
		polled <- err
	}()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+jobPath(job, fmt.Sprintf("?wait=60&since=%d", job.Version)), nil)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	go func() {
		res, err := d.web.Do(r)
		if err == nil {
			defer res.Body.Close()
			if res.StatusCode != http.StatusOK {
				err = fmt.Errorf("got %s, want the job as it is", res.Status)
			}
		}
		waited <- err
	}()
	<-sent
	eventually(t, "the agent to poll", func() bool { return agentSeen(d) })
	d.stop()
	if err := <-polled; err != nil {
		t.Errorf("the agent's poll: %v", err)
	}
	if err := <-waited; err != nil {
		t.Errorf("the client's wait: %v", err)
	}
	if _, ok := s.next(); ok {
		t.Error("the stream went on after the stop")
	}
}

// agentSeen reports whether an agent's poll has arrived.
func agentSeen(d *deployment) bool {
	agents, err := d.access.Agents(d.t.Context(), auth.OperatorOnHost(), access.Filter{})
	return err == nil && len(agents) == 1 && agents[0].LastSeen != nil
}

func TestAWaitEndsWithTheChange(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	job := d.submitted(token)
	waited := make(chan answer, 1)
	go func() {
		waited <- d.call(token, "GET", jobPath(job, fmt.Sprintf("?wait=60&since=%d", job.Version)), nil)
	}()
	as[hpcsera.Job](t, d.call(token, "PATCH", jobPath(job, ""), `{"hold":true}`), 200)
	if got := as[hpcsera.Job](t, <-waited, 200); got.State != hpcsera.Held || got.Version <= job.Version {
		t.Errorf("after the change: got %s at version %d, want held above %d", got.State, got.Version, job.Version)
	}
	if got := as[hpcsera.Job](t, d.call(token, "GET", jobPath(job, "?wait=1"), nil), 200); got.State != hpcsera.Held {
		t.Errorf("without a change: got %s, want the job as it is", got.State)
	}
}

func TestAgentsProveTheirKeyOnEveryRequest(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	agent := d.agent()
	work := hpcsera.WorkRequest{Instance: hpcsera.NewID("i"), Free: 1}
	if _, err := agent.Work(t.Context(), work); err != nil {
		t.Fatalf("with a proof: %v", err)
	}
	path := "/api/v1/agents/" + agent.ID() + "/work"
	made, err := d.access.Agents(t.Context(), auth.OperatorOnHost(), access.Filter{})
	must(t, err)
	credential, _ := hpcsera.NewSecret(made[0].ID)
	a := d.call("", "POST", path, work, "Authorization", "DPoP "+credential)
	if a.status != 401 || a.header.Get("DPoP-Nonce") == "" || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "DPoP ") {
		t.Errorf("without a proof: got %d, nonce %q, %q, want 401 with both headers", a.status, a.header.Get("DPoP-Nonce"), a.header.Get("WWW-Authenticate"))
	}
	d.call(token, "POST", path, work).refused(t, 404, hpcsera.NotFound, "")
	d.call("", "POST", path, work, "Authorization", "Bearer "+credential).refused(t, 401, hpcsera.Unauthenticated, "")
	if _, err := agent.Work(t.Context(), hpcsera.WorkRequest{Instance: work.Instance, Wait: 61}); hpcsera.CodeOf(err) != hpcsera.InvalidField {
		t.Errorf("a wait of 61 s: got %v, want invalid_field", err)
	}
}
