package session

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hpcsera/hpcsera"
)

// Institution is an OpenID provider through which people sign in. It says who
// somebody is, and later that somebody is gone; it never says what they
// decide: that takes a factor that is verified here.
type Institution struct {
	Name   string // in addresses
	Title  string // as people know it
	Issuer string
	// ClientID and ClientSecret are what the institution gave us; the redirect
	// address is URL/institution/NAME/callback, and the one for back-channel
	// logout URL/institution/NAME/logout.
	ClientID     string
	ClientSecret string
	// AuthMethod is how the institution wants the secret: client_secret_basic or
	// client_secret_post; "" is the second only where it says that it does not
	// take the first.
	AuthMethod string
	// Scopes besides openid. With offline_access we can ask later whether a
	// person is still there.
	Scopes []string
	// SkipConsent asks for offline_access without prompt=consent, for
	// institutions that give it for good all the same. Those that keep to OpenID
	// Connect Core 11 would then give a token that ends with the session there,
	// and whoever signs out there would look like somebody who left.
	SkipConsent bool
	// UserClaim names the claim that becomes the account's name; ""
	// is preferred_username. Domain is cut off its end, and then required: for
	// institutions that vouch for addresses.
	UserClaim string
	Domain    string
	// ProjectsClaim names a claim with a list of groups; Projects says which
	// project each is. A group that is not in it is none.
	ProjectsClaim string
	Projects      map[string]string
	// RequireClaim and Require let in only who has one of the values.
	RequireClaim string
	Require      []string
}

func (i Institution) check() error {
	field := "institutions." + i.Name
	u, err := url.Parse(i.Issuer)
	switch {
	case !hpcsera.ValidName(i.Name):
		return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be an institution's name.", i.Name).At("institutions").
			Hint("It stands in addresses: use lower-case letters, digits and hyphens.")
	case i.Title == "":
		return hpcsera.Errorf(hpcsera.InvalidField, "the institution needs a title.").At(field + ".title").Hint("People see it on the page to sign in.")
	case err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is no issuer.", i.Issuer).At(field + ".issuer").Hint("Write its https address.")
	case i.ClientID == "":
		return hpcsera.Errorf(hpcsera.InvalidField, "the client id is missing.").At(field + ".client_id").Hint("The institution gives it.")
	case i.AuthMethod != "" && authStyles[i.AuthMethod] == oauth2.AuthStyleAutoDetect:
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is no way to send the client's secret.", i.AuthMethod).At(field + ".auth_method").
			Hint("Write client_secret_basic or client_secret_post, or nothing.")
	}
	for _, project := range i.Projects {
		if !hpcsera.ValidName(project) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be a project.", project).At(field + ".projects")
		}
	}
	return nil
}

func loopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// institution is an Institution at work.
type institution struct {
	Institution
	client   *http.Client
	callback string

	mu     sync.Mutex
	known  *provider
	failed time.Time
}

// provider is what an institution told of itself.
type provider struct {
	*oidc.Provider
	oauth    oauth2.Config
	verifier *oidc.IDTokenVerifier
	// tellsIssuer says that every answer names its issuer (RFC 9207), so that
	// one without is somebody else's.
	tellsIssuer bool
}

// retryAfter keeps a dead institution from costing every visitor a time-out.
const retryAfter = 10 * time.Second

// provider asks the institution what it is, once; a failure is no state.
func (i *institution) provider(ctx context.Context, now time.Time) (*provider, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.known != nil {
		return i.known, nil
	}
	unreachable := hpcsera.Errorf(hpcsera.Unavailable, "%s does not answer.", i.Title).Hint("Try again in a minute, or sign in another way.")
	if now.Sub(i.failed) < retryAfter {
		return nil, unreachable
	}
	// Its keys are fetched again later, long after this request.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), i.client), i.Issuer)
	if err != nil {
		i.failed = now
		unreachable.Cause = err
		return nil, unreachable
	}
	var more struct {
		TellsIssuer bool     `json:"authorization_response_iss_parameter_supported"`
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := p.Claims(&more); err != nil {
		return nil, err
	}
	endpoint := p.Endpoint()
	endpoint.AuthStyle = i.authStyle(more.AuthMethods)
	i.known = &provider{
		Provider: p, tellsIssuer: more.TellsIssuer,
		oauth: oauth2.Config{
			ClientID: i.ClientID, ClientSecret: i.ClientSecret, Endpoint: endpoint, RedirectURL: i.callback,
			Scopes: append([]string{oidc.ScopeOpenID}, i.Scopes...),
		},
		verifier: p.Verifier(&oidc.Config{ClientID: i.ClientID}),
	}
	return i.known, nil
}

// authStyles are the ways to send a client's secret, by their registered names.
var authStyles = map[string]oauth2.AuthStyle{
	"client_secret_basic": oauth2.AuthStyleInHeader,
	"client_secret_post":  oauth2.AuthStyleInParams,
}

// authStyle is how the secret is sent. It is never found out by trying: the
// answer to the second try would hide that the first one was refused because
// the person left.
func (i *institution) authStyle(supported []string) oauth2.AuthStyle {
	switch {
	case i.AuthMethod != "":
		return authStyles[i.AuthMethod]
	case i.ClientSecret == "":
		return oauth2.AuthStyleInParams // there is nothing to prove, and the client's name goes where all else is
	}
	if !slices.Contains(supported, "client_secret_basic") && slices.Contains(supported, "client_secret_post") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader // clients are registered so unless they say otherwise
}

// consentWanted says that the person must be asked there, or there will be no
// token to ask with later (OpenID Connect Core 11).
func (i *institution) consentWanted() bool {
	return !i.SkipConsent && slices.Contains(i.Scopes, oidc.ScopeOfflineAccess)
}

// claims are what an institution says of a person.
type claims map[string]any

// name maps a person to an account's name.
func (i *institution) name(c claims) (string, error) {
	claim := i.UserClaim
	if claim == "" {
		claim = "preferred_username"
	}
	name, _ := c[claim].(string)
	name = strings.ToLower(name)
	if i.Domain != "" {
		local, ok := strings.CutSuffix(name, "@"+strings.ToLower(i.Domain))
		if !ok {
			return "", hpcsera.Errorf(hpcsera.Forbidden, "%s says that you belong elsewhere than %s.", i.Title, i.Domain).Hint("Ask the operator.")
		}
		name = local
	}
	if !hpcsera.ValidName(name) {
		return "", hpcsera.Errorf(hpcsera.Forbidden, "%s gives no name that could be an account's.", i.Title).
			Hint("The operator can take another claim than %s.", claim)
	}
	return name, nil
}

// values returns a claim's values, whether it is one or a list.
func (c claims) values(claim string) []string {
	var list []string
	switch v := c[claim].(type) {
	case string:
		list = append(list, v)
	case []any:
		for _, one := range v {
			if s, ok := one.(string); ok {
				list = append(list, s)
			}
		}
	}
	return list
}

// admits reports whether the institution's people who are like this may use
// us.
func (i *institution) admits(c claims) bool {
	return i.RequireClaim == "" || slices.ContainsFunc(c.values(i.RequireClaim), func(v string) bool { return slices.Contains(i.Require, v) })
}

// projects maps a person's groups.
func (i *institution) projects(c claims) []string {
	var list []string
	for _, group := range c.values(i.ProjectsClaim) {
		if project, ok := i.Projects[group]; ok {
			list = append(list, project)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
