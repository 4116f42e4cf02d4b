package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// maxBulk is how many jobs one request may hold.
const maxBulk = 10_000

// Idempotency makes a request safe to repeat. The zero value is a request
// without a key.
type Idempotency struct {
	Key        string // the header Idempotency-Key: 1 to 200 printable characters
	Path       string // of the request, such as /api/v1/jobs
	BodySHA256 string // of the raw body, hexadecimal
}

// Submit accepts the jobs, all of them or none, and returns the answer to
// send: 201 with the Job, or with a BulkAnswer when bulk is set. The answer to
// a repeated key is the first one's, byte for byte. An error in one job of a
// bulk has its Index.
func (s *Service) Submit(ctx context.Context, p *auth.Principal, specs []hpcsera.JobSpec, bulk bool, key Idempotency) (store.Answer, error) {
	if err := s.maySubmit(p, specs); err != nil {
		return store.Answer{}, inBulk(err, bulk)
	}
	if !bulk && len(specs) != 1 || len(specs) == 0 || len(specs) > maxBulk {
		return store.Answer{}, hpcsera.Errorf(hpcsera.InvalidField, "%d jobs in one request.", len(specs)).At("jobs").
			Hint("Send 1 to %d.", maxBulk)
	}
	return s.submit(ctx, p, specs, "", bulk, key)
}

// submit checks the specs outside any transaction and accepts them in one.
func (s *Service) submit(ctx context.Context, p *auth.Principal, specs []hpcsera.JobSpec, retryOf string, bulk bool, key Idempotency) (store.Answer, error) {
	if err := key.check(); err != nil {
		return store.Answer{}, err
	}
	var found *store.Answer
	var drafts *drafts
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		if drafts, err = s.draft(r, p, specs, retryOf, key); err == nil {
			return nil // the transaction looks whether it was answered before
		}
		// What was accepted before may be wrong by now, and is still accepted.
		var known error
		if found, known = kept(r, p, key); found != nil || known != nil {
			return known
		}
		return err
	})
	if err != nil {
		return store.Answer{}, inBulk(store.Failed("check a submission", err), bulk)
	}
	if found != nil {
		return *found, nil
	}
	return s.accept(ctx, p, drafts, bulk, key)
}

// maySubmit checks the permission before anything else is looked at. Reading
// the specs is safe: they are the sender's own words.
func (s *Service) maySubmit(p *auth.Principal, specs []hpcsera.JobSpec) error {
	if p.Token == nil {
		return auth.Allow(p, auth.SubmitJobs, auth.Target{})
	}
	target := auth.Target{Project: p.Token.Project, User: p.Token.User, Client: p.Token.Client}
	for i, spec := range specs {
		names := spec.Site.Names()
		if len(names) == 0 {
			names = []string{""}
		}
		for _, target.Site = range names {
			if err := maySubmitOne(p, spec, target); err != nil {
				return at(err, i)
			}
		}
	}
	if len(specs) == 0 {
		return auth.Allow(p, auth.SubmitJobs, target)
	}
	return nil
}

func maySubmitOne(p *auth.Principal, spec hpcsera.JobSpec, target auth.Target) error {
	if err := auth.Allow(p, auth.SubmitJobs, target); err != nil || spec.Code != "" {
		return err
	}
	return auth.Allow(p, auth.SubmitNewCode, target)
}

// draft is a job that has passed every check but those that need the
// transaction.
type draft struct {
	job  store.Job
	spec hpcsera.JobSpec // what was asked for
	part *hpcsera.CodePart
	file bool // the part is new code
}

// drafts are the jobs of one request.
type drafts struct {
	list []draft
	// covered is what was found for them already. Approvals are never taken off
	// file, so what covered a job a moment ago still does.
	covered covers
}

// draft checks the specs and makes jobs of them.
func (s *Service) draft(r store.Reader, p *auth.Principal, specs []hpcsera.JobSpec, retryOf string, key Idempotency) (*drafts, error) {
	all := &drafts{list: make([]draft, len(specs)), covered: covers{}}
	known := map[string]*hpcsera.CodePart{} // by the reference: a bulk mostly repeats one
	now := s.now()
	sites := s.choose(r, p.Token.User, p.Token.Project, p.Token.Site, now)
	sites.keyed = key.Key != ""
	for i, spec := range specs {
		d := &all.list[i]
		if err := s.draftOne(r, p, spec, d, known, sites); err != nil {
			return nil, at(err, i)
		}
		d.job.RetryOf = retryOf
		// What exceeds the signed limits is refused in the transaction, which
		// looks again: consent may be filed at this moment.
		if _, err := s.cover(r, &d.job, nil, now, all.covered); err != nil && hpcsera.CodeOf(err) != hpcsera.LimitExceeded {
			return nil, at(err, i)
		}
	}
	maps.DeleteFunc(all.covered, func(_ coverKey, found coverResult) bool { return found.approval == nil })
	return all, nil
}

