package decision

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
)

// Config is what a Client is made of.
type Config struct {
	Issuer string // the Auth app's URL, without a slash at its end
	Name   string // the deployment's own, as registered there
	Key    Key    // of the deployment
	// HTTP sends the requests; in one process its Transport is [Local]. It
	// follows no redirect: nobody but the Auth app is to see an assertion.
	HTTP *http.Client
	Now  func() time.Time // nil is time.Now
}

// Client is a deployment's way to its Auth app. Nothing is tried again: every
// call may be repeated by whoever knows how long it is worth it.
type Client struct {
	cfg  Config
	http *http.Client
}

// NewClient makes a Client.
func NewClient(cfg Config) *Client {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	own := *cfg.HTTP
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{cfg: cfg, http: &own}
}

// Event is something that a deployment must know about its users. Events only
// end access; what gives access is a [Decision].
type Event struct {
	ID      string    `json:"id"` // ev_…
	Type    EventType `json:"type"`
	User    string    `json:"user"`
	Session string    `json:"session,omitempty"` // sid of the id_token, of SignedOut
	At      time.Time `json:"at"`
}

// EventType is what happened.
type EventType string

// The events.
const (
	SignedOut EventType = "signed_out" // a session at the Auth app ended
	Left      EventType = "left"       // the account was disabled: nothing of the user's may go on
	Returned  EventType = "returned"   // it was enabled again; the operator of the deployment decides what follows
)

// Where the Auth app sends browsers and logout tokens (OpenID Connect
// Back-Channel Logout), below a deployment's URL. They follow from the URL that
// the operator registered, so no message can name another place.
const (
	CallbackPath = "/signin/callback"
	LogoutPath   = "/signin/backchannel"
)

// The bodies of the API.
type (
	// Decisions answers GET /api/decisions.
	Decisions struct {
		Decisions []string `json:"decisions"`
	}
	// Events answers GET /api/events.
	Events struct {
		Events []Event `json:"events"`
	}
	// Ack is the body of POST /api/decisions/ack.
	Ack struct {
		IDs []string `json:"ids"`
	}
	// Filed is the body of POST /api/approvals.
	Filed struct {
		Statement []byte `json:"statement"`
		Signature string `json:"signature"`
	}
	// Problem is the answer to a request that was refused (RFC 9457).
	Problem struct {
		Code   hpcsera.Code `json:"code"`
		Status int          `json:"status"`
		Detail string       `json:"detail"`
		Field  string       `json:"field,omitempty"`
		Hint   string       `json:"hint,omitempty"`
	}
)

// Post asks the user. Posting the same request again is no error.
func (c *Client) Post(ctx context.Context, r Request) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, "/api/requests", r, nil)
}

// Cancel takes a request back. One that is not there any more is no error.
func (c *Client) Cancel(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/requests/"+url.PathEscape(id), nil, nil)
}

// Decisions returns the decisions that were not acknowledged, oldest first, as
// text for [Verify]. It waits for the first one, at most for wait; the Auth
// app may answer sooner.
func (c *Client) Decisions(ctx context.Context, wait time.Duration) ([]string, error) {
	var answer Decisions
	err := c.call(ctx, http.MethodGet, "/api/decisions?wait="+seconds(wait), nil, &answer)
	return answer.Decisions, err
}

// Events returns the events that were not acknowledged, as Decisions does.
func (c *Client) Events(ctx context.Context, wait time.Duration) ([]Event, error) {
	var answer Events
	err := c.call(ctx, http.MethodGet, "/api/events?wait="+seconds(wait), nil, &answer)
	return answer.Events, err
}

// Ack tells that decisions and events with these ids were applied, or can
// never be: they are not delivered again.
func (c *Client) Ack(ctx context.Context, ids ...string) error {
	return c.call(ctx, http.MethodPost, "/api/decisions/ack", Ack{IDs: ids}, nil)
}

