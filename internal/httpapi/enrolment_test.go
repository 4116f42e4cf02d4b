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

	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// enrolment is an agent's credential with its key, for requests that no agent
// of ours would make.
type enrolment struct {
	d          *deployment
	id         string
	credential string
	key        *client.Key
	private    ed25519.PrivateKey
	nonce      string // of the server's last answer
}

// enrolled enrols an agent of user at lab, with a key of its own.
func (d *deployment) enrolled(user, project string) *enrolment {
	d.t.Helper()
	path := filepath.Join(d.dir, user+".key")
	key, err := client.LoadKey(path)
	must(d.t, err)
	text, err := os.ReadFile(path)
	must(d.t, err)
	block, _ := pem.Decode(text)
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(d.t, err)
	made, err := d.access.CreateAgent(d.t.Context(), auth.OperatorOnHost(), access.NewAgent{User: user, Site: "lab", Projects: []string{project}, Thumbprint: key.Thumbprint()})
	must(d.t, err)
	return &enrolment{d: d, id: made.Agent.ID, credential: made.Credential, key: key, private: parsed.(ed25519.PrivateKey)}
}

// agent is the client that agents use.
func (e *enrolment) agent() *client.Agent {
	e.d.t.Helper()
	a, err := client.NewAgent(e.d.url, e.credential, e.key, e.d.web.Transport)
	must(e.d.t, err)
	return a
}

// proof is a DPoP proof for one request, as RFC 9449 has it.
func (e *enrolment) proof(method, path string) string {
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
