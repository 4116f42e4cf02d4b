package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// asked is what a user knows of a job: see test/chaoscheck.
type asked struct {
	Job       string    `json:"job"`
	Requeue   bool      `json:"requeue"`
	Exit      int       `json:"exit"`
	Endless   bool      `json:"endless"`
	Cancelled bool      `json:"cancelled"`
	Held      bool      `json:"held"`
	Released  time.Time `json:"released,omitzero"`
}

// program is the script of a campaign's job: it leaves a line with one write
// when it begins and when it ends, where no fault reaches, and a file.
func program(markers string, seconds, exit int) string {
	return fmt.Sprintf(`#!/bin/bash
say() { echo "$1 $HPCSERA_JOB_ID $HPCSERA_ATTEMPT $$ $(hostname) ${SLURM_JOB_ID:-$JOB_ID} $EPOCHREALTIME $2 $3" >>%s; }
say begin
sleep %d
status=%d
seq -f "$HPCSERA_JOB_ID $HPCSERA_ATTEMPT %%.0f" 3000 >result.txt || status=9
digest=$(sha256sum <result.txt | cut -d' ' -f1)
say end $status "${digest:-none}"
exit $status
`, markers, seconds, exit)
}

// variety are the codes that jobs run.
var variety = []struct {
	name          string
	seconds, exit int
	endless       bool
}{
	{"at-once", 0, 0, false}, {"short", 2, 0, false}, {"long", 8, 0, false}, {"fails", 1, 3, false}, {"endless", 3600, 0, true},
}

// codes signs all of them.
func (c *campaign) signCodes() {
	for _, v := range variety {
		m := manifest(v.name, program(c.markers, v.seconds, v.exit))
		m.Limits = wide
		m.Artifacts = []hpcsera.ArtifactPattern{{Path: "result.txt"}}
		c.codes = append(c.codes, c.l.approve(c.t, m))
	}
}

// ask makes a request until it gets an answer that is one: no fault of the way
// or of the server is.
func (c *campaign) ask(method, path string, in any, header ...string) (status int, text []byte) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			c.t.Error(err)
			return 0, nil
		}
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		res, text, err := c.d.tryWithin(30*time.Second, method, path, body, header)
		if err != nil || res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests {
			continue
		}
		if res.StatusCode == http.StatusUnauthorized {
			continue // its token was revoked by a restore; another one comes
		}
		if res.StatusCode == http.StatusNotFound && restorable(c) && !strings.Contains(path, "/artifacts/") {
			c.repeat() // nobody but its user may know of the job
			continue
		}
		return res.StatusCode, text
	}
	c.t.Errorf("%s %s got no answer in %v", method, path, patience)
	return 0, nil
}

// fulfil does what a user wishes.
func (c *campaign) fulfil(n int, w wish) {
	key := fmt.Sprintf("chaos-%s-%d-%d", c.name, c.plan.seed, n)
	switch w.verb {
	case "submit": // one by one, as tools do: like jobs that come together go as one array
		for i := range w.many {
			c.submit(fmt.Sprintf("%s-%d", key, i), w.dice, 0)
		}
	case "bulk":
		c.submit(key, w.dice, w.many)
	case "cancel", "hold", "release":
		if a := c.pick(w.dice, func(*asked) bool { return true }); a != nil {
			c.want(w.verb, a)
		}
	case "retry":
		if a := c.pick(w.dice, func(a *asked) bool { return !a.Endless }); a != nil {
			c.retry(key, a)
		}
	}
}

// submit hands in one job, or many at once.
func (c *campaign) submit(key string, dice uint64, many int) {
	v := variety[dice%uint64(len(variety))]
	a := asked{Exit: v.exit, Endless: v.endless, Requeue: dice>>8%2 == 0, Held: dice>>16%8 == 0}
	spec := hpcsera.JobSpec{Code: c.codes[dice%uint64(len(variety))], RunPart: hpcsera.RunPart{Site: "lab", Requeue: a.Requeue, Hold: a.Held}}
	var in any = jobBody(c.t, spec)
	if many > 0 {
		list := make([]any, many)
		for i := range list {
			list[i] = in
		}
		in = map[string]any{"jobs": list}
	}
	status, text := c.ask("POST", "/jobs", in, "Idempotency-Key", key)
	c.remember(request{"POST", "/jobs", in, key})
	if status != http.StatusCreated {
		c.t.Errorf("POST /jobs: %d %s", status, text)
		return
	}
	var answer struct {
		ID   string
		Jobs []struct{ ID string }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		c.t.Errorf("POST /jobs: %v in %s", err, text)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if many == 0 {
		answer.Jobs = append(answer.Jobs, struct{ ID string }{answer.ID})
	}
	for _, j := range answer.Jobs {
		one := a
		one.Job = j.ID
		c.asked = append(c.asked, &one)
	}
}

// remember keeps what a user hands in again after a restore.
func (c *campaign) remember(r request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, r)
}

func (c *campaign) pick(dice uint64, fits func(*asked) bool) *asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*asked
	for _, a := range c.asked {
		if fits(a) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[dice%uint64(len(list))]
}

// want cancels, holds or releases a job; a refusal is an answer.
func (c *campaign) want(verb string, a *asked) {
	method, body := "PATCH", any(map[string]any{"hold": verb == "hold"})
	switch verb {
	case "cancel":
		method, body = "DELETE", nil
	case "release":
		c.mu.Lock()
		if a.Released.IsZero() {
			a.Released = time.Now()
		}
		c.mu.Unlock()
	}
	status, text := c.ask(method, "/jobs/"+a.Job, body)
	var j hpcsera.Job
	if status/100 != 2 || json.Unmarshal(text, &j) != nil {
		if status != http.StatusConflict {
			c.t.Errorf("%s of job %s: %d %s", verb, a.Job, status, strings.TrimSpace(string(text)))
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if verb == "cancel" && (!j.State.Final() || j.State == hpcsera.Cancelled) {
		a.Cancelled = true
	}
}

func (c *campaign) retry(key string, a *asked) {
	status, text := c.ask("POST", "/jobs/"+a.Job+"/retry", nil, "Idempotency-Key", key)
	if status == http.StatusConflict {
		return // it has not ended
	}
	var j hpcsera.Job
	if err := json.Unmarshal(text, &j); status != http.StatusCreated || err != nil {
		c.t.Errorf("retry of job %s: %d %s", a.Job, status, text)
		return
	}
	c.remember(request{"POST", "/jobs/" + a.Job + "/retry", nil, key})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, &asked{Job: j.ID, Exit: a.Exit, Requeue: a.Requeue, Held: j.Desired == hpcsera.DesiredHold})
}