// Filed tells of consent to code that was signed elsewhere, by an SSH key: its
// user can then withdraw it in the Auth app. Telling twice is no error.
func (c *Client) Filed(ctx context.Context, statement []byte, signature string) error {
	return c.call(ctx, http.MethodPost, "/api/approvals", Filed{statement, signature}, nil)
}

// StatusList returns the Auth app's signed list of withdrawn approvals as it
// is: the agents verify it. It waits, at most for wait, while the list is the
// one that the caller has ("" for none).
func (c *Client) StatusList(ctx context.Context, has string, wait time.Duration) ([]byte, error) {
	path := "/api/status-list"
	if has != "" && wait > 0 {
		path += "?has=" + ListSum([]byte(has)) + "&wait=" + seconds(wait)
	}
	return c.fetch(ctx, http.MethodGet, path, nil)
}

// ListSum names a status list in GET /api/status-list.
func ListSum(list []byte) string {
	sum := sha256.Sum256(list)
	return hex.EncodeToString(sum[:])
}

// Keys returns the keys with which the Auth app signs now, from the JWKS that
// it serves.
func (c *Client) Keys(ctx context.Context) ([]jose.JSONWebKey, error) {
	body, err := c.fetch(ctx, http.MethodGet, "/oidc/keys", nil)
	if err != nil {
		return nil, err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, hpcsera.Errorf(hpcsera.Unavailable, "the Auth app's keys cannot be read: %w.", err)
	}
	return set.Keys, nil
}

// Assertion returns an assertion for the form of the token endpoint.
func (c *Client) Assertion() (string, error) {
	return Assert(c.cfg.Key, c.cfg.Name, c.cfg.Issuer, c.cfg.Now())
}

// RequestURL is where the user who was asked finds a request.
func (c *Client) RequestURL(id string) string {
	return c.cfg.Issuer + "/requests/" + url.PathEscape(c.cfg.Name) + "/" + url.PathEscape(id)
}

// CodeURL is where a user types a code. Nothing added to it fills the code in.
func (c *Client) CodeURL() string { return c.cfg.Issuer + "/code" }

func seconds(d time.Duration) string { return fmt.Sprintf("%d", max(0, int(d/time.Second))) }

// call sends a request and reads its answer strictly: both sides are ours.
func (c *Client) call(ctx context.Context, method, path string, body, answer any) error {
	text, err := c.fetch(ctx, method, path, body)
	if err != nil || answer == nil {
		return err
	}
	if err := hpcsera.Decode(text, answer); err != nil {
		return hpcsera.Errorf(hpcsera.Unavailable, "the Auth app's answer to %s %s cannot be read: %w", method, path, err)
	}
	return nil
}

// maxAnswer is far above all that the Auth app sends.
const maxAnswer = 64 << 20

func (c *Client) fetch(ctx context.Context, method, path string, body any) ([]byte, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", method, path, err)
		}
		in = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.cfg.Issuer+path, in)
	if err != nil {
		return nil, fmt.Errorf("ask the Auth app: %w", err)
	}
	assertion, err := c.Assertion()
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+assertion)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, c.unavailable(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, c.unavailable(err)
	}
	if res.StatusCode/100 == 2 {
		return text, nil
	}
	var p Problem
	if json.Unmarshal(text, &p) != nil || p.Code == "" {
		return nil, hpcsera.Errorf(hpcsera.Unavailable, "the Auth app at %s answered %d to %s %s.", c.cfg.Issuer, res.StatusCode, method, path)
	}
	e := hpcsera.Errorf(p.Code, "%s", p.Detail).At(p.Field)
	e.Advice = p.Hint
	if p.Code == hpcsera.Unauthenticated {
		e.Advice = strings.TrimSpace(fmt.Sprintf("This server calls itself %s there (auth.name), by the key that hpcserad auth key prints. ", c.cfg.Name) + p.Hint)
	}
	return nil, e
}

func (c *Client) unavailable(err error) error {
	return hpcsera.Errorf(hpcsera.Unavailable, "the Auth app at %s cannot be reached: %w.", c.cfg.Issuer, err)
}