func (s *Service) draftOne(r store.Reader, p *auth.Principal, spec hpcsera.JobSpec, d *draft, known map[string]*hpcsera.CodePart, sites *choice) (err error) {
	if err := checkSpec(spec); err != nil {
		return err
	}
	// Before the code is looked at, which may have to be handed in first.
	if _, err := sites.candidates(spec.Site); err != nil {
		return err
	}
	d.part, d.file = known[spec.Code], spec.Code == ""
	if d.part == nil || d.file {
		if d.part, err = s.cfg.Code.Prepare(r, p, spec); err != nil {
			return err
		}
		known[spec.Code] = d.part
	}
	d.spec = spec
	site, err := sites.pick(spec, d.part.Manifest)
	if err != nil {
		return nothingSubmitted(err)
	}
	if d.job, err = d.at(p, site); err != nil {
		return err
	}
	for i, dep := range spec.Dependencies {
		other, err := r.Job(dep.Job)
		if err == nil {
			err = auth.Allow(p, auth.SubmitJobs, auth.Target{Project: other.Project, User: other.User, Client: other.Client})
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) && hpcsera.CodeOf(err) != hpcsera.NotFound {
			return err
		} else if err != nil {
			return hpcsera.Errorf(hpcsera.InvalidField, "there is no job %s.", dep.Job).At(fmt.Sprintf("dependencies[%d].job", i))
		}
	}
	return nil
}

// at makes the job that the draft is at a site.
func (d *draft) at(p *auth.Principal, site string) (job store.Job, err error) {
	run := d.spec.At(site)
	if run.Values, err = d.part.Complete(run.Values); err == nil {
		err = d.part.Admits(run)
	}
	if err != nil {
		return job, d.spec.In(site, err)
	}
	return newJob(p, run, d.part), nil
}

// nothingSubmitted says so where a site cannot honour a job.
func nothingSubmitted(err error) error {
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Code != hpcsera.NotSupportedBySite {
		return err
	}
	said := *e
	return said.Hint("%s", strings.TrimSpace(e.Advice+" Nothing was submitted."))
}

// checkSpec is JobSpec.Validate without the manifest, which Prepare checks
// and remembers.
func checkSpec(spec hpcsera.JobSpec) error {
	if spec.Code != "" {
		return spec.Validate()
	}
	return spec.ValidateRun()
}

// newJob makes the row of an accepted job, without id and times.
func newJob(p *auth.Principal, run hpcsera.RunPart, part *hpcsera.CodePart) store.Job {
	t := p.Token
	desired := hpcsera.DesiredRun
	if run.Hold {
		desired = hpcsera.DesiredHold
	}
	j := store.Job{Job: hpcsera.Job{
		Project: t.Project, User: t.User, Client: t.Client, Site: string(run.Site),
		State: hpcsera.Pending, Attempt: 1, Desired: desired, Depends: run.Dependencies, Warnings: []string{},
	}, Token: t.ID, Revision: 1}
	fill(&j, run, part)
	return j
}

// fill sets what a job runs and how. Desired says whether it is held.
func fill(j *store.Job, run hpcsera.RunPart, part *hpcsera.CodePart) {
	run.Hold = false
	j.Run, j.Name, j.Code = run, part.Manifest.Name, hpcsera.CodeRef{Digest: part.Digest, Name: part.Manifest.Name}
	j.Values, j.Resources, j.Attributes, j.Requeue, j.Keep = run.Values, run.Resources, run.Attributes, run.Requeue, run.Keep
	j.Labels, j.Annotation = orEmpty(run.Labels), orEmpty(run.Annotations)
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// accept stores drafts and their answer in one closure.
func (s *Service) accept(ctx context.Context, p *auth.Principal, drafts *drafts, bulk bool, key Idempotency) (store.Answer, error) {
	now := s.now()
	ids := make([]string, len(drafts.list))
	for i := range ids {
		if ids[i] = hpcsera.NewID("j"); key.Key != "" {
			ids[i] = hpcsera.DerivedJobID(p.Token.Project, p.Token.Client, key.Path, key.Key, i)
		}
	}
	scope := key.scope(p)
	var answer store.Answer
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, now)
		if err != nil {
			return err
		}
		if found, err := kept(tx, p, key); found != nil || err != nil {
			answer = orNone(found)
			return err
		}
		rows, err := s.insert(tx, ledger, p, drafts, ids, scope)
		if err != nil {
			return inBulk(err, bulk)
		}
		if answer, err = answerOf(rows, bulk, now); err != nil || key.Key == "" {
			return err
		}
		answer.User, answer.BodySHA256 = p.Token.User, key.BodySHA256
		return tx.KeepAnswer(scope, key.Key, answer)
	})
	return answer, store.Failed(fmt.Sprintf("accept %d jobs", len(ids)), err)
}

