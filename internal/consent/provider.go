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
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// The limits of a sign-in.
const (
	grantLife   = time.Minute      // of an authorization code
	idTokenLife = 5 * time.Minute  // it is read at once
	loginLife   = 15 * time.Minute // for a person to prove to be there again
)

// discovery tells what the provider does (OpenID Connect Discovery, RFC 8414).
func (s *Service) discovery(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=3600")
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                           s.cfg.Issuer,
		"authorization_endpoint":                           s.cfg.Issuer + "/oidc/authorize",
		"token_endpoint":                                   s.cfg.Issuer + "/oidc/token",
		"jwks_uri":                                         s.cfg.Issuer + "/oidc/keys",
		"scopes_supported":                                 []string{"openid"},
		"response_types_supported":                         []string{"code"},
		"response_modes_supported":                         []string{"query"},
		"grant_types_supported":                            []string{"authorization_code"},
		"subject_types_supported":                          []string{"public"},
		"id_token_signing_alg_values_supported":            []string{"EdDSA"},
		"token_endpoint_auth_methods_supported":            []string{"private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []string{"EdDSA"},
		"code_challenge_methods_supported":                 []string{"S256"},
		"prompt_values_supported":                          []string{"none", "login"},
		"claims_supported":                                 []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "amr", "acr", "sid", "nonce", "preferred_username", "email", "hpcsera_projects"},
		"acr_values_supported":                             []string{acrOne, acrTwo},
		"authorization_response_iss_parameter_supported":   true,
		"backchannel_logout_supported":                     true,
		"backchannel_logout_session_supported":             true,
		"claims_parameter_supported":                       false,
		"request_parameter_supported":                      false,
		"request_uri_parameter_supported":                  false,
	})
}

// How sure the provider is of who signed in: acrTwo after a second factor.
const (
	acrOne = "urn:hpcsera:acr:1"
	acrTwo = "urn:hpcsera:acr:2"
)

// asking is a deployment's request to sign somebody in.
type asking struct {
	deployment Deployment
	redirect   string
	state      string
	nonce      string
	challenge  string
	prompt     string
	maxAge     time.Duration // negative: any
}

var (
	challengePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
	verifierPattern  = regexp.MustCompile(`^[A-Za-z0-9._~-]{43,128}$`)
)

// refusal is an error of OAuth, for programs.
type refusal struct{ code, description string }

func (r *refusal) Error() string { return r.code + ": " + r.description }

// only returns a parameter that may come once, and "" where it does not come.
func only(q url.Values, name string) (string, error) {
	switch len(q[name]) {
	case 0:
		return "", nil
	case 1:
		return q.Get(name), nil
	}
	return "", &refusal{"invalid_request", name + " is given twice"}
}

// readAsking reads the parameters. While the deployment and its address are
// not known for sure nobody is sent anywhere: err is then an error for the
// person, and not a *refusal for the deployment.
func (s *Service) readAsking(ctx context.Context, q url.Values) (a asking, err error) {
	a.maxAge = -1
	for _, name := range []string{"client_id", "redirect_uri"} {
		if len(q[name]) != 1 {
			return a, hpcsera.Errorf(hpcsera.MalformedRequest, "The address does not say once who sent you (%s).", name).Hint("Go back and try again.")
		}
	}
	found := false
	err = s.cfg.Store.Read(ctx, func(r records.Reader) error {
		a.deployment, found, err = get[Deployment](r, kindDeployment, q.Get("client_id"))
		return err
	})
	switch {
	case err != nil:
		return a, err
	case !found || a.deployment.Disabled:
		return a, hpcsera.Errorf(hpcsera.Forbidden, "The server that sent you is not registered here.").Hint("Its operator has to ask the operator of this Auth app.")
	case !slices.Contains(a.deployment.Redirects, q.Get("redirect_uri")):
		return a, hpcsera.Errorf(hpcsera.Forbidden, "The server that sent you wants you back at an address that is not registered.").
			Hint("You are not sent there. Its operator has to use the URL that was registered.")
	}
	a.redirect = q.Get("redirect_uri")
	return a, a.readRest(q)
}

