package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) submitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "submit FILE",
		Short: "Submit a job and print its id",
		Long: `Submit a job and print its id. FILE is a job.yaml, or a script for a batch
system whose directives are mapped (.sbatch). hpcsera wait waits for its end.`,
		Example: `  JOB=$(hpcsera submit job.yaml -p viscosity=0.02)
  hpcsera wait "$JOB" --timeout 2h`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeJobFiles,
	}
	o := addSubmitFlags(cmd)
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		local, err := a.loadJob(args[0], o.run)
		if err != nil {
			return err
		}
		if o.dryRun {
			return a.showDryRun(local)
		}
		s, err := a.connect(ctx, shortPatience)
		if err != nil {
			return err
		}
		job, err := a.submit(ctx, s, local, o)
		if err != nil {
			return err
		}
		return a.showSubmitted(*form, job)
	}
	return cmd
}

// submitFlags are the flags of run and submit alike.
type submitFlags struct {
	run          *runFlags
	sign         *signFlags
	key          string
	dryRun       bool
	waitApproval bool
}

func addSubmitFlags(cmd *cobra.Command) *submitFlags {
	f := cmd.Flags()
	o := &submitFlags{run: addRunFlags(f), sign: addSignFlags(f)}
	f.StringVar(&o.key, "idempotency-key", "", "text that makes the request safe to repeat (CI_JOB_ID and the request's digest, else random)")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be sent and send nothing")
	f.BoolVar(&o.waitApproval, "wait-approval", false, "leave a job whose code is not approved waiting for the approval")
	return o
}

// submit hands a job in, with its code and files where the server lacks them,
// and gets the code approved that is not. A key that was not given is chosen.
func (a *app) submit(ctx context.Context, s *session, local *localJob, o *submitFlags) (hpcsera.Job, error) {
	spec, key, began := local.request(), o.key, time.Now()
	if key == "" {
		body, err := json.Marshal(spec)
		if err != nil {
			return hpcsera.Job{}, err
		}
		key = a.idempotencyKey(body)
	}
	job, err := s.submitWhole(ctx, spec, key)
	for tries := 0; err != nil && tries < 3; tries++ {
		// Nothing is stored under the key: only success is.
		if mended := a.mend(ctx, s, local, o, err); mended != nil {
			return job, local.refused(mended)
		}
		job, err = s.submitWhole(ctx, spec, key)
	}
	if err != nil {
		return job, local.refused(err)
	}
	if ctx.Err() != nil {
		return job, a.takeBack(ctx, s, job, &exitError{code: exitCancelled, text: "stopped by a signal."})
	}
	// A repeated key brings the first answer, and the job may have moved on.
	if now, err := s.Job(ctx, job.ID); err == nil {
		job = now
	}
	if job.State.Final() || job.Times.Created.Before(began.Add(-clockSlack)) {
		a.screen.say("%s is the job that this request made at %s; nothing new was submitted.", job.ID, short(&job.Times.Created))
	}
	if needs, err := needsApproval(ctx, s, job); err != nil || !needs {
		return job, err
	}
	return a.consent(ctx, s, local, job, o)
}

// clockSlack is how far a server's clock may be behind before its jobs look
// older than they are.
const clockSlack = 10 * time.Second

// mend does what the server asks for before it accepts a job: it hands in the
// code, or signs it anew where an approval does not reach as far as this job.
// It returns nil when it is worth trying again, else why not.
func (a *app) mend(ctx context.Context, s *session, local *localJob, o *submitFlags, refusal error) error {
	if local.digest == "" {
		return refusal
	}
	switch hpcsera.CodeOf(refusal) {
	case hpcsera.UnknownCode, hpcsera.MissingBlobs:
		return a.handIn(ctx, s, local)
	case hpcsera.LimitExceeded:
		if !a.canSign(o.sign) {
			return refusal
		}
		a.screen.say("hpcsera: %s", fullStop(clean(refusal.Error())))
		_, err := a.signAndFile(ctx, s, local, o.sign, o.sign.key == "")
		return err
	}
	return refusal
}

// submitWhole sends the request that makes a job. A signal does not break it
// off at once, because then nobody would know whether there is a job.
func (s *session) submitWhole(ctx context.Context, spec hpcsera.JobSpec, key string) (hpcsera.Job, error) {
	if ctx.Err() != nil {
		return hpcsera.Job{}, context.Cause(ctx)
	}
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		if sleep(longer, takeBackTime) == nil {
			cancel(context.Cause(ctx))
		}
	})()
	return s.Submit(longer, spec, key)
}

// sleep waits for d, or until ctx ends and returns its cause.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// handIn files the code and uploads the files that are missing.
func (a *app) handIn(ctx context.Context, s *session, local *localJob) error {
	entry, err := s.PutCode(ctx, local.Spec.Manifest)
	if err != nil {
		return err
	}
	if entry.Digest != local.digest {
		return hpcsera.Errorf(hpcsera.DigestMismatch, "the server computed %s of the code, not %s. Nothing was submitted.", entry.Digest, local.digest).
			Hint("Are client and server of versions that fit?")
	}
	sizes := map[string]int64{}
	var total int64
	for _, f := range local.Spec.Files {
		sizes["sha256:"+f.SHA256] = f.Size
	}
	for _, digest := range entry.Missing {
		total += sizes[digest]
	}
	bar := a.startProgress(ctx, "uploading ", total)
	defer bar.finish()
	var sent int64
	for _, digest := range entry.Missing {
		path, ok := local.Blobs[digest]
		if !ok {
			return hpcsera.Errorf(hpcsera.MissingBlobs, "the server asks for %s, which is none of the files. Nothing was submitted.", digest)
		}
		if err := upload(ctx, s, digest, path, func(n int64) { bar.set(sent + n) }); err != nil {
			return err
		}
		sent += sizes[digest]
	}
	return nil
}

