package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/container"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// stage verifies like jobs against what the user signed, fetches their bytes
// and lays out their directories. It can be repeated at will and does not wait
// for the journal: nothing of a job runs before its first submission. A job whose
// earlier steps have run keeps its directory as they left it. Each has a context
// of its own, which ends when it is cancelled.
//
// Where that takes long, those that are done go on and the others are judged
// anew.
func (e *engine) stage(contexts []context.Context, jobs []*job) (staged func()) {
	done := make([]func(), len(jobs)) // nil for one that was not reached
	began := time.Now()
	inParts(len(jobs), func(from, to int) {
		judge := e.agent.judge()
		for i := from; i < to && (i == from || time.Since(began) <= lasting); i++ {
			done[i] = e.stageOne(contexts[i], jobs[i], judge, began)
		}
	})
	return func() {
		for _, fn := range done {
			if fn != nil {
				fn()
			}
		}
	}
}

// stageOne stages a job. verified is when judge was made.
func (e *engine) stageOne(ctx context.Context, j *job, judge judge, verified time.Time) func() {
	a := e.agent
	var verdict *policy.Verdict
	var image *container.Image
	err := a.inSlot(ctx, func() (err error) {
		if verdict, err = judge(*j.spec); err == nil {
			err = a.provided(verdict.Manifest)
		}
		return err
	})
	// An image may take an hour. Other jobs are prepared meanwhile.
	if err == nil {
		image, err = a.image(ctx, verdict.Manifest)
	}
	if err == nil {
		err = a.inSlot(ctx, func() error {
			if err := a.layOut(ctx, j, verdict); err != nil {
				return err
			}
			return a.launchable(verdict.Manifest, j.spec.Run.Resources)
		})
	}
	return func() {
		if !e.leads(time.Now()) || ctx.Err() != nil {
			return // it took long, and whoever leads prepares the job again; or it was cancelled
		}
		if err != nil {
			e.stageFailed(j, err)
			return
		}
		// Runs are counted here, where no two jobs are at the same time.
		id := verdict.Statement.ID
		signed := verdict.Kind != policy.ServersWord
		if signed && !j.counted && e.runs[id] >= verdict.Runs {
			e.write(journal.Entry{Kind: journal.KindOutcome, Job: j.id, Outcome: outcome(hpcsera.Failed, hpcsera.RunsExhausted,
				fmt.Sprintf("Approval %s allows %d runs on this agent, and all are used.", id, verdict.Runs), nil)})
			return
		}
		if signed && !j.counted {
			e.write(journal.Entry{Kind: journal.KindRun, Job: j.id, Approval: id})
		}
		j.verdict, j.verified, j.image, j.plan = verdict, verified, image, verdict.Manifest.Plan()
		j.tries, j.trouble, j.waiting = 0, "", ""
	}
}

// inSlot does work when one of the few slots for it is free.
func (a *Agent) inSlot(ctx context.Context, work func() error) error {
	select {
	case a.stageSlots <- struct{}{}:
		defer func() { <-a.stageSlots }()
		return work()
	case <-ctx.Done():
		return local(ctx.Err())
	}
}

// stageFailed tries again what a later try can mend, and ends the job
// otherwise.
func (e *engine) stageFailed(j *job, err error) {
	var waiting *policy.Waiting
	if errors.As(err, &waiting) {
		j.tries++ // thousands of jobs may wait for one site
		j.retryAt = time.Now().Add(retryDelay(j.tries, 5*time.Second, time.Minute))
		j.trouble, j.waiting = err.Error(), waiting.Reason
		return
	}
	if passing(err) || errors.Is(err, errLocal) {
		j.tries++
		delay := retryDelay(j.tries, time.Second, time.Minute)
		j.retryAt, j.trouble = time.Now().Add(delay), err.Error()
		e.log.Warn("job not prepared", "job", j.id, "error", err, "again_in", delay.String())
		return
	}
	reason := hpcsera.StageInFailed
	if hpcsera.CodeOf(err) == hpcsera.NotSupportedBySite {
		reason = hpcsera.RejectedByPolicy
	}
	var refusal *policy.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Forged:
		reason = refusal.Reason
		e.agent.witness.alarm("job refused: it is not what the user signed", "job", j.id, "code", j.spec.Digest, "reason", string(reason), "error", err)
	case errors.As(err, &refusal):
		reason = refusal.Reason
		e.log.Warn("job refused", "job", j.id, "reason", string(reason), "error", err)
	case hpcsera.CodeOf(err) == hpcsera.DigestMismatch:
		e.agent.witness.alarm("job refused: its files are not those that the user signed", "job", j.id, "code", j.spec.Digest, "error", err)
	}
	e.write(journal.Entry{Kind: journal.KindOutcome, Job: j.id, Outcome: outcome(hpcsera.Failed, reason, err.Error(), nil)})
}

