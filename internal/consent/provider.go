package consent

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// loginLife is how long a person has to prove to be there again.
const loginLife = 15 * time.Minute

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

// challengePattern is PKCE's code_challenge with S256 (RFC 7636).
var challengePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

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
		return a, hpcsera.Errorf(hpcsera.Forbidden, "The server that sent you is not registered here.").Hint("Its operator has to ask the operator of this Auth app: auth.name in hpcserad.yaml must be the name in hpcsera-auth deployment list.")
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
	who, ok := s.cfg.Sessions.Current(r)
	if a.prompt == "none" && !ok {
		s.sendBack(w, r, a, url.Values{"error": {"login_required"}})
		return
	}
	// What is remembered of a stranger's sign-in must not fill the database.
	if !ok && a.remembered() {
		err = s.cfg.Sessions.SpendVisit(r)
	}
	var since time.Time
	if err == nil {
		since, err = s.since(r.Context(), a)
	}
	if err != nil {
		s.cfg.Frame.Fail(w, r, "", err)
		return
	}
	if a.prompt == "none" && who.Verified.Before(since) {
		s.sendBack(w, r, a, url.Values{"error": {"login_required"}})
		return
	}
	if who, ok = s.cfg.Sessions.Prove(w, r, since); !ok {
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
	if !a.remembered() {
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

// remembered reports whether it matters when the sign-in began.
func (a asking) remembered() bool {
	return a.prompt == "login" || a.maxAge >= 0 && a.maxAge <= time.Minute
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
