package inquiry_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
)

// inbox is an Auth app: it keeps open requests, takes one that is sent again as
// the same, and refuses what the real one refuses.
type inbox struct {
	mu     sync.Mutex
	open   map[string]decision.Request
	posts  int // requests that were new
	filed  map[string]int
	away   bool   // nothing arrives
	lost   bool   // it arrives and is done; the answer does not come back
	refuse error  // instead of taking a request
	beside func() // runs before a request is taken
}

func newInbox() *inbox { return &inbox{open: map[string]decision.Request{}, filed: map[string]int{}} }

func (b *inbox) answer() error {
	if b.away || b.lost {
		return hpcsera.Errorf(hpcsera.Unavailable, "the Auth app cannot be reached.")
	}
	return nil
}

func (b *inbox) Post(_ context.Context, r decision.Request) error {
	if beside := b.beside; beside != nil {
		b.beside = nil
		beside()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return b.answer()
	}
	if err := r.Validate(); err != nil {
		return err
	}
	for m, texts := range map[*hpcsera.Manifest]map[string][]byte{&r.Code.Manifest: r.Code.Contents, lastOf(r): contentsOf(r)} {
		for path, text := range texts {
			if f, ok := m.File(path); !ok || hpcsera.DigestOf(text) != "sha256:"+f.SHA256 || int64(len(text)) != f.Size {
				return hpcsera.Errorf(hpcsera.DigestMismatch, "the bytes of %s are others.", path)
			}
		}
	}
	if b.refuse != nil {
		return b.refuse
	}
	if old, ok := b.open[r.ID]; ok && !reflect.DeepEqual(old, r) {
		return hpcsera.Errorf(hpcsera.Conflict, "another request has this id.")
	} else if !ok {
		b.posts++
	}
	b.open[r.ID] = r
	return b.answer()
}

func lastOf(r decision.Request) *hpcsera.Manifest {
	if r.Code.Last == nil {
		return nil
	}
	return &r.Code.Last.Manifest
}

func contentsOf(r decision.Request) map[string][]byte {
	if r.Code.Last == nil {
		return nil
	}
	return r.Code.Last.Contents
}

func (b *inbox) Cancel(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.away {
		delete(b.open, id)
	}
	return b.answer()
}

func (b *inbox) Filed(_ context.Context, statement []byte, signature string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return b.answer()
	}
	if _, err := approval.Verify(statement, signature); err != nil {
		return err
	}
	st, err := approval.Parse(statement)
	if err != nil {
		return err
	}
	b.filed[st.ID]++
	return b.answer()
}

func (b *inbox) RequestURL(id string) string { return "https://auth.example.org/requests/hpc/" + id }

// only returns the one request that is open.
func (b *inbox) only(t *testing.T) decision.Request {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) != 1 {
		t.Fatalf("%d requests are open: %v, want 1", len(b.open), slices.Collect(maps.Keys(b.open)))
	}
	for _, r := range b.open {
		return r
	}
	panic("unreachable")
}

func (b *inbox) expectOpen(t *testing.T, name string, want int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.open) != want {
		t.Errorf("%s: %d requests are open, want %d", name, len(b.open), want)
	}
}

// decide ends a request as its user would, who may make less or other of the
// statement. sign is nil where the user says no.
func (b *inbox) decide(t *testing.T, r decision.Request, sign signer, edit ...func(*approval.Statement)) decision.Decision {
	t.Helper()
	b.mu.Lock()
	delete(b.open, r.ID)
	b.mu.Unlock()
	now := time.Now()
	d := decision.Decision{
		ID: hpcsera.NewID("dc"), Issuer: "https://auth.example.org", Audience: "hpc", Request: r.ID, Kind: decision.Code, User: r.User,
		Granted: sign != nil, Decided: now, Expires: now.Add(time.Hour),
	}
	if sign == nil {
		return d
	}
	o := approval.Options{
		Deployment: r.Code.Deployment, User: r.User, Project: r.Project, Sites: r.Code.Sites, Clients: r.Code.Clients, Submitters: r.Code.Submitters,
		Validity: time.Duration(r.Code.Days) * 24 * time.Hour, Runs: r.Code.Runs,
	}
	for _, a := range r.Code.Agents {
		o.Agents = append(o.Agents, a.Thumbprint)
	}
	st, err := approval.ForManifest(r.Code.Manifest, hpcsera.RunPart{}, o)
	if err != nil {
		t.Fatal(err)
	}
	st.Limits = r.Code.Limits
	for _, e := range edit {
		e(&st)
	}
	if d.Statement, err = st.Canonical(); err != nil {
		t.Fatal(err)
	}
	d.Signature = sign(t, st)
	return d
}

// signer signs a statement.
type signer func(t *testing.T, st approval.Statement) string

func withSSH(t *testing.T, st approval.Statement) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := approval.SignSSH(s, st)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// withPasskey is an authenticator in software.
func withPasskey(t *testing.T, st approval.Statement) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := st.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	host := sha256.Sum256([]byte("auth.example.org"))
	data := append(host[:], 0x05, 0, 0, 0, 1) // the user was there and verified
	client := fmt.Appendf(nil, `{"type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org","crossOrigin":false}`,
		base64.RawURLEncoding.EncodeToString(approval.Challenge(text)))
	sum := sha256.Sum256(client)
	return approval.Assertion{
		Credential: []byte("credential"), Key: append([]byte{0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 0x20}, public...), ClientData: client,
		AuthenticatorData: data, Signature: ed25519.Sign(private, slices.Concat(data, sum[:])),
	}.String()
}
