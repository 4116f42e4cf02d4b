package httpapi_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// bound is a credential with the key that it is bound to, for requests that no
// program of ours would make.
type bound struct {
	d          *deployment
	id         string
	credential string
	key        *client.Key
	private    ed25519.PrivateKey
	nonce      string // of the server's last answer
}

// keyed loads the key of that name, or makes it.
func (d *deployment) keyed(name string) (*client.Key, ed25519.PrivateKey) {
	d.t.Helper()
	path := filepath.Join(d.dir, name+".key")
	key, err := client.LoadKey(path)
	must(d.t, err)
	text, err := os.ReadFile(path)
	must(d.t, err)
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(d.t, err)
	return key, parsed.(ed25519.PrivateKey)
}

// enrolment is an agent's credential with its key.
type enrolment struct{ bound }

// enrolled enrols an agent of user at lab, with a key of its own.
func (d *deployment) enrolled(user, project string) *enrolment {
	d.t.Helper()
	key, private := d.keyed("agent-of-" + user)
	made, err := d.access.CreateAgent(d.t.Context(), auth.OperatorOnHost(), access.NewAgent{User: user, Site: "lab", Projects: []string{project}, Thumbprint: key.Thumbprint()})
	must(d.t, err)
	return &enrolment{bound{d: d, id: made.Agent.ID, credential: made.Credential, key: key, private: private}}
}

// session is an hpcsera login session of a user, with the user's key.
func (d *deployment) session(user string) *bound {
	d.t.Helper()
	key, private := d.keyed(user)
	s := &bound{d: d, key: key, private: private}
	must(d.t, d.db.Write(d.t.Context(), func(tx store.Tx) error {
		made, credential, err := d.access.IssueSession(tx, &auth.Principal{Person: &auth.Person{User: user, SteppedUp: true}},
			hpcsera.Session{User: user, Thumbprint: key.Thumbprint(), Host: "laptop"})
		s.id, s.credential = made.ID, credential
		return err
	}))
	return s
}

// login makes a session of a user and returns a client that has it.
func (d *deployment) login(user string) *client.Client {
	d.t.Helper()
	s := d.session(user)
	c, err := client.New(client.Options{Server: d.url, Token: client.NewSecret(s.credential), Key: s.key, Transport: d.web.Transport})
	must(d.t, err)
	return c
}

// agent is the client that agents use.
func (e *enrolment) agent() *client.Agent {
	e.d.t.Helper()
	a, err := client.NewAgent(e.d.url, e.credential, e.key, e.d.web.Transport)
	must(e.d.t, err)
	return a
}

// proof is a DPoP proof for one request, as RFC 9449 has it.
func (e *bound) proof(method, path string) string {
	e.d.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: e.private}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	must(e.d.t, err)
	sum := sha256.Sum256([]byte(e.credential))
	claims, err := json.Marshal(map[string]any{
		"jti": rand.Text(), "htm": method, "htu": e.d.url + path, "iat": time.Now().Unix(),
		"ath": base64.RawURLEncoding.EncodeToString(sum[:]), "nonce": e.nonce,
	})
	must(e.d.t, err)
	jws, err := signer.Sign(claims)
	must(e.d.t, err)
	text, err := jws.CompactSerialize()
	must(e.d.t, err)
	return text
}
