package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff doubles its delay from first to most, with jitter: between half of
// the delay and all of it.
type backoff struct {
	first, most time.Duration
	now         time.Duration
}

func (b *backoff) next() time.Duration {
	b.now = min(max(b.now*2, b.first), b.most)
	return b.now/2 + rand.N(b.now/2+1)
}

func (b *backoff) reset() { b.now = 0 }

// retryDelay is the wait before the try after the given number of tries.
func retryDelay(tries int, first, most time.Duration) time.Duration {
	b := backoff{first: first, most: most}
	for range min(tries, 20) - 1 {
		b.next()
	}
	return b.next()
}

// sleep waits for d or for ctx to end.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
