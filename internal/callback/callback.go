// Package callback makes the HTTP clients for URLs that users registered:
// notifications of clients (CIBA ping), and whatever else the server sends to
// places that others chose.
//
// Such a URL must not become a way into the network that the server stands in.
// So the address that is really dialled has to be public, whatever a name
// resolves to at that moment; no proxy is asked, which would resolve it anew;
// redirects are not followed; and only https is spoken. An operator whose
// clients live in a private network names that network.
package callback

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Config is what a client is made of.
type Config struct {
	// Private are the networks that may be dialled although they are not public.
	Private []netip.Prefix
	Roots   *x509.CertPool // nil: the system's
}

// timeout bounds a whole request: whoever is called may be anybody.
const timeout = 10 * time.Second

// NewClient returns a client for registered URLs.
func NewClient(cfg Config) *http.Client {
	dialer := &net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error { return cfg.check(address) }}
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: secureOnly{&http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, address)
			},
			TLSClientConfig:        &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    timeout,
			MaxResponseHeaderBytes: 16 << 10,
			DisableKeepAlives:      true,
		}},
	}
}

// secureOnly refuses plain HTTP, also where a URL was registered before the
// rule was made.
type secureOnly struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (s secureOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("callback: %s is not https", r.URL.Scheme)
	}
	return s.next.RoundTrip(r)
}

// special are networks that are neither private by their flags nor public:
// shared (RFC 6598), protocol assignments, documentation and benchmarks, 6to4
// relays, reserved; the IPv6 prefixes that wrap IPv4 addresses; and site-local
// ones (RFC 3879), which are deprecated and routed inside all the same.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// check refuses an address that is dialled.
func (c Config) check(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("callback: %q is no address: %w", address, err)
	}
	ip := at.Addr().Unmap().WithZone("")
	for _, network := range c.Private {
		if network.Contains(ip) {
			return nil
		}
	}
	public := ip.IsGlobalUnicast() && !ip.IsPrivate()
	for _, network := range special {
		public = public && !network.Contains(ip)
	}
	if !public {
		return hpcsera.Errorf(hpcsera.Forbidden, "%s is no public address.", ip).
			Hint("An operator whose clients are in a private network names it: auth.private_networks.")
	}
	return nil
}

// ParseNetworks reads a list of networks such as "10.0.0.0/8, fd00::/8".
func ParseNetworks(list string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		network, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is no network.", word).Hint("Write it like 10.0.0.0/8.")
		}
		all = append(all, network.Masked())
	}
	return all, nil
}
