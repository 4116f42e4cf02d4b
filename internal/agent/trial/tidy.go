package trial

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// How long a tidy-up waits for submit commands that were cut off, and for
// cancelled jobs to be gone.
const (
	lateness = 4 * time.Second
	goneIn   = 2 * time.Minute
)

// tidy cancels every job that the folder names, also when the user pressed
// Ctrl-C, and removes the names of those that are gone.
func (r *Trial) tidy(ctx context.Context, name string) bool {
	cases, err := filepath.Glob(filepath.Join(r.Dir, "case-*"))
	if err == nil && len(cases) == 0 {
		return true
	}
	interrupted := ctx.Err() != nil
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), goneIn)
	defer stop()
	return r.one(ctx, name, func(t schedulertest.T) {
		refs := r.named(t)
		if interrupted { // in the middle of a submission, maybe
			pause(ctx, lateness)
		}
		for left := refs; len(left) > 0; {
			if err := r.Batch.Act(ctx, scheduler.Cancel, left); err != nil {
				t.Logf("cancel: %v", err)
			}
			if left, err = r.living(ctx, left); err != nil {
				t.Logf("%v", err)
			}
			if len(left) == 0 {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("not known to be gone: %v. The next trial cancels them first", left)
			}
			pause(ctx, askEvery)
		}
		for _, dir := range cases {
			_ = os.RemoveAll(dir) // what a dying job writes meanwhile, the next trial removes
		}
	})
}

// named lists the tags of what was submitted.
func (r *Trial) named(t schedulertest.T) (refs []scheduler.Ref) {
	scripts, err := filepath.Glob(filepath.Join(r.Dir, "case-*", "s_*.sh"))
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range scripts {
		tag := strings.TrimSuffix(filepath.Base(script), ".sh")
		if hpcsera.ValidID("s", tag) {
			refs = append(refs, scheduler.Ref{Tag: tag})
		}
	}
	return refs
}

// living returns those of which a job is not known to have ended. With an error
// that is all of them.
func (r *Trial) living(ctx context.Context, refs []scheduler.Ref) (left []scheduler.Ref, err error) {
	tags := make([]string, len(refs))
	for i, ref := range refs {
		tags[i] = ref.Tag
	}
	found, err := r.Batch.Find(ctx, tags...)
	if err != nil {
		return refs, err
	}
	alive := map[string]bool{}
	for _, st := range found {
		alive[st.Tag] = alive[st.Tag] || st.Phase != scheduler.PhaseEnded
	}
	for _, ref := range refs {
		if alive[ref.Tag] {
			left = append(left, ref)
		}
	}
	return left, nil
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
