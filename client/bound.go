package client

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// bound signs requests with a credential that is bound to a key (DPoP, RFC
// 9449): that of a session of hpcsera login. It repeats a request once where
// the server asks for its present nonce.
type bound struct {
	next       http.RoundTripper
	credential Secret
	key        *Key
	base       *url.URL // of the server as it is reached
	public     string   // as the server knows itself, which proofs name

	mu    sync.Mutex
	nonce string
}

// RoundTrip implements [http.RoundTripper].
func (b *bound) RoundTrip(r *http.Request) (*http.Response, error) {
	for try := 0; ; try++ {
		signed, err := b.sign(r)
		if err != nil {
			return nil, err
		}
		res, err := b.next.RoundTrip(signed)
		if err != nil {
			return nil, err
		}
		if fresh := res.Header.Get("DPoP-Nonce"); fresh != "" {
			b.mu.Lock()
			b.nonce = fresh
			b.mu.Unlock()
		}
		wanted := res.StatusCode == http.StatusUnauthorized && strings.Contains(res.Header.Get("WWW-Authenticate"), `"use_dpop_nonce"`)
		if !wanted || try > 0 || r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
			return res, nil
		}
		res.Body.Close()
	}
}

// sign returns a copy of r with the credential and a proof for it.
func (b *bound) sign(r *http.Request) (*http.Request, error) {
	out := r.Clone(r.Context())
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		out.Body = body
	}
	b.mu.Lock()
	nonce := b.nonce
	b.mu.Unlock()
	target := b.public + strings.TrimPrefix(r.URL.EscapedPath(), b.base.EscapedPath())
	proof, err := b.key.proof(r.Method, target, b.credential.Reveal(), nonce, time.Now())
	if err != nil {
		return nil, err
	}
	out.Header.Set("Authorization", "DPoP "+b.credential.Reveal())
	out.Header.Set("DPoP", proof)
	return out, nil
}