// readRest reads what is told to the deployment when it is wrong.
func (a *asking) readRest(q url.Values) error {
	p := map[string]string{}
	for _, name := range []string{"state", "response_type", "response_mode", "scope", "nonce", "code_challenge", "code_challenge_method", "prompt", "max_age", "request", "request_uri"} {
		var err error
		if p[name], err = only(q, name); err != nil {
			return err
		}
		if name == "state" && len(p[name]) <= 512 {
			a.state = p[name]
		}
	}
	a.nonce, a.challenge, a.prompt = p["nonce"], p["code_challenge"], p["prompt"]
	switch {
	case a.state == "":
		return &refusal{"invalid_request", "state is missing or too long"}
	case p["response_type"] != "code":
		return &refusal{"unsupported_response_type", "only code is"}
	case p["response_mode"] != "" && p["response_mode"] != "query":
		return &refusal{"invalid_request", "only response_mode query is supported"}
	case p["request"] != "" || p["request_uri"] != "":
		return &refusal{"request_not_supported", "parameters stand in the address"}
	case !slices.Contains(strings.Fields(p["scope"]), "openid"):
		return &refusal{"invalid_scope", "openid is needed"}
	case p["code_challenge_method"] != "S256" || !challengePattern.MatchString(a.challenge):
		return &refusal{"invalid_request", "PKCE with S256 is needed"}
	case a.nonce == "" || len(a.nonce) > 512:
		return &refusal{"invalid_request", "nonce is missing or too long"}
	case a.prompt != "" && a.prompt != "none" && a.prompt != "login":
		return &refusal{"invalid_request", "prompt is none or login"}
	}
	if p["max_age"] != "" {
		seconds, err := strconv.Atoi(p["max_age"])
		if err != nil || seconds < 0 {
			return &refusal{"invalid_request", "max_age is not a number of seconds"}
		}
		a.maxAge = time.Duration(seconds) * time.Second
	}
	return nil
}

// authorize signs a person in at a deployment.
func (s *Service) authorize(w http.ResponseWriter, r *http.Request) {
	a, err := s.readAsking(r.Context(), r.URL.Query())
	var no *refusal
	switch {
	case errors.As(err, &no):
		s.sendBack(w, r, a, url.Values{"error": {no.code}, "error_description": {no.description}})
		return
	case err != nil:
		s.cfg.Frame.Fail(w, r, "", err)
		return
	}
	since, err := s.since(r.Context(), a)
	if err != nil {
		s.cfg.Frame.Fail(w, r, "", err)
		return
	}
	if who, ok := s.cfg.Sessions.Current(r); a.prompt == "none" && (!ok || who.Verified.Before(since)) {
		s.sendBack(w, r, a, url.Values{"error": {"login_required"}})
		return
	}
	who, ok := s.cfg.Sessions.Prove(w, r, since)
	if !ok {
		return
	}
	code, err := s.grantCode(r.Context(), a, who)
	if err != nil {
		s.cfg.Frame.Fail(w, r, who.User, err)
		return
	}
	s.sendBack(w, r, a, url.Values{"code": {code}})
}

// since is when the person must have proved to be there, or later. prompt=login
// means after this very sign-in began, which is remembered: on the way back
// from the proof the same address comes again.
func (s *Service) since(ctx context.Context, a asking) (since time.Time, err error) {
	now := s.cfg.Now()
	if a.maxAge >= 0 {
		since = now.Add(-a.maxAge)
	}
	if a.prompt != "login" && (a.maxAge < 0 || a.maxAge > time.Minute) {
		return since, nil
	}
	err = s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		began, found, err := get[time.Time](tx, kindLogin, a.key())
		if err != nil {
			return err
		}
		if !found {
			began = now
			err = tx.Put(kindLogin, a.key(), began, records.Options{Ends: now.Add(loginLife)})
		}
		since = began
		return err
	})
	return since, err
}

// key names a sign-in that is under way.
func (a asking) key() string {
	return hpcsera.DigestOf([]byte(a.deployment.Name + "\n" + a.state + "\n" + a.nonce + "\n" + a.challenge))
}

// sendBack sends the browser back to the deployment, with the issuer (RFC
// 9207): a deployment that knows several must not mix up whose answer it is.
func (s *Service) sendBack(w http.ResponseWriter, r *http.Request, a asking, answer url.Values) {
	answer.Set("iss", s.cfg.Issuer)
	if a.state != "" {
		answer.Set("state", a.state)
	}
	s.cfg.Frame.Forward(w, r, a.redirect+"?"+answer.Encode(), a.deployment.Name)
}

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