// passing reports whether an error says nothing about the job: the server or
// this agent's standing with it is in trouble, and a later try may succeed.
func passing(err error) bool {
	switch hpcsera.CodeOf(err) {
	case hpcsera.Unavailable, hpcsera.Internal, hpcsera.StorageFull, hpcsera.QuotaExceeded, hpcsera.UseDPoPNonce, hpcsera.DPoPRequired,
		hpcsera.Unauthenticated, hpcsera.TokenInvalid, hpcsera.StaleTerm, hpcsera.AgentActive:
		return true
	}
	return false
}

// errLocal marks troubles of this host, such as a full disk, that say nothing
// about the job.
var errLocal = errors.New("this host")

func local(err error) error { return fmt.Errorf("%w: %w", errLocal, err) }

// layOut fills the job's directory, unless earlier steps have done so. One that
// begins empty is made by the wrapper, so that a thousand jobs that wait cost the
// site's file system nothing.
func (a *Agent) layOut(ctx context.Context, j *job, v *policy.Verdict) error {
	if j.step > 0 || len(v.Manifest.Files) == 0 {
		return nil
	}
	dir := a.jobDir(j.id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return local(err)
	}
	return a.layOutFiles(ctx, j.id, dir, v.Manifest.Files)
}

// layOutFiles writes the code's files, each checked against its digest.
func (a *Agent) layOutFiles(ctx context.Context, job, dir string, files []hpcsera.File) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return local(err)
	}
	defer root.Close()
	for _, f := range files {
		cached, err := a.fetch(ctx, job, f)
		if err != nil {
			return err
		}
		if sub := path.Dir(f.Path); sub != "." {
			if err := root.MkdirAll(sub, 0o700); err != nil {
				return local(err)
			}
		}
		mode := os.FileMode(0o600)
		if f.Mode == "0755" {
			mode = 0o700
		}
		if err := copyInto(root, f.Path, cached, mode); err != nil {
			return local(err)
		}
	}
	return nil
}

func copyInto(root *os.Root, name, from string, mode os.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dst, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// fetch returns the path of a file's bytes in the agent's own cache, fetched
// from the server and checked when they are not there.
func (a *Agent) fetch(ctx context.Context, job string, f hpcsera.File) (string, error) {
	dir := filepath.Join(a.config.StateDir, "blobs")
	name := filepath.Join(dir, f.SHA256)
	if info, err := os.Stat(name); err == nil && info.Size() == f.Size {
		return name, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", local(err)
	}
	tmp, err := os.CreateTemp(dir, ".fetch-")
	if err != nil {
		return "", local(err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	hash := sha256.New()
	limited := &capped{w: io.MultiWriter(tmp, hash), left: f.Size}
	if err := a.api.GetBlob(ctx, job, "sha256:"+f.SHA256, limited); err != nil {
		if limited.over {
			return "", hpcsera.Errorf(hpcsera.DigestMismatch, "The server sent more bytes for %s than were signed.", f.Path)
		}
		return "", err
	}
	if hex.EncodeToString(hash.Sum(nil)) != f.SHA256 {
		return "", hpcsera.Errorf(hpcsera.DigestMismatch, "The server sent other bytes for %s than were signed.", f.Path)
	}
	if err := errors.Join(tmp.Close(), os.Rename(tmp.Name(), name)); err != nil {
		return "", local(err)
	}
	return name, nil
}

// capped refuses to write more than left bytes.
type capped struct {
	w    io.Writer
	left int64
	over bool
}

func (c *capped) Write(b []byte) (int, error) {
	if int64(len(b)) > c.left {
		c.over = true
		return 0, errors.New("too many bytes")
	}
	c.left -= int64(len(b))
	return c.w.Write(b)
}

func replaceFile(name string, b []byte, mode os.FileMode) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, b, mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