// insert stores the drafts, or finds the jobs that an earlier try of the same
// request made and whose answer is not kept any more.
func (s *Service) insert(tx store.Tx, ledger *store.Ledger, p *auth.Principal, drafts *drafts, ids []string, scope string) ([]*store.Job, error) {
	rows := make([]*store.Job, len(ids))
	memo, onFile := maps.Clone(drafts.covered), map[string]bool{}
	var taken map[string]bool
	if scope != "" {
		var err error
		if taken, err = tx.Taken(ids); err != nil {
			return nil, err
		}
	}
	for i := range drafts.list {
		d := &drafts.list[i]
		if taken[ids[i]] {
			if met, err := meets(tx, p, ids[i], d); err != nil {
				return nil, at(err, i)
			} else if met != nil {
				rows[i] = met
				continue
			}
		}
		if err := s.fileOrFind(tx, p, d, ledger.At(), onFile); err != nil {
			return nil, at(err, i)
		}
		j := d.job
		j.ID, j.Idempotency, j.Times.Created = ids[i], scope, ledger.At()
		if err := s.settle(tx, &j, ledger.At(), memo); err != nil {
			return nil, at(err, i)
		}
		rows[i] = &j
	}
	fresh := make([]*store.Job, 0, len(rows))
	for _, j := range rows {
		if j.Version == 0 {
			fresh = append(fresh, j)
		}
	}
	return rows, ledger.Insert(fresh)
}

// fileOrFind files new code, and makes sure that other code is still there.
func (s *Service) fileOrFind(tx store.Tx, p *auth.Principal, d *draft, now time.Time, onFile map[string]bool) error {
	if onFile[d.part.Digest] {
		return nil
	}
	onFile[d.part.Digest] = true
	if d.file {
		return s.cfg.Code.File(tx, p, d.part, now)
	}
	_, err := tx.Code(p.Token.Project, d.part.Digest)
	if errors.Is(err, store.ErrNotFound) {
		return hpcsera.Errorf(hpcsera.UnknownCode, "the code %s was deleted just now.", d.part.Digest).At("code")
	}
	return err
}

// meets returns the job that has the derived id already, if it is the same.
func meets(tx store.Tx, p *auth.Principal, id string, d *draft) (*store.Job, error) {
	j, err := tx.Job(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	want := &d.job
	if names := d.spec.Site.Names(); j.Site != want.Site && (len(names) == 0 || slices.Contains(names, j.Site)) {
		// Another site was the first that could take it then.
		if then, err := d.at(p, j.Site); err == nil {
			want = &then
		}
	}
	if j.User != want.User {
		return nil, hpcsera.Errorf(hpcsera.IdempotencyKeyReused, "the key was used before by another user of the client %s.", want.Client).
			Hint("Use a new key: random, or with the user's name in it.")
	}
	if j.Code.Digest != want.Code.Digest || !sameJSON(j.Run, want.Run) {
		return nil, hpcsera.Errorf(hpcsera.IdempotencyKeyReused, "the key was used before, for the job %s, which is another one.", id).
			Hint("Use a new key for a new request.")
	}
	return j, nil
}

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func answerOf(rows []*store.Job, bulk bool, now time.Time) (store.Answer, error) {
	var body any = rows[0].Job
	if bulk {
		list := hpcsera.BulkAnswer{Jobs: make([]hpcsera.Submitted, len(rows))}
		for i, j := range rows {
			list.Jobs[i] = hpcsera.Submitted{ID: j.ID, Version: j.Version, State: j.State, Reason: j.Reason}
		}
		body = list
	}
	text, err := json.Marshal(body)
	return store.Answer{Status: http.StatusCreated, Body: text, Created: now}, err
}

// Retry makes a new job like a finished one, with RetryOf: 201 with the Job.
// Its dependencies are not taken over: the user decided to run it now.
func (s *Service) Retry(ctx context.Context, p *auth.Principal, id string, key Idempotency) (store.Answer, error) {
	var old *store.Job
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		old, err = s.load(r, p, auth.RetryJob, id)
		return err
	})
	if err != nil {
		return store.Answer{}, store.Failed("read job "+id, err)
	}
	if !old.State.Final() {
		return store.Answer{}, hpcsera.Errorf(hpcsera.JobNotFinal, "the job is %s; only a job that has ended can be tried again.", old.State).
			Hint("Cancel it first, or submit another one.")
	}
	run := old.Run
	run.Hold, run.Dependencies = false, nil
	return s.submit(ctx, p, []hpcsera.JobSpec{{Code: old.Code.Digest, RunPart: run}}, id, false, key)
}
