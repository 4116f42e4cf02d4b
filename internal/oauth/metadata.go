package oauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// metadata describes the endpoints (RFC 8414, CIBA Core section 4). Clients
// that look only at openid-configuration get the same.
func (s *Service) metadata(w http.ResponseWriter, _ *http.Request) {
	at := s.cfg.PublicURL
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                at,
		"token_endpoint":                        at + "/oauth/token",
		"device_authorization_endpoint":         at + "/oauth/device_authorization",
		"backchannel_authentication_endpoint":   at + "/oauth/bc-authorize",
		"revocation_endpoint":                   at + "/oauth/revoke",
		"introspection_endpoint":                at + "/oauth/introspect",
		"jwks_uri":                              at + "/oauth/jwks",
		"service_documentation":                 at + "/docs",
		"grant_types_supported":                 []string{deviceGrant, cibaGrant},
		"response_types_supported":              []string{}, // there is no authorization endpoint
		"scopes_supported":                      []string{"openid", "project:NAME", "role:NAME", "site:NAME", "scope:project", "for:ci"},
		"authorization_details_types_supported": []string{tokenDetails},

		"token_endpoint_auth_methods_supported":                    []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
		"token_endpoint_auth_signing_alg_values_supported":         assertionAlgorithms,
		"revocation_endpoint_auth_methods_supported":               []string{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
		"revocation_endpoint_auth_signing_alg_values_supported":    assertionAlgorithms,
		"introspection_endpoint_auth_methods_supported":            []string{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		"introspection_endpoint_auth_signing_alg_values_supported": assertionAlgorithms,
		"dpop_signing_alg_values_supported":                        []string{"EdDSA", "ES256"},
		"backchannel_token_delivery_modes_supported":               []string{"poll", "ping"},
		"backchannel_user_code_parameter_supported":                false,
		"subject_types_supported":                                  []string{"public"},
		"id_token_signing_alg_values_supported":                    []string{string(jose.ES256)},
		"claims_supported":                                         []string{"iss", "sub", "aud", "exp", "iat", "auth_time"},
		"request_parameter_supported":                              false,
		"request_uri_parameter_supported":                          false,
	})
}

// jwks shows the key that signs id_tokens.
func (s *Service) jwks(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: s.signing.Public(), KeyID: s.keyID, Algorithm: string(jose.ES256), Use: "sig"},
	}})
}

// signingKey derives the key of id_tokens from the server's secret, so that
// all replicas have the same one and there is none to keep. Another secret
// makes another key; an id_token is read when it arrives, so none outlives it.
func signingKey(secret []byte) (*ecdsa.PrivateKey, string, error) {
	for try := range 8 {
		b, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("hpcsera id_token key %d", try), 32)
		if err != nil {
			return nil, "", fmt.Errorf("derive the key of id_tokens: %w", err)
		}
		// A number beyond the curve's order is no key: once in 2^32 times.
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b)
		if err != nil {
			continue
		}
		public := jose.JSONWebKey{Key: key.Public()}
		sum, err := public.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, "", fmt.Errorf("name the key of id_tokens: %w", err)
		}
		return key, base64.RawURLEncoding.EncodeToString(sum), nil
	}
	return nil, "", fmt.Errorf("no key of id_tokens can be derived")
}

// idTokenLife is how long an id_token says that it is good: it tells of one
// decision, and is checked when it arrives.
const idTokenLife = 5 * time.Minute

// idToken says who decided, and when (CIBA Core section 7.3, OpenID Connect
// Core section 2). It is no access: only the client may want to know.
func (s *Service) idToken(g grant, accessToken string) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.signing},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", s.keyID))
	if err != nil {
		return "", fmt.Errorf("sign an id_token: %w", err)
	}
	half := sha256.Sum256([]byte(accessToken))
	now := s.now()
	payload, err := json.Marshal(map[string]any{
		"iss": s.cfg.PublicURL, "sub": g.User, "aud": g.Client, "iat": now.Unix(), "exp": now.Add(idTokenLife).Unix(),
		"auth_time": g.Decided.Unix(), "preferred_username": g.User, "at_hash": base64.RawURLEncoding.EncodeToString(half[:16]),
	})
	if err != nil {
		return "", fmt.Errorf("write an id_token: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign an id_token: %w", err)
	}
	return jws.CompactSerialize()
}
