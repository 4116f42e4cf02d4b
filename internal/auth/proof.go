package auth

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
)

// proofWindow is how far the clock of an agent's host may be off. Freshness
// comes from the nonce; this only keeps proofs from being made long before.
const proofWindow = 5 * time.Minute

// proof is what a DPoP proof says, after its signature was verified with the
// key it carries.
type proof struct {
	ID     string  `json:"jti"`
	Method string  `json:"htm"`
	URL    string  `json:"htu"`
	Issued float64 `json:"iat"`
	Access string  `json:"ath"`
	Nonce  string  `json:"nonce"`

	thumbprint string
}

// readProof checks everything of a proof (RFC 9449, section 4.3) that needs no
// look-up. Each sentence names what is wrong, since agents are written by
// others, too.
func readProof(headers []string, method, target string, now time.Time) (proof, error) {
	if len(headers) != 1 {
		return proof{}, badProof("the request has %d DPoP headers instead of one.", len(headers))
	}
	p, err := verifyProof(headers[0])
	if err != nil {
		return proof{}, err
	}
	issued := time.Unix(int64(p.Issued), 0)
	switch {
	case p.Method != method:
		return proof{}, badProof("htm is %q, but the method is %s.", p.Method, method)
	case plainURL(p.URL) != plainURL(target):
		return proof{}, badProof("htu is %q, but the URL is %s.", p.URL, target)
	case p.ID == "" || len(p.ID) > 256:
		return proof{}, badProof("jti is empty or longer than 256 bytes.")
	case now.Sub(issued).Abs() > proofWindow:
		return proof{}, badProof("iat is %s off the server's clock.", now.Sub(issued).Round(time.Second)).
			Hint("Set the host's clock; the server's is %s.", now.UTC().Format(time.RFC3339))
	}
	return p, nil
}

// goesWith checks that the proof was made for this credential.
func (p proof) goesWith(credential string) error {
	sum := sha256.Sum256([]byte(credential))
	if p.Access != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return badProof("ath is not the SHA-256 of the credential.")
	}
	return nil
}

// plainURL writes a URL in the form in which two of them are compared: without
// query and fragment, scheme and host in lower case, no default port.
func plainURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return scheme + "://" + host + u.EscapedPath()
}

func verifyProof(text string) (proof, error) {
	if len(text) > 8192 {
		return proof{}, badProof("the proof is longer than 8 KiB.")
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA, jose.ES256})
	if err != nil {
		return proof{}, badProof("the proof is no JWS signed with EdDSA or ES256.")
	}
	header := jws.Signatures[0].Protected
	if typ, _ := header.ExtraHeaders["typ"].(string); typ != "dpop+jwt" {
		return proof{}, badProof("typ is %q instead of dpop+jwt.", typ)
	}
	key := header.JSONWebKey
	if key == nil || !key.Valid() || !key.IsPublic() {
		return proof{}, badProof("jwk is missing or no public key.")
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return proof{}, badProof("the signature is wrong.")
	}
	var p proof
	if err := json.Unmarshal(payload, &p); err != nil {
		return proof{}, badProof("the claims are not as RFC 9449 has them.")
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return proof{}, badProof("jwk has no thumbprint.")
	}
	p.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return p, nil
}

func badProof(format string, args ...any) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.DPoPRequired, format, args...)
}
