package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/syslog"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Finding is one line of the doctor's report.
type Finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`            // what it is like
	Advice string `json:"advice,omitempty"` // what to do, when not OK
}

// Doctor examines a site without touching any job: it needs no journal and
// takes no term, so it can run beside the agent.
type Doctor struct {
	Config Config
	HTTP   http.RoundTripper
	API    *client.Agent // nil before the agent is enrolled
	Batch  System
	Binary string
	// Version is the agent's, and Account the user's on this system: a site may
	// let only some of them start jobs.
	Version string
	Account string
	Site    policy.SiteFiles
	Syslog  string // socket of this host's log
	Submit  bool   // run one small batch job, which is the only way to see the spool from a compute node
	// Job gives that job what this site wants, such as a queue; it may be nil.
	Job  func(*scheduler.Submission)
	Tell func(Finding)
}

// Examine makes every check and tells each finding as it comes. It returns
// whether all were OK.
func (d *Doctor) Examine(ctx context.Context) bool {
	all := true
	for _, check := range []func(context.Context) Finding{d.state, d.server, d.credential, d.enrolment, d.trust, d.site, d.hostLog, d.batch, d.spoolSpeed, d.spoolShared} {
		f := check(ctx)
		if f.Check == "" {
			continue
		}
		all = all && f.OK
		d.Tell(f)
	}
	return all
}

func bad(check, advice string, err error) Finding {
	return Finding{Check: check, Found: err.Error(), Advice: advice}
}

func (d *Doctor) state(context.Context) Finding {
	if err := ownDir(d.Config.StateDir); err != nil {
		return bad("state", "Keep it for yourself alone; it holds this agent's key.", err)
	}
	if _, err := os.Stat(filepath.Join(d.Config.StateDir, "credential")); errors.Is(err, fs.ErrNotExist) {
		return Finding{Check: "state", Found: "this agent has no credential, so no server knows it", Advice: "Type: hpcsera-agent enroll"}
	} else if err != nil {
		return bad("state", "Keep it readable for yourself; it holds this agent's credential.", err)
	}
	return Finding{Check: "state", OK: true, Found: d.Config.StateDir}
}

// server asks for the server's health; the answer's Date tells its clock.
func (d *Doctor) server(ctx context.Context) Finding {
	const advice = "Check server, ca_file and HTTPS_PROXY; the agent needs outgoing HTTPS only."
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Config.Server+"/healthz", nil)
	if err != nil {
		return bad("server", advice, err)
	}
	began := time.Now()
	res, err := (&http.Client{Transport: d.HTTP}).Do(req)
	if err != nil {
		return bad("server", advice, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	took := time.Since(began)
	if res.StatusCode != http.StatusOK {
		return bad("server", "Tell the operator.", fmt.Errorf("%s answers %s", d.Config.Server, res.Status))
	}
	found := fmt.Sprintf("%s answers in %v", d.Config.Server, took.Round(time.Millisecond))
	date, err := http.ParseTime(res.Header.Get("Date"))
	if err != nil {
		return Finding{Check: "server", OK: true, Found: found}
	}
	if skew := time.Since(date); math.Abs(skew.Seconds()) > 30 {
		return Finding{Check: "clock", Found: fmt.Sprintf("%s; the clocks differ by %v", found, skew.Round(time.Second)),
			Advice: "The agent's proofs carry the time and are refused beyond a minute: set this host's clock (NTP)."}
	}
	return Finding{Check: "server", OK: true, Found: found + "; clocks agree"}
}

// credential asks the server whether it accepts this agent: nothing else shows
// an enrolment that was removed or has ended.
func (d *Doctor) credential(ctx context.Context) Finding {
	if d.API == nil {
		return Finding{} // told already
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	err := d.API.Enrolled(ctx)
	switch hpcsera.CodeOf(err) {
	case "":
		return Finding{Check: "credential", OK: true, Found: "the server accepts " + d.API.ID()}
	case hpcsera.TokenInvalid, hpcsera.Unauthenticated, hpcsera.Forbidden:
		return bad("credential", "The operator removed this agent, its user or its site, or it has ended (hpcserad agent list). "+
			"Type: hpcsera-agent enroll --replace", err)
	case hpcsera.DPoPRequired:
		return bad("credential", "The credential was made for another key or another server URL: compare `hpcsera-agent status` with `hpcserad agent list`, and server with the operator's public_url.", err)
	case hpcsera.Unavailable:
		return bad("credential", "Not known before the server answers; see above.", err)
	}
	return bad("credential", "Tell the operator.", err)
}

// enrolment holds the settings against what was granted: they may have been
// written, or changed, for something else.
func (d *Doctor) enrolment(context.Context) Finding {
	if d.API == nil {
		return Finding{} // told already
	}
	e := readEnrolment(d.Config.StateDir, d.API.ID())
	if err := e.differs(d.Config); err != nil {
		return bad("enrolment", "Mend agent.yaml and start the agent again, or have granted what it says: hpcsera-agent enroll --replace", err)
	}
	if e.User == "" {
		return Finding{} // an operator made it
	}
	return Finding{Check: "enrolment", OK: true, Found: fmt.Sprintf("for %s at %s, projects %s", e.User, e.Site, strings.Join(e.Projects, ", "))}
}

// trust says whose signature could make anything run.
func (d *Doctor) trust(context.Context) Finding {
	keys, err := policy.Outlook(filepath.Join(d.Config.StateDir, "trust.yaml"), d.context())
	if err != nil {
		advice := "See hpcsera-agent trust list."
		var e *hpcsera.Error
		if errors.As(err, &e) && e.Advice != "" {
			advice, err = e.Advice, errors.New(e.Message)
		}
		return bad("trust", advice, err)
	}
	return Finding{Check: "trust", OK: true, Found: "code runs by the word of " + strings.Join(keys, ", ")}
}

// context is what the judgement of a job starts from, but for the job.
func (d *Doctor) context() policy.Context {
	return policy.Context{
		Deployment: d.Config.Server, User: d.Config.User, Site: d.Config.Site, Projects: d.Config.Projects, Now: time.Now(),
		Unsigned: d.Config.Trust.Code == codeServer, Version: d.Version, Account: d.Account, Files: d.Site,
	}
}

// site says what the site's policy lets start.
func (d *Doctor) site(context.Context) Finding {
	s, err := d.Site.Policy()
	if err != nil {
		return bad("site policy", "Tell the site's administrators: nothing starts until the file is theirs alone and can be read.", err)
	}
	if s.Mode != policy.Normal {
		return bad("site policy", "Wait, or ask the site's administrators.", fmt.Errorf("mode %s: nothing starts. %s", s.Mode, s.Message))
	}
	if err := s.Open(d.context()); err != nil {
		return bad("site policy", "Nothing starts here until that fits. Where it is not yours to mend, ask the site's administrators.", err)
	}
	return Finding{Check: "site policy", OK: true, Found: "lets jobs start"}
}

// hostLog never fails: starts go on without it.
func (d *Doctor) hostLog(context.Context) Finding {
	if err := syslog.Probe(d.Syslog); err != nil {
		return Finding{Check: "syslog", OK: true, Found: fmt.Sprintf("nobody listens at %s (%v), so the site is not told of starts; they go on", d.Syslog, err)}
	}
	return Finding{Check: "syslog", OK: true, Found: "every start is told to " + d.Syslog}
}

func (d *Doctor) batch(ctx context.Context) Finding {
	began := time.Now()
	facts, err := d.Batch.Probe(ctx)
	if err != nil {
		return bad("scheduler", "Check scheduler and commands in agent.yaml; the same commands must work in your shell.", err)
	}
	queues := ""
	for _, q := range facts.Queues {
		queues += " " + q.Name
	}
	return Finding{Check: "scheduler", OK: true, Found: fmt.Sprintf("%s answers in %v; queues:%s; MPI launch line: %s",
		strings.TrimSpace(d.Batch.System()+" "+facts.Version), time.Since(began).Round(time.Millisecond), cmp.Or(queues, " none are told"),
		cmp.Or(d.Config.Launcher, "none, so launcher: mpi is refused"))}
}
