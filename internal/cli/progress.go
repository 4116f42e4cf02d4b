package cli

import (
	"context"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// barFrom is how many bytes are worth a progress bar.
const barFrom = 1 << 20

// progress shows how many of a known number of bytes went over the network,
// on a terminal only. The zero value shows nothing.
type progress struct {
	group *mpb.Progress
	bar   *mpb.Bar
}

// startProgress shows a bar where standard error is a terminal and there is
// enough to wait for. finish takes it away.
func (a *app) startProgress(ctx context.Context, title string, total int64) *progress {
	if !a.screen.errTTY || total < barFrom {
		return &progress{}
	}
	group := mpb.NewWithContext(ctx, mpb.WithOutput(a.screen.err), mpb.WithWidth(40))
	return &progress{group: group, bar: group.AddBar(total,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(title)),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")),
	)}
}

// set shows that n bytes are done.
func (p *progress) set(n int64) {
	if p.bar != nil {
		p.bar.SetCurrent(n)
	}
}

// Write counts bytes that pass.
func (p *progress) Write(b []byte) (int, error) {
	if p.bar != nil {
		p.bar.IncrBy(len(b))
	}
	return len(b), nil
}

// finish takes the bar away and waits for its goroutines. It may be called
// twice.
func (p *progress) finish() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.group.Wait()
		p.bar = nil
	}
}
