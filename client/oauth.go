package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Wish is what a device asks for: one element of authorization_details (RFC
// 9396). Its types are hpcsera (a token), hpcsera_session and hpcsera_agent.
type Wish struct {
	Type     string   `json:"type"`
	Site     string   `json:"site,omitempty"`
	Projects []string `json:"projects,omitempty"`
	Host     string   `json:"host,omitempty"`
	User     string   `json:"user,omitempty"` // an agent's, by its own settings; as granted, whose it is
	// Roles are a token's, as they were granted.
	Roles   hpcsera.Roles `json:"roles,omitempty"`
	Replace bool          `json:"replace,omitempty"`
	End     time.Time     `json:"end,omitzero"`
}

// The types of wishes of our own programs.
const (
	SessionWish = "hpcsera_session"
	AgentWish   = "hpcsera_agent"
)

// Device is a wish that waits for its user, who opens URL and types Code.
type Device struct {
	Code     string
	URL      string
	Expires  time.Time
	client   string
	secret   Secret
	key      *Key
	interval time.Duration
}

// Granted is a credential that a user granted.
type Granted struct {
	Credential Secret
	Expires    time.Time
	Wish       Wish // as it was granted
}

// AskDevice files a wish of a public client (RFC 8628). With a key the
// credential will be bound to it; show its thumbprint beside the code, since
// the page on which the user decides shows it too.
func (c *Client) AskDevice(ctx context.Context, client string, wish Wish, key *Key) (*Device, error) {
	details, err := json.Marshal([]Wish{wish})
	if err != nil {
		return nil, err
	}
	form := url.Values{"client_id": {client}, "authorization_details": {string(details)}}
	if key != nil {
		form.Set("dpop_jkt", key.Thumbprint())
	}
	var answer struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
		URL        string `json:"verification_uri"`
		Expires    int    `json:"expires_in"`
		Interval   int    `json:"interval"`
	}
	if _, err := c.form(ctx, "/oauth/device_authorization", form, "", &answer); err != nil {
		return nil, err.told()
	}
	return &Device{
		Code: answer.UserCode, URL: answer.URL, Expires: time.Now().Add(time.Duration(answer.Expires) * time.Second),
		client: client, secret: NewSecret(answer.DeviceCode), key: key, interval: time.Duration(max(answer.Interval, 1)) * time.Second,
	}, nil
}

// Wait is a wish of the user's own that was filed over the API, so that it can
// be collected as a device's is.
func Wait(asked hpcsera.AskedToken) *Device {
	return &Device{
		URL: asked.URL, Expires: asked.Expires, client: hpcsera.CLIClient, secret: NewSecret(asked.DeviceCode),
		interval: time.Duration(max(asked.Interval, 1)) * time.Second,
	}
}

// Collect waits until the user decided and returns what was granted. A no, and
// the end of the wish, are errors. While the server cannot be reached it tries
// on: the wish waits there.
func (c *Client) Collect(ctx context.Context, d *Device) (Granted, error) {
	nonce, pause := "", d.interval
	for {
		if err := sleep(ctx, pause); err != nil {
			return Granted{}, err
		}
		pause = d.interval
		granted, next, err := c.collect(ctx, d, nonce)
		if next != "" {
			nonce = next
		}
		switch {
		case err == nil:
			return granted, nil
		case err.code == "authorization_pending":
		case err.code == "slow_down":
			d.interval += 5 * time.Second
			pause = d.interval
		case err.code == "use_dpop_nonce" && next != "":
			pause = 0
		case IsUnreachable(err.cause) && time.Now().Before(d.Expires):
		default:
			return Granted{}, err.told()
		}
	}
}

func (c *Client) collect(ctx context.Context, d *Device, nonce string) (g Granted, next string, err *refusal) {
	form := url.Values{"client_id": {d.client}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {d.secret.Reveal()}}
	proof := ""
	if d.key != nil {
		var failed error
		if proof, failed = d.key.proof(http.MethodPost, c.Public()+"/oauth/token", "", nonce, time.Now()); failed != nil {
			return g, "", &refusal{cause: failed}
		}
	}
	var answer struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
		Details []Wish `json:"authorization_details"`
	}
	next, err = c.form(ctx, "/oauth/token", form, proof, &answer)
	if err != nil {
		return g, next, err
	}
	g = Granted{Credential: NewSecret(answer.Token), Expires: time.Now().Add(time.Duration(answer.Expires) * time.Second)}
	if len(answer.Details) == 1 {
		g.Wish = answer.Details[0]
	}
	return g, next, nil
}

// form posts a form and reads a JSON answer. It returns the server's nonce.
func (c *Client) form(ctx context.Context, path string, form url.Values, proof string, answer any) (nonce string, failed *refusal) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", &refusal{cause: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if proof != "" {
		req.Header.Set("DPoP", proof)
	}
	res, err := c.forms.Do(req)
	if ctx.Err() != nil {
		closeBody(res)
		return "", &refusal{cause: context.Cause(ctx)}
	}
	if err != nil {
		return "", &refusal{cause: unreachable(req, err)}
	}
	defer res.Body.Close()
	nonce = res.Header.Get("DPoP-Nonce")
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nonce, &refusal{cause: unreachable(req, err)}
	}
	if res.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, answer); err == nil {
			return nonce, nil
		}
	}
	var told struct {
		Code string `json:"error"`
		Text string `json:"error_description"`
	}
	if json.Unmarshal(body, &told) != nil || told.Code == "" {
		return nonce, &refusal{cause: foreign(res, body)}
	}
	r := &refusal{code: told.Code, text: told.Text}
	if res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests {
		r.cause = hpcsera.Errorf(hpcsera.Unavailable, "%s answers: %s.", where(res), told.Text).Hint("Try again later.")
	}
	return nonce, r
}

// refusal is an error of an OAuth endpoint, or of the way there.
type refusal struct {
	code  string
	text  string
	cause error
}

// told returns the refusal as everything else of the API is refused.
func (r *refusal) told() error {
	if r.cause != nil {
		return r.cause
	}
	switch r.code {
	case "access_denied":
		return hpcsera.Errorf(hpcsera.Forbidden, "it was not granted: %s", sentence(r.text))
	case "expired_token":
		return hpcsera.Errorf(hpcsera.Conflict, "nobody decided in time.").Hint("Ask again.")
	case "invalid_grant":
		return hpcsera.Errorf(hpcsera.Conflict, "the request cannot be collected any more: %s", sentence(r.text)).Hint("Ask again.")
	case "invalid_dpop_proof":
		return hpcsera.Errorf(hpcsera.DPoPRequired, "the proof of the key was refused: %s", sentence(r.text)).
			Hint("Is the server's URL the one by which the server knows itself?")
	}
	return hpcsera.Errorf(hpcsera.InvalidField, "the server refuses: %s", sentence(r.text))
}

// sentence ends what a server said with a full stop.
func sentence(text string) string { return strings.TrimRight(Redact(text), ".") + "." }

// Error implements error, for those who look at causes.
func (r *refusal) Error() string { return r.told().Error() }
