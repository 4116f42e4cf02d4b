package agent

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
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
	Batch  System
	Binary string
	Submit bool // run one small batch job, which is the only way to see the spool from a compute node
	Tell   func(Finding)
}

// Examine makes every check and tells each finding as it comes. It returns
// whether all were OK.
func (d *Doctor) Examine(ctx context.Context) bool {
	all := true
	for _, check := range []func(context.Context) Finding{d.state, d.server, d.batch, d.spoolSpeed, d.spoolShared} {
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
	if _, err := os.Stat(filepath.Join(d.Config.StateDir, "credential")); err != nil {
		return bad("state", "Type: hpcsera-agent enroll", err)
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
	return Finding{Check: "scheduler", OK: true,
		Found: fmt.Sprintf("%s %s answers in %v; queues:%s", d.Batch.System(), facts.Version, time.Since(began).Round(time.Millisecond), queues)}
}

// spoolSpeed measures what a start claim and an inbox listing cost here.
func (d *Doctor) spoolSpeed(context.Context) Finding {
	s, err := spool.Open(d.Config.SpoolDir)
	if err != nil {
		return bad("spool", "Name a folder of yours that login and compute nodes share: spool_dir.", err)
	}
	job := hpcsera.NewID("j")
	defer func() { _ = s.Remove(job, nil) }() // a leftover is a few bytes
	began := time.Now()
	_, won, err := s.Take(job, 0, 1, spool.Claim{Owner: spool.OwnerAgent, Tag: "doctor", At: time.Now().UTC()})
	claim := time.Since(began)
	if err != nil || !won {
		return bad("spool", "Its file system must have hard links (link(2)); choose another spool_dir.", fmt.Errorf("a start claim cannot be taken: %w", err))
	}
	if _, won, _ := s.Take(job, 0, 1, spool.Claim{Owner: spool.OwnerAgent, Tag: "doctor"}); won {
		return bad("spool", "Choose another spool_dir.", fmt.Errorf("two claims on one start were both granted; jobs could run twice here"))
	}
	began = time.Now()
	if _, err := s.Rings("doctor"); err != nil {
		return bad("spool", "Check quota and rights of spool_dir.", err)
	}
	return Finding{Check: "spool", OK: true, Found: fmt.Sprintf("%s: start claim %v, inbox listing %v", s.Dir(), claim.Round(10*time.Microsecond), time.Since(began).Round(10*time.Microsecond))}
}

// spoolShared runs an empty step through the batch system and waits for its
// records.
func (d *Doctor) spoolShared(ctx context.Context) Finding {
	if !d.Submit {
		return Finding{}
	}
	const advice = "spool_dir and work_root must be on a file system that the compute nodes see under the same path."
	s, err := spool.Open(d.Config.SpoolDir)
	if err != nil {
		return Finding{} // told already
	}
	job, tag := hpcsera.NewID("j"), hpcsera.NewID("s")
	defer func() { _ = s.Remove(job, []string{tag}) }()
	binary, err := s.Binary(d.Binary)
	if err != nil {
		return bad("spool shared", "Check quota and rights of spool_dir.", err)
	}
	env := d.Batch.Environment()
	err = s.PutTask(spool.Task{Job: job, Directory: s.Dir(), Argv: []string{"/bin/true"}})
	if err != nil {
		return bad("spool shared", "Check quota and rights of spool_dir.", err)
	}
	script, output, err := s.PutSubmission(spool.Submission{Tag: tag, Members: []spool.Member{{Job: job, N: 1, Attempt: 1}},
		IDVariables: env.ID, IndexVariable: env.Index, ClusterVariable: env.Cluster}, binary)
	if err != nil {
		return bad("spool shared", "Check quota and rights of spool_dir.", err)
	}
	ref, err := d.Batch.Submit(ctx, scheduler.Submission{Tag: tag, Script: script, Output: output, Directory: s.Dir(), Comment: "hpcsera-agent doctor",
		Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(time.Minute)}})
	if err != nil {
		return bad("spool shared", "The batch system must take a job of one minute without further options.", err)
	}
	began := time.Now()
	for wait := began.Add(2 * time.Minute); time.Now().Before(wait) && ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
		start, _, _, err := s.Latest(job, 0, 1)
		if err == nil && start != nil && start.End != nil {
			return Finding{Check: "spool shared", OK: true,
				Found: fmt.Sprintf("job %s ran on %s; its end record was seen after %v", ref.ID, start.Host, time.Since(began).Round(100*time.Millisecond))}
		}
	}
	answer, err := d.Batch.Statuses(ctx, []scheduler.Ref{ref})
	_ = d.Batch.Act(ctx, scheduler.Cancel, []scheduler.Ref{ref})
	if st, ok := answer[ref]; err == nil && ok && st.Phase != scheduler.PhaseEnded {
		return Finding{Check: "spool shared", Found: fmt.Sprintf("not known: job %s is still %s (%s) after two minutes and was cancelled", ref.ID, st.Native, st.Message),
			Advice: "Try again when the queue is shorter."}
	}
	return bad("spool shared", advice, fmt.Errorf("job %s has ended, but left no record in %s. %s", ref.ID, s.Dir(), s.OutputTail(tag, 500)))
}
