package client

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

// Options say which server a Client speaks to, and how.
type Options struct {
	Server    string         // its URL, without /api/v1: https://hpcsera.example.org
	Token     Secret         // empty: unauthenticated requests only
	Key       *Key           // with a session's credential as Token: the key it is bound to
	Public    string         // the URL by which the server knows itself, which proofs of the key name; empty: Server
	RootCAs   *x509.CertPool // nil: the system's
	AllowHTTP bool           // plain HTTP to other hosts, where the token can be read on the way

	// Patience is how long a request is tried again while the server cannot be
	// reached; 0 is never.
	Patience time.Duration
	// Notify is told of each failed try and of the end of trouble. It may be
	// called from many goroutines; nil is allowed.
	Notify func(Trouble)

	UserAgent string
	// Authorize, where set, signs each try of each request instead of Token.
	Authorize func(*http.Request) error
	// Transport replaces the default one, its proxy and its timeouts.
	Transport http.RoundTripper
}

// Client speaks to one server.
type Client struct {
	opts    Options
	base    *url.URL
	http    *http.Client
	streams *http.Client
	forms   *http.Client // to OAuth endpoints, where a session's credential means nothing
	whole   *api.Client  // reads answers to their end
	stream  *api.Client  // hands bodies on as they come
}

// credentials finds user and password in a URL.
var credentials = regexp.MustCompile(`://[^/@\s"]*@`)

// New checks o and returns a client. It connects to nothing.
func New(o Options) (*Client, error) {
	base, err := CheckServer(o.Server, o.AllowHTTP)
	if err != nil {
		return nil, err
	}
	if o.UserAgent == "" {
		o.UserAgent = "hpcsera-go"
	}
	if o.Authorize == nil && !o.Token.Empty() && o.Key == nil {
		value := "Bearer " + o.Token.Reveal()
		o.Authorize = func(r *http.Request) error { r.Header.Set("Authorization", value); return nil }
	}
	if o.Transport == nil {
		o.Transport = transport(o.RootCAs)
	}
	if o.Public == "" {
		o.Public = base.String()
	}
	o.Public = strings.TrimRight(o.Public, "/")
	plain := o.Transport
	if o.Key != nil && !o.Token.Empty() {
		o.Transport = &bound{next: o.Transport, credential: o.Token, key: o.Key, base: base, public: o.Public}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Client{opts: o, base: base}
	c.http = &http.Client{Transport: o.Transport, CheckRedirect: stay}
	c.forms = &http.Client{Transport: plain, CheckRedirect: stay}
	c.streams = c.http
	if t, ok := o.Transport.(*http.Transport); ok {
		// A job may write its first line days after somebody began to follow it.
		t = t.Clone()
		t.ResponseHeaderTimeout = 0
		c.streams = &http.Client{Transport: t, CheckRedirect: stay}
	}
	return c, c.connect()
}

// connect makes the generated clients over c's connections.
func (c *Client) connect() (err error) {
	d := doer{http: c.http, authorize: c.opts.Authorize, userAgent: c.opts.UserAgent, patience: c.opts.Patience, notify: c.opts.Notify}
	whole, stream := d, d
	whole.whole, stream.http = true, c.streams
	if c.whole, err = api.NewClient(c.base.String(), api.WithHTTPClient(&whole)); err != nil {
		return err
	}
	c.stream, err = api.NewClient(c.base.String(), api.WithHTTPClient(&stream))
	return err
}

// With returns a client like c with other patience and another listener. It
// shares c's connections.
func (c *Client) With(patience time.Duration, notify func(Trouble)) *Client {
	other := *c
	other.opts.Patience, other.opts.Notify = patience, notify
	_ = other.connect() // the URL was accepted before
	return &other
}

// Server returns the server's URL in the form that statements name the
// deployment by: no trailing slash.
func (c *Client) Server() string { return c.base.String() }

// Public returns the URL by which the server knows itself.
func (c *Client) Public() string { return c.opts.Public }

// CheckServer parses a server's URL and refuses what would give a token away:
// a URL with a password, and plain HTTP to another host unless allowed.
func CheckServer(server string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a server's URL.", credentials.ReplaceAllString(server, "://")).
			At("server").Hint("Write it like https://hpcsera.example.org.")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "a server's URL holds no user, password, query or fragment.").At("server")
	}
	if u.Scheme == "http" && !allowHTTP && !loopback(u.Hostname()) {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "http://%s would send the token so that everybody on the way can read it.", u.Host).
			At("server").Hint("Use https, or allow it with --allow-http where the network is your own.")
	}
	u.Path = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/api/v1"), "/")
	u.RawPath = ""
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// transport has limits on every stage in which a dead network would hang, and
// none on the length of an answer: logs are followed for days. A connection
// that went away without a word is found by keep-alive probes within a minute.
func transport(roots *x509.CertPool) http.RoundTripper {
	dial := &net.Dialer{
		Timeout:         15 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 20 * time.Second, Interval: 10 * time.Second, Count: 4},
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial.DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute, // above the longest wait= of the API
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   8,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}
