package agent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// A job's directory stays on the site for as long as its user may want to look
// into it: by default 3 days after a success and 14 after a failure.
func TestDirectoriesGoWhenTheirTimeHasCome(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		code := w.sign(10, hpcsera.BatchStep)
		longer, shorter := code, code
		longer.spec.Run.Keep.Succeeded = hpcsera.Duration(30 * 24 * time.Hour)
		shorter.spec.Run.Keep.Failed = hpcsera.Duration(time.Hour)
		jobs := map[string]string{
			"succeeded": w.server.submit(code, false), "failed": w.server.submit(code, false), "cancelled": w.server.submit(code, false),
			"longer": w.server.submit(longer, false), "shorter": w.server.submit(shorter, false), "running": w.server.submit(code, true), // in no array with the others
		}
		for name, job := range jobs {
			p := program{run: time.Minute}
			if name == "failed" || name == "shorter" {
				p.exit.Code = 3
			}
			if name == "cancelled" || name == "running" {
				p.run = 30 * 24 * time.Hour
			}
			w.planned(job, p)
		}
		i := w.start()
		w.until("a run to be cancelled", time.Hour, func() bool { return len(w.ran(jobs["cancelled"])) == 1 })
		w.server.want(jobs["cancelled"], hpcsera.DesiredCancel)
		w.ends(jobs["succeeded"], hpcsera.Succeeded, "")
		w.ends(jobs["failed"], hpcsera.Failed, hpcsera.ExitNonzero)
		w.ends(jobs["cancelled"], hpcsera.Cancelled, hpcsera.CancelledByUser)
		w.ends(jobs["longer"], hpcsera.Succeeded, "")
		w.ends(jobs["shorter"], hpcsera.Failed, hpcsera.ExitNonzero)
		w.until("the running job's directory", time.Minute, func() bool { return w.stands(jobs["running"]) })
		began := time.Now()
		for _, c := range []struct {
			day  float64
			gone []string // until then
		}{
			{0, nil},
			{1, []string{"shorter"}},
			{2.9, []string{"shorter"}},
			{4, []string{"shorter", "succeeded"}},
			{13.9, []string{"shorter", "succeeded"}},
			{15, []string{"shorter", "succeeded", "failed", "cancelled"}},
		} {
			// Between the looks there is no agent: days of one that runs are many
			// listings of real folders.
			i.stop()
			time.Sleep(time.Until(began.Add(time.Duration(c.day * 24 * float64(time.Hour)))))
			i = w.start()
			time.Sleep(11 * time.Minute) // it has cleaned once with its term
			var left, used int
			if err := i.agent.engine.read(t.Context(), func() { left, used = len(i.agent.engine.ended), i.agent.engine.runs[code.approval] }); err != nil {
				t.Fatal(err)
			}
			if want := len(jobs) - 1 - len(c.gone); left != want {
				t.Errorf("day %v: %d ended jobs are remembered, want %d", c.day, left, want)
			}
			if used != len(jobs) {
				t.Errorf("day %v: the approval was used %d times, want %d: what is forgotten still counts", c.day, used, len(jobs))
			}
			for name, job := range jobs {
				want := true
				for _, g := range c.gone {
					want = want && g != name
				}
				if got := w.stands(job); got != want {
					t.Errorf("day %v: the directory of the %s job stands: %v, want %v", c.day, name, got, want)
				}
				if left := w.spooled(job); !want && left {
					t.Errorf("day %v: the spool still has the %s job", c.day, name)
				}
			}
		}
	})
}

// What was submitted as one array has its tasks in one folder. While that stands
// for a job that still runs, a member whose job is over must find its start
// taken, however late the batch system begins it.
func TestAClaimStandsAsLongAsItsSubmission(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		code := w.sign(2, hpcsera.BatchStep)
		short, long := w.server.submit(code, false), w.server.submit(code, false)
		w.planned(short, program{run: time.Minute})
		w.planned(long, program{run: 4*24*time.Hour + time.Hour})
		i := w.start()
		w.ends(short, hpcsera.Succeeded, "")
		w.until("the other one to run", time.Hour, func() bool { return len(w.ran(long)) == 1 })
		var tags, others []string
		if err := i.agent.engine.read(t.Context(), func() {
			tags, others = i.agent.engine.ended[short].tags, i.agent.engine.jobs[long].tags
		}); err != nil || len(tags) != 1 || !slices.Equal(tags, others) {
			t.Fatalf("submissions: %v and %v, want one array (%v)", tags, others, err)
		}
		clean := func(wait time.Duration) {
			i.stop()
			time.Sleep(wait)
			i = w.start()
			time.Sleep(11 * time.Minute)
		}
		clean(4 * 24 * time.Hour)
		if w.stands(short) {
			t.Error("the directory stands after 4 days")
		}
		if owner, won, err := w.spool.Take(short, 0, 1, spool.Claim{Owner: spool.OwnerWrapper, Tag: tags[0]}); won || err != nil {
			t.Errorf("a second start of the job that is over was won (%+v, %v)", owner, err)
		}
		w.ends(long, hpcsera.Succeeded, "")
		clean(time.Hour)
		if w.spooled(short) || !w.spooled(long) {
			t.Errorf("the spool has the first job: %v, the second: %v", w.spooled(short), w.spooled(long))
		}
	})
}

// stands reports whether a job's directory is there.
func (w *world) stands(job string) bool {
	_, err := os.Stat(filepath.Join(w.real, "work", job))
	return err == nil
}

// spooled reports whether the spool knows a job.
func (w *world) spooled(job string) bool {
	_, err := os.Stat(filepath.Join(w.real, "state", "spool", job))
	return err == nil
}
