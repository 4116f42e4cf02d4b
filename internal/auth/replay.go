package auth

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
)

// replays remembers the proofs that this replica accepted, for as long as
// their nonces live. It counts per agent, so an agent that floods the server
// stops itself and nobody else.
type replays struct {
	mu     sync.Mutex
	agents map[string]*seenProofs
	swept  time.Time
}

// seenProofs are two generations: a proof stays for at least one nonceLife and
// its skew after it was seen, and at most for two.
type seenProofs struct {
	now, before map[[16]byte]struct{}
	turned      time.Time
}

const (
	generation = nonceLife + nonceSkew
	maxProofs  = 32768   // of one agent in one generation: some 360 requests a second
	maxAgents  = 100_000 // whose proofs are remembered at once
)

func newReplays() *replays { return &replays{agents: map[string]*seenProofs{}} }

// first refuses a proof that was seen before.
func (r *replays) first(agent, jti string, now time.Time) error {
	sum := sha256.Sum256([]byte(jti))
	id := [16]byte(sum[:16])
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	a := r.agents[agent]
	if a == nil {
		if len(r.agents) >= maxAgents {
			return hpcsera.Errorf(hpcsera.Unavailable, "more agents send requests than the server can remember.")
		}
		a = &seenProofs{now: map[[16]byte]struct{}{}, turned: now}
		r.agents[agent] = a
	}
	if now.Sub(a.turned) >= generation {
		if now.Sub(a.turned) >= 2*generation {
			a.now = nil
		}
		a.now, a.before, a.turned = map[[16]byte]struct{}{}, a.now, now
	}
	_, seen := a.now[id]
	_, seenBefore := a.before[id]
	if seen || seenBefore {
		return badProof("this proof was used before.").Hint("Each request needs a new one, with a new jti.")
	}
	if len(a.now) >= maxProofs {
		return hpcsera.Errorf(hpcsera.Unavailable, "the agent sends more requests than the server can remember.")
	}
	a.now[id] = struct{}{}
	return nil
}

// sweep forgets agents that went away.
func (r *replays) sweep(now time.Time) {
	if now.Sub(r.swept) < 2*generation {
		return
	}
	r.swept = now
	for name, a := range r.agents {
		if now.Sub(a.turned) >= 2*generation {
			delete(r.agents, name)
		}
	}
}
