package oauth

import (
	"sync"
	"time"

	"github.com/hpcsera/hpcsera/internal/peer"
)

// arrivals bounds how often one address may ask for codes to type: anybody may
// ask, so anybody could fill the database and the codes' space. It is a
// replica's own memory; the bound of open requests is everybody's. Another
// bounds polls for what there is not.
type arrivals struct {
	burst float64
	pace  time.Duration

	mu    sync.Mutex
	from  map[string]*arrival
	swept time.Time
}

// arrival is a bucket: it holds burst requests and regains one each pace.
type arrival struct {
	spent float64
	at    time.Time
}

// The allowances. Many programs can poll from behind one address.
const (
	burst        = 20
	pace         = 6 * time.Second
	strayBurst   = 200
	strayPace    = time.Second
	maxAddresses = 100_000
)

func newArrivals(burst float64, pace time.Duration) *arrivals {
	return &arrivals{burst: burst, pace: pace, from: map[string]*arrival{}}
}

// admit counts a request and reports whether it may go on.
func (a *arrivals) admit(address string, now time.Time) bool {
	address = peer.Network(address)
	a.mu.Lock()
	defer a.mu.Unlock()
	full := time.Duration(a.burst) * a.pace
	if now.Sub(a.swept) > full {
		a.swept = now
		for name, one := range a.from {
			if now.Sub(one.at) > full {
				delete(a.from, name)
			}
		}
	}
	one := a.from[address]
	if one == nil {
		if len(a.from) >= maxAddresses {
			return false
		}
		one = &arrival{at: now}
		a.from[address] = one
	}
	one.spent = max(0, one.spent-now.Sub(one.at).Seconds()/a.pace.Seconds())
	one.at = now
	if one.spent > a.burst-1 {
		return false
	}
	one.spent++
	return true
}