func upload(ctx context.Context, s *session, digest, path string, progress func(int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = s.Upload(ctx, digest, f, info.Size(), progress)
	if hpcsera.CodeOf(err) == hpcsera.DigestMismatch {
		return hpcsera.Errorf(hpcsera.DigestMismatch, "%s changed while it was being sent. Nothing was submitted.", path).Hint("Run the command again.")
	}
	return err
}

// idempotencyKey returns the key of a request: in a CI job the job's id and
// the body's digest, so that a repeated command meets the job that it made
// before; elsewhere a random one, which serves the repetitions inside this
// command.
func (a *app) idempotencyKey(body []byte) string {
	ci := a.env["CI_JOB_ID"]
	if !regexp.MustCompile(`^[!-~]{1,128}$`).MatchString(ci) {
		return hpcsera.NewID("k")
	}
	sum := sha256.Sum256(body)
	return ci + "-" + hex.EncodeToString(sum[:])
}

// needsApproval reports whether a job would not run because its code is not
// approved. One that waits for something else first is not looked at by the
// server yet, so the approvals on file are, where the token may read them.
func needsApproval(ctx context.Context, s *session, job hpcsera.Job) (bool, error) {
	switch {
	case waitsForApproval(job):
		return true, nil
	case job.State != hpcsera.Held && job.Reason != hpcsera.WaitingForDependency:
		return false, nil
	}
	list, err := s.Approvals(ctx, job.Code.Digest, "")
	if code := hpcsera.CodeOf(err); err != nil {
		if code == hpcsera.Forbidden {
			return false, nil
		}
		return false, err
	}
	for _, approval := range list {
		if time.Now().Before(approval.NotAfter) {
			return false, nil
		}
	}
	return true, nil
}

func waitsForApproval(job hpcsera.Job) bool {
	return job.State == hpcsera.Pending && job.Reason == hpcsera.WaitingForApproval
}

// canSign reports whether new code can be signed now: a key was named on this
// command line, or somebody is there to be asked. The context's key alone
// signs nothing: a script that runs hpcsera would sign whatever it likes.
func (a *app) canSign(f *signFlags) bool { return f.key != "" || a.canAsk() }

// consent gets the approval that a job waits for: with the key that was
// named, by asking at the terminal, or, where it may wait, from whoever
// approves it elsewhere. Otherwise it cancels the job again and refuses.
func (a *app) consent(ctx context.Context, s *session, local *localJob, job hpcsera.Job, o *submitFlags) (hpcsera.Job, error) {
	switch {
	case local.digest != "" && a.canSign(o.sign):
		if local.Spec.Site == "" {
			local.Spec.Site = hpcsera.Sites(job.Site) // where the server sent it; the user's own agents alone run it
		}
		a.screen.say("%s", clean(first(job.Message, "The code of "+job.Name+" is not approved yet.")))
		_, err := a.signAndFile(ctx, s, local, o.sign, o.sign.key == "")
		if err == nil {
			return s.Job(ctx, job.ID)
		}
		if o.waitApproval && ctx.Err() == nil {
			a.screen.say("hpcsera: %s %s waits for the approval.", fullStop(clean(err.Error())), job.ID)
			return job, nil
		}
		return job, a.takeBack(ctx, s, job, err)
	case o.waitApproval:
		a.screen.say("%s waits for the approval of its code %s.", job.ID, clean(job.Code.Digest))
		return job, nil
	}
	command := "hpcsera approve " + local.Path + o.run.asked()
	approve := "Approve it: " + command
	if s.profile.SignKey != "" {
		approve = "The context's key signs only what somebody is asked about, and nobody is there to be asked: " + command + " --yes"
	}
	return job, a.takeBack(ctx, s, job, hpcsera.Errorf(hpcsera.ApprovalRefused, "%s",
		first(job.Message, "the code "+job.Code.Name+" ("+job.Code.Digest+") is not approved, so it would not run.")).
		Hint("%s; or sign here with --sign-key KEYFILE; or wait for it with --wait-approval.", approve))
}

// takeBack cancels a job that will not be approved and returns why, saying
// what became of the job.
func (a *app) takeBack(ctx context.Context, s *session, job hpcsera.Job, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackTime)
	defer cancel()
	if _, err := s.Cancel(ctx, job.ID); err != nil {
		a.screen.say("hpcsera: %s still waits for an approval, because it cannot be cancelled: %s", job.ID, fullStop(clean(err.Error())))
	} else {
		a.screen.say("%s was cancelled again.", job.ID)
	}
	return why
}

// showDryRun shows what would be sent.
func (a *app) showDryRun(local *localJob) error {
	if local.digest != "" {
		a.screen.say("Nothing was sent. The code's digest is %s.", local.digest)
		for _, f := range local.Spec.Files {
			a.screen.say("file %s, %s, %s", clean(f.Path), size(f.Size), clean(local.Blobs["sha256:"+f.SHA256]))
		}
	} else {
		a.screen.say("Nothing was sent.")
	}
	text, err := jsonText(local.Spec)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.screen.out, "%s\n", text)
	return err
}
