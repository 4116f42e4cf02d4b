package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// verification measures what an agent's judgement of an approved job costs: it
// reads the trust file, and checks signature, digests, statement and values.
func (b *bed) verification(context.Context) ([]result, error) {
	trust, order, site, err := approved(b.dir)
	if err != nil {
		return nil, fmt.Errorf("approve a job: %w", err)
	}
	var took []time.Duration
	for range 500 {
		began := time.Now()
		if _, err := policy.Verify(trust, order, site); err != nil {
			return nil, fmt.Errorf("verify a job: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return []result{{"an agent's verification of an approved job", "under 2 ms", fmt.Sprintf("median %.2f ms", float64(median(took).Microseconds())/1000)}}, nil
}

// approved makes a trust file in dir and a job that it lets start.
func approved(dir string) (trust string, order hpcsera.OrderSpec, site policy.Context, err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", order, site, err
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return "", order, site, err
	}
	state := filepath.Join(dir, "verify")
	if err := os.Mkdir(state, 0o700); err != nil {
		return "", order, site, err
	}
	trust = filepath.Join(state, "trust.yaml")
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	if err := os.WriteFile(trust, []byte("keys:\n  - {name: bench, plain: true, key: '"+line+"'}\n"), 0o600); err != nil {
		return "", order, site, err
	}
	site = policy.Context{
		User: "alice", Site: "gwdg", Deployment: "https://hpc.example.org", Projects: []string{"cfd"}, Now: time.Now(),
		Thumbprint: base64.RawURLEncoding.EncodeToString(make([]byte, 32)),
	}
	code := hpcsera.Manifest{
		Name: "cavity", Program: hpcsera.Program{Script: "icoFoam\n"},
		Parameters: map[string]json.RawMessage{"viscosity": []byte(`{"type":"number","minimum":0.001}`)},
	}
	return signed(trust, code, key, site)
}

func signed(trust string, code hpcsera.Manifest, key ssh.Signer, site policy.Context) (string, hpcsera.OrderSpec, policy.Context, error) {
	statement, err := approval.ForManifest(code, hpcsera.RunPart{}, approval.Options{
		Deployment: site.Deployment, User: site.User, Project: "cfd", Sites: []string{site.Site}, Agents: []string{site.Thumbprint},
	})
	if err != nil {
		return "", hpcsera.OrderSpec{}, site, err
	}
	text, err1 := statement.Canonical()
	signature, err2 := approval.SignSSH(key, statement)
	manifest, err3 := code.Canonical()
	return trust, hpcsera.OrderSpec{
		Name: code.Name, User: site.User, Project: "cfd", Client: "cli", Submitter: site.User, Site: site.Site, Digest: hpcsera.DigestOf(manifest),
		Manifest: manifest, Statement: text, Signature: signature, Run: hpcsera.RunPart{Values: hpcsera.Values{"viscosity": []byte("0.02")}}, Created: time.Now(),
	}, site, errors.Join(err1, err2, err3)
}
