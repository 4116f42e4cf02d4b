package auth

import (
	"strconv"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

func TestKeysCannotFillTheMemory(t *testing.T) {
	r := newReplays()
	now := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	for n := range maxAgents {
		if err := r.first(strconv.Itoa(n), "0", now); err != nil {
			t.Fatalf("agent %d: %v", n, err)
		}
	}
	if err := r.first("one too many", "0", now); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("one too many: got %v, want %s", err, hpcsera.Unavailable)
	}
	if err := r.first("0", "1", now); err != nil {
		t.Errorf("one that is known: got %v, want nil", err)
	}
	if err := r.first("later", "0", now.Add(5*generation)); err != nil {
		t.Errorf("later: got %v, want nil", err)
	}
}

func TestAFloodOfProofsStopsOnlyItsAgent(t *testing.T) {
	r := newReplays()
	now := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	var err error
	n := 0
	for ; err == nil && n <= 2*maxProofs; n++ {
		err = r.first("ag_1", strconv.Itoa(n), now)
	}
	if got := hpcsera.CodeOf(err); got != hpcsera.Unavailable || n != maxProofs+1 {
		t.Errorf("after %d proofs: got %v, want %s after %d", n, err, hpcsera.Unavailable, maxProofs+1)
	}
	if err := r.first("ag_2", "0", now); err != nil {
		t.Errorf("another agent: got %v, want nil", err)
	}
	if err := r.first("ag_1", "0", now.Add(generation)); err == nil {
		t.Error("a proof was accepted again while a nonce could still be good")
	}
	if err := r.first("ag_1", "new", now.Add(generation)); err != nil {
		t.Errorf("in the next generation: got %v, want nil", err)
	}
	if err := r.first("ag_3", "0", now.Add(5*generation)); err != nil || len(r.agents) != 1 {
		t.Errorf("later: got %v and %d agents in memory, want nil and 1", err, len(r.agents))
	}
}
