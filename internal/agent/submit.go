package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/failpoint"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// submit holds the job once more against signature, withdrawals and the site's
// policy, since it may have been held, or at earlier steps, for days; then it
// hands it in.
func (e *engine) submit(ctx context.Context, j *job) {
	e.work(j, func() func() {
		_, err := e.agent.verify(*j.spec)
		return func() {
			now := time.Now()
			switch {
			case ctx.Err() != nil: // the agent stops; decided again at the next start
			case err != nil:
				e.stageFailed(j, err)
			case j.decide(now, e.open(now), e.agent.patience).do == doSubmit: // still
				e.handIn(ctx, j)
			}
		}
	})
}

// handIn journals the intent and then calls the submit command. Three answers
// are possible: an id; a certain refusal; anything else, which leaves the
// intent standing and is settled by the start claim.
func (e *engine) handIn(ctx context.Context, j *job) {
	tag := hpcsera.NewID("s")
	e.write(journal.Entry{Kind: journal.KindSubmit, Job: j.id, Step: j.step, N: j.n, Tag: tag})
	j.looked = time.Now() // a new tag on a free start: nobody owns it yet
	e.begin(j, func() func() {
		refs, err := e.agent.handOver(ctx, j, tag)
		failpoint.Hit("agent.after-submit")
		return func() { e.handedOver(j, tag, refs, err) }
	})
}

// handOver writes the submission and runs the submit command. A command that
// runs finishes even when the agent is told to stop: its answer is worth
// waiting for.
func (a *Agent) handOver(ctx context.Context, j *job, tag string) ([]scheduler.Ref, error) {
	select {
	case a.submitSlots <- struct{}{}:
		defer func() { <-a.submitSlots }()
	case <-ctx.Done():
		return nil, &notTried{ctx.Err()}
	}
	open := false
	if err := a.engine.read(ctx, func() { open = a.engine.open(time.Now()) }); err != nil || !open {
		return nil, &notTried{errors.New("the server did not answer lately")} // it waited for long
	}
	if _, err := a.verify(*j.spec); err != nil { // likewise
		return nil, &notTried{err}
	}
	s := j.current()
	system := a.system(s)
	env := system.Environment()
	script, output, err := a.spool.PutSubmission(spool.Submission{
		Tag: tag, Members: []spool.Member{{Job: j.id, Step: j.step, N: j.n, Attempt: j.attempt}},
		IDVariables: env.ID, ClusterVariable: env.Cluster, Pass: env.Pass, Drop: env.Drop,
	}, a.binary)
	if err != nil {
		return nil, &notTried{err}
	}
	sub := scheduler.Submission{
		Tag: tag, Script: script, Directory: a.jobDir(j.id), Output: output, Comment: j.spec.Name,
		Requeue: j.spec.Run.Requeue, Resources: j.spec.Run.Resources, Attributes: j.spec.Run.Attributes,
		Custom: customAttributes(j.verdict.Manifest.CustomAttributes, system.System()),
	}
	if s.Resources != nil {
		sub.Resources = *s.Resources
	}
	if s.Type == hpcsera.LoginStep {
		sub.Resources, sub.Attributes, sub.Requeue, sub.Custom = hpcsera.Resources{}, hpcsera.Attributes{}, false, nil
	}
	failpoint.Hit("agent.before-submit")
	return system.Submit(context.WithoutCancel(ctx), sub)
}

// notTried marks an error of before the submit command: nothing is queued.
type notTried struct{ error }

func (e *engine) handedOver(j *job, tag string, refs []scheduler.Ref, err error) {
	var refused *scheduler.Refused
	var early *notTried
	switch {
	case j.tag != tag: // another instance's submission started the job
		e.leftover[tag] = leftover{since: time.Now(), login: j.current().Type == hpcsera.LoginStep}
	case err == nil:
		ref, now := refs[0], time.Now().UTC()
		native := &hpcsera.Native{System: e.agent.system(j.current()).System(), Cluster: ref.Cluster, ID: ref.ID, Submitted: &now}
		e.write(journal.Entry{Kind: journal.KindSubmitted, Job: j.id, Step: j.step, N: j.n, Tag: tag, Native: native})
		e.log.Info("submitted", "job", j.id, "submission", tag, "native", ref.ID)
		e.agent.witness.start(j.id, ref.ID, j.judged())
		j.tries, j.trouble, j.waiting = 0, "", ""
		e.agent.asker.soon(2 * time.Second)
	case errors.As(err, &refused) && !refused.Throttled:
		e.write(journal.Entry{Kind: journal.KindRefused, Job: j.id, Step: j.step, N: j.n, Tag: tag})
		if !e.leads(time.Now()) {
			return // whoever leads submits again and is told the same
		}
		e.write(journal.Entry{Kind: journal.KindOutcome, Job: j.id, Outcome: outcome(hpcsera.Failed, hpcsera.RejectedByScheduler, refused.Message, nil)})
	case errors.As(err, &refused), errors.As(err, &early):
		e.write(journal.Entry{Kind: journal.KindRefused, Job: j.id, Step: j.step, N: j.n, Tag: tag})
		e.again(j, err)
	default:
		e.again(j, err) // the claim is settled now; the next submission waits
		e.log.Warn("submit command gave no clear answer", "job", j.id, "submission", tag, "error", err)
	}
}

// again makes a job's next submission wait, longer each time.
func (e *engine) again(j *job, err error) {
	j.tries++
	j.submitAt = time.Now().Add(retryDelay(j.tries, 2*time.Second, 5*time.Minute))
	j.trouble, j.waiting = err.Error(), ""
	var refused *scheduler.Refused
	if errors.As(err, &refused) && refused.Throttled {
		j.waiting = hpcsera.Throttled
	}
}

// customAttributes keeps those of one batch system, without its prefix.
func customAttributes(all map[string]string, system string) map[string]string {
	own := map[string]string{}
	prefix := system + "."
	for key, value := range all {
		if len(key) > len(prefix) && key[:len(prefix)] == prefix {
			own[key[len(prefix):]] = value
		}
	}
	return own
}
