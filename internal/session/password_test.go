package session

import (
	"context"
	"strings"
	"testing"
)

func cheap() *hasher { return newHasher(Hashing{Passes: 1, Memory: 64, Threads: 1}) }

// Whether there is an account must not show in how long the answer takes.
func TestWhereThereIsNoPasswordOneIsHashedAllTheSame(t *testing.T) {
	h := cheap()
	real, err := h.hash(t.Context(), "four words in a row")
	if err != nil {
		t.Fatal(err)
	}
	for range hashers { // all are busy: whoever hashes has to wait
		h.slots <- struct{}{}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for name, hash := range map[string]string{"an account": real, "no account": ""} {
		for _, password := range []string{"wrong password", strings.Repeat("x", longest+1), ""} {
			if _, err := h.verify(ctx, hash, password); err == nil {
				t.Errorf("%s: %.10q was checked without hashing it", name, password)
			}
		}
	}
	if a, b := strings.Split(real, "$"), strings.Split(h.decoy, "$"); a[3] != b[3] {
		t.Errorf("the decoy costs %s, a password %s", b[3], a[3])
	}
}

func TestOnlyTheRightPasswordIsRight(t *testing.T) {
	h := cheap()
	hash, err := h.hash(t.Context(), "pass\u00e9 words in a row")
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]bool{
		"pass\u00e9 words in a row": true, "passe\u0301 words in a row": true, // another keyboard's é
		"passe words in a row": false, "": false, " pass\u00e9 words in a row": false,
	} {
		if got, err := h.verify(t.Context(), hash, password); got != want || err != nil {
			t.Errorf("%q: got %v, %v, want %v", password, got, err, want)
		}
		if got, err := h.verify(t.Context(), "", password); got || err != nil {
			t.Errorf("%q where there is none: got %v, %v", password, got, err)
		}
	}
	again, err := h.hash(t.Context(), "pass\u00e9 words in a row")
	if err != nil || again == hash {
		t.Errorf("two hashes of a password are the same (%v): there is no salt", err)
	}
	for _, broken := range []string{"x", "$argon2i$v=19$m=64,t=1,p=1$AA$AA", "$argon2id$v=19$m=x$AA$AA", "$argon2id$v=19$m=64,t=1,p=1$!$AA", "$argon2id$v=19$m=64,t=1,p=1$AA$!"} {
		if ok, err := h.verify(t.Context(), broken, "x"); ok || err == nil {
			t.Errorf("%s: got %v, %v, want an error", broken, ok, err)
		}
	}
}
