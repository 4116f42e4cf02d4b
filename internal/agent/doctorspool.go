package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

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

// How long the doctor waits for its job: to run, for its record once the batch
// system says that it has ended, and for its doorbell once the record is here.
const (
	doctorQueue  = 2 * time.Minute
	doctorRecord = 15 * time.Second
	doctorBell   = 30 * time.Second
)

// spoolShared runs an empty step through the batch system and waits for its
// records. It has a spool of its own inside the agent's, so that an agent that
// runs does not answer its doorbell.
func (d *Doctor) spoolShared(ctx context.Context) Finding {
	if !d.Submit {
		return Finding{}
	}
	shared, err := spool.Open(d.Config.SpoolDir)
	if err != nil {
		return Finding{} // told already
	}
	binary, err := shared.Binary(d.Binary)
	if err != nil {
		return bad("spool shared", "Check quota and rights of spool_dir.", err)
	}
	dir, err := os.MkdirTemp(shared.Dir(), "doctor-")
	if err != nil {
		return bad("spool shared", "Check quota and rights of spool_dir.", err)
	}
	defer os.RemoveAll(dir)
	v := visit{doctor: d, job: hpcsera.NewID("j"), tag: hpcsera.NewID("s")}
	if v.spool, err = spool.Open(dir); err == nil {
		err = spool.Mark(d.Config.WorkRoot)
	}
	if err != nil {
		return bad("spool shared", "Check quota and rights of spool_dir and work_root.", err)
	}
	if err := v.submit(ctx, binary); err != nil {
		return bad("spool shared", "The batch system must take a job of one minute without further options, or say them: --queue, --account, --custom.", err)
	}
	return v.await(ctx)
}

// visit is one job of the doctor's on a compute node.
type visit struct {
	doctor   *Doctor
	spool    *spool.Spool
	job, tag string
	ref      scheduler.Ref
}

// folder is the job's, which its wrapper makes.
func (v *visit) folder() string { return filepath.Join(v.doctor.Config.WorkRoot, v.job) }

func (v *visit) submit(ctx context.Context, binary string) error {
	env := v.doctor.Batch.Environment()
	script, output, err := v.spool.PutSubmission(spool.Submission{Tag: v.tag, Members: []spool.Member{{Job: v.job, N: 1, Attempt: 1}},
		IDVariables: env.ID, ClusterVariable: env.Cluster}, []spool.Task{{Job: v.job, Directory: v.folder(), Argv: []string{"/bin/true"}}}, binary)
	if err != nil {
		return err
	}
	sub := scheduler.Submission{Tag: v.tag, Script: script, Output: output, Directory: filepath.Dir(script), Comment: "hpcsera-agent doctor"}
	if v.doctor.Job != nil {
		v.doctor.Job(&sub)
	}
	sub.Attributes.Duration = hpcsera.Duration(time.Minute)
	refs, err := v.doctor.Batch.Submit(ctx, sub)
	if err == nil {
		v.ref = refs[0]
	}
	return err
}

// await waits for the end record and its doorbell, or for a reason to wait no
// longer.
func (v *visit) await(ctx context.Context) Finding {
	began := time.Now()
	var asked, ended time.Time
	for time.Since(began) < doctorQueue && ctx.Err() == nil {
		start, _, _, err := v.spool.Latest(v.job, 0, 1)
		if err == nil && start != nil && start.End != nil {
			return v.bell(ctx, start, time.Since(began))
		}
		if ended.IsZero() && time.Since(asked) > 5*time.Second {
			asked = time.Now()
			if st, known := v.status(ctx); known && st.Phase == scheduler.PhaseEnded {
				ended = time.Now()
			}
		}
		if !ended.IsZero() && time.Since(ended) > doctorRecord {
			return v.unseen()
		}
		sleep(ctx, 100*time.Millisecond)
	}
	st, known := v.status(ctx)
	v.cancel(ctx)
	if !known && ctx.Err() == nil {
		return v.unseen() // and this site keeps no history of jobs
	}
	return Finding{Check: "spool shared", Found: fmt.Sprintf("not known: job %s is still %s (%s) after %v and was cancelled", v.ref.ID, st.Native, st.Message, time.Since(began).Round(time.Second)),
		Advice: "Try again when the queue is shorter."}
}

func (v *visit) unseen() Finding {
	return bad("spool shared", "spool_dir must be on a file system that the compute nodes see under the same path, and they must be able to run programs from it.",
		fmt.Errorf("job %s has ended, but left no record in %s. %s", v.ref.ID, v.spool.Dir(), v.spool.OutputTail(v.tag, 500)))
}

// bell waits until the job's end shows in the listing of the inbox, which is
// how the agent learns of it.
func (v *visit) bell(ctx context.Context, start *spool.Start, ran time.Duration) Finding {
	found := fmt.Sprintf("job %s ran on %s within %v", v.ref.ID, start.Host, ran.Round(100*time.Millisecond))
	defer os.Remove(v.folder())
	_, err := os.Stat(v.folder())
	if start.End.Failure != "" {
		err = fmt.Errorf("it could do nothing: %s", start.End.Failure)
	}
	if err != nil {
		return bad("spool shared", "work_root must be on a file system that the compute nodes see under the same path.", fmt.Errorf("%s, but %w", found, err))
	}
	for began := time.Now(); time.Since(began) < doctorBell && ctx.Err() == nil; sleep(ctx, 10*time.Millisecond) {
		rings, err := v.spool.Rings("doctor")
		if err != nil {
			return bad("spool shared", "Check quota and rights of spool_dir.", err)
		}
		if len(rings[v.job]) > 1 { // of its start and of its end
			return Finding{Check: "spool shared", OK: true, Found: fmt.Sprintf("%s; its doorbell was heard %v after its end, by that host's clock",
				found, max(0, time.Since(start.End.Ended)).Round(10*time.Millisecond))}
		}
	}
	return bad("spool shared", "The ends of jobs will be noticed with the batch system's next answer only. Choose a spool_dir with less caching.",
		fmt.Errorf("%s, but its doorbell was not heard within %v", found, doctorBell))
}

func (v *visit) status(ctx context.Context) (scheduler.Status, bool) {
	answer, err := v.doctor.Batch.Statuses(ctx, []scheduler.Ref{v.ref})
	st, known := answer[v.ref]
	return st, err == nil && known
}

// cancel takes the job back, also when the user pressed Ctrl-C.
func (v *visit) cancel(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer stop()
	_ = v.doctor.Batch.Act(ctx, scheduler.Cancel, []scheduler.Ref{v.ref})
}
