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
		s, err := a.connect(shortPatience)
		if err != nil {
			return err
		}
		job, err := a.submit(ctx, s, local, o.key)
		if err != nil {
			return err
		}
		if waitsForApproval(job) {
			if job, err = a.consent(ctx, s, local, job, o); err != nil {
				return err
			}
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

// request returns what POST /jobs is sent: the run part beside the digest of
// the code, which is handed in before where the server does not know it. So a
// token that may only trigger code that exists is enough where it does.
func (l *localJob) request() hpcsera.JobSpec {
	if l.digest == "" {
		return l.spec
	}
	return hpcsera.JobSpec{Code: l.digest, RunPart: l.spec.RunPart}
}

// submit hands a job in, with its code and files where the server lacks them.
// An empty key is chosen.
func (a *app) submit(ctx context.Context, s *session, local *localJob, key string) (hpcsera.Job, error) {
	if err := s.demandProject(ctx); err != nil {
		return hpcsera.Job{}, err
	}
	spec := local.request()
	if key == "" {
		body, err := json.Marshal(spec)
		if err != nil {
			return hpcsera.Job{}, err
		}
		key = a.idempotencyKey(body)
	}
	job, err := s.submitWhole(ctx, spec, key)
	switch hpcsera.CodeOf(err) {
	case hpcsera.UnknownCode, hpcsera.MissingBlobs:
		if local.digest == "" {
			return job, err
		}
		if err := a.handIn(ctx, s, local); err != nil {
			return job, err
		}
		// Nothing was stored under the key: only success is.
		job, err = s.submitWhole(ctx, spec, key)
	}
	if err == nil && ctx.Err() != nil {
		return job, a.takeBack(ctx, s, job, &exitError{code: exitCancelled, text: "stopped by a signal."})
	}
	return job, err
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
	entry, err := s.PutCode(ctx, local.manifest)
	if err != nil {
		return err
	}
	if entry.Digest != local.digest {
		return hpcsera.Errorf(hpcsera.DigestMismatch, "the server computed %s of the code, not %s. Nothing was submitted.", entry.Digest, local.digest).
			Hint("Are client and server of versions that fit?")
	}
	sizes := map[string]int64{}
	var total int64
	for _, f := range local.manifest.Files {
		sizes["sha256:"+f.SHA256] = f.Size
	}
	for _, digest := range entry.Missing {
		total += sizes[digest]
	}
	bar := a.startProgress(ctx, "uploading ", total)
	defer bar.finish()
	var sent int64
	for _, digest := range entry.Missing {
		path, ok := local.files[digest]
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

func waitsForApproval(job hpcsera.Job) bool {
	return job.State == hpcsera.Pending && job.Reason == hpcsera.WaitingForApproval
}

// consent gets the approval that a job waits for: with the key that was
// named, by asking at the terminal, or, where it may wait, from whoever
// approves it elsewhere. Otherwise it cancels the job again and refuses.
func (a *app) consent(ctx context.Context, s *session, local *localJob, job hpcsera.Job, o *submitFlags) (hpcsera.Job, error) {
	named := o.sign.key != "" || s.profile.SignKey != "" && !a.canAsk()
	switch {
	case local.digest != "" && (named || a.canAsk()):
		a.screen.say("The code of %s is not approved yet.", clean(job.Name))
		_, err := a.signAndFile(ctx, s, local, o.sign, !named)
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
	return job, a.takeBack(ctx, s, job, hpcsera.Errorf(hpcsera.ApprovalRefused, "the code %s (%s) is not approved, so it would not run.", job.Code.Name, job.Code.Digest).
		Hint("Approve it: hpcsera approve %s; or sign here with --sign-key KEYFILE; or wait for it with --wait-approval.", first(local.file, "FILE")))
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
		for _, f := range local.manifest.Files {
			a.screen.say("file %s, %s, %s", clean(f.Path), size(f.Size), clean(local.files["sha256:"+f.SHA256]))
		}
	} else {
		a.screen.say("Nothing was sent.")
	}
	text, err := jsonText(local.spec)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.screen.out, "%s\n", text)
	return err
}
