package consent

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// The limits of what a sign-in brings.
const (
	grantLife   = time.Minute     // of an authorization code
	idTokenLife = 5 * time.Minute // it is read at once
)

// verifierPattern is PKCE's code_verifier (RFC 7636).
var verifierPattern = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)

// grant is what an authorization code stands for.
type grant struct {
	Deployment string    `json:"deployment"`
	Redirect   string    `json:"redirect"`
	Challenge  string    `json:"challenge"`
	Nonce      string    `json:"nonce"`
	User       string    `json:"user"`
	Session    string    `json:"session"`
	Verified   time.Time `json:"verified"`
	Stepped    bool      `json:"stepped"`
	Methods    []string  `json:"methods"`
	Mail       string    `json:"mail,omitempty"`
	Projects   []string  `json:"projects,omitempty"`
}

func (s *Service) grantCode(ctx context.Context, a asking, who Person) (string, error) {
	secret := make([]byte, 32)
	rand.Read(secret)
	code := base64.RawURLEncoding.EncodeToString(secret)
	g := grant{
		Deployment: a.deployment.Name, Redirect: a.redirect, Challenge: a.challenge, Nonce: a.nonce,
		User: who.User, Session: who.Session, Verified: who.Verified, Stepped: !who.Stepped.IsZero(), Methods: who.Methods,
		Mail: who.Mail, Projects: who.Projects,
	}
	err := s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		// The proof was for this sign-in: the same address wants a new one.
		if err := tx.Delete(kindLogin, a.key()); err != nil {
			return err
		}
		if err := tx.Insert(kindGrant, hpcsera.DigestOf([]byte(code)), g, records.Options{Owner: who.Session, Ends: s.cfg.Now().Add(grantLife)}); err != nil {
			return err
		}
		return s.note(tx, who.User, "deployment.sign-in", who.User, a.deployment.Name, "")
	})
	return code, err
}

// maxTokenForm is far above what a request for tokens holds.
const maxTokenForm = 32 << 10

// token changes an authorization code for an id_token, once.
func (s *Service) token(w http.ResponseWriter, r *http.Request) {
	answer, err := s.exchange(w, r)
	w.Header().Set("Cache-Control", "no-store")
	var no *refusal
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, answer)
	case errors.As(err, &no) && no.code == "invalid_client":
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": no.code, "error_description": no.description})
	case errors.As(err, &no):
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": no.code, "error_description": no.description})
	default:
		s.cfg.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "server_error"})
	}
}

func (s *Service) exchange(w http.ResponseWriter, r *http.Request) (map[string]any, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenForm)
	if err := r.ParseForm(); err != nil {
		return nil, &refusal{"invalid_request", "the form cannot be read"}
	}
	p := map[string]string{}
	for _, name := range []string{"grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_assertion", "client_assertion_type"} {
		var err error
		if p[name], err = only(r.PostForm, name); err != nil {
			return nil, err
		}
	}
	if p["client_assertion_type"] != decision.AssertionType {
		return nil, &refusal{"invalid_client", "the client authenticates by private_key_jwt"}
	}
	d, err := s.authenticate(r.Context(), p["client_assertion"])
	switch {
	case hpcsera.CodeOf(err) == hpcsera.Unauthenticated:
		return nil, &refusal{"invalid_client", err.Error()}
	case err != nil:
		return nil, err
	case p["client_id"] != "" && p["client_id"] != d.Name:
		return nil, &refusal{"invalid_client", "client_id is not who made the assertion"}
	case p["grant_type"] != "authorization_code":
		return nil, &refusal{"unsupported_grant_type", "only authorization_code is"}
	}
	return s.redeem(r.Context(), d, p)
}

// idToken are the claims of OpenID Connect.
type idToken struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience string   `json:"aud"`
	Expires  int64    `json:"exp"`
	Issued   int64    `json:"iat"`
	AuthTime int64    `json:"auth_time"`
	Nonce    string   `json:"nonce"`
	Class    string   `json:"acr"`
	Methods  []string `json:"amr"`
	Session  string   `json:"sid"`
	Name     string   `json:"preferred_username"`
	Mail     string   `json:"email,omitempty"`
	Projects []string `json:"hpcsera_projects,omitempty"` // where the institution says so
}

// redeem takes a code away and returns what it stands for. A code that was
// shown with the wrong proof is gone as well: somebody else had it.
func (s *Service) redeem(ctx context.Context, d Deployment, p map[string]string) (map[string]any, error) {
	var answer map[string]any
	var no error
	err := s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		answer, no = nil, &refusal{"invalid_grant", "the code is unknown, over, used, or not this client's"}
		key := hpcsera.DigestOf([]byte(p["code"]))
		g, found, err := get[grant](tx, kindGrant, key)
		if err != nil || !found {
			return err
		}
		if err := tx.Delete(kindGrant, key); err != nil {
			return err
		}
		if g.Deployment != d.Name || g.Redirect != p["redirect_uri"] || !proves(p["code_verifier"], g.Challenge) {
			return s.noteRefused(tx, d.Name, "deployment.sign-in", g.User, d.Name, "the code was not this deployment's to use")
		}
		text, err := s.idToken(tx, g)
		if err != nil {
			return err
		}
		if err := tx.Put(kindRelying, g.Session+"/"+d.Name, named{d.Name}, records.Options{Owner: g.Session, Ends: s.cfg.Now().Add(relyingLife)}); err != nil {
			return err
		}
		// OAuth wants an access token. There is nothing that it would open.
		answer, no = map[string]any{"token_type": "Bearer", "access_token": hpcsera.NewID("none"), "expires_in": 1, "scope": "openid", "id_token": text}, nil
		return nil
	})
	return answer, errors.Join(err, no)
}

func proves(verifier, challenge string) bool {
	sum := sha256.Sum256([]byte(verifier))
	return verifierPattern.MatchString(verifier) &&
		subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}

func (s *Service) idToken(r records.Reader, g grant) (string, error) {
	key, err := s.signer(r)
	if err != nil {
		return "", err
	}
	now, class := s.cfg.Now(), acrOne
	if g.Stepped {
		class = acrTwo
		// A session that came from an institution tells of the second factor that
		// was given here afterwards by nothing else.
		if !slices.Contains(g.Methods, "mfa") {
			g.Methods = append(slices.Clone(g.Methods), "mfa")
		}
	}
	text, err := key.Sign("JWT", idToken{
		Issuer: s.cfg.Issuer, Subject: g.User, Name: g.User, Audience: g.Deployment, Expires: now.Add(idTokenLife).Unix(), Issued: now.Unix(),
		AuthTime: g.Verified.Unix(), Nonce: g.Nonce, Class: class, Methods: g.Methods, Session: g.Session,
		Mail: g.Mail, Projects: g.Projects,
	})
	if err != nil {
		return "", fmt.Errorf("sign an id_token: %w", err)
	}
	return text, nil
}
