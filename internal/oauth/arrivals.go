package oauth

import (
	"sync"
	"time"

	"github.com/hpcsera/hpcsera/internal/peer"
)

// arrivals bounds how often one address may ask for codes to type: anybody may
// ask, so anybody could fill the database and the codes' space. It is a
// replica's own memory; the bound of open requests is everybody's.
type arrivals struct {
	mu    sync.Mutex
	from  map[string]*arrival
	swept time.Time
}

// arrival is a bucket: it holds burst requests and regains one each pace.
type arrival struct {
	spent float64
	at    time.Time
}

const (
	burst        = 20
	pace         = 6 * time.Second
	maxAddresses = 100_000
)

func newArrivals() *arrivals { return &arrivals{from: map[string]*arrival{}} }

// admit counts a request and reports whether it may go on.
func (a *arrivals) admit(address string, now time.Time) bool {
	address = peer.Network(address)
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.swept) > burst*pace {
		a.swept = now
		for name, one := range a.from {
			if now.Sub(one.at) > burst*pace {
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
	one.spent = max(0, one.spent-now.Sub(one.at).Seconds()/pace.Seconds())
	one.at = now
	if one.spent > burst-1 {
		return false
	}
	one.spent++
	return true
}
