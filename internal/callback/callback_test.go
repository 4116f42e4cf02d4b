package callback

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestOnlyPublicAddressesAreDialled(t *testing.T) {
	for address, public := range map[string]bool{
		"127.0.0.1": false, "127.8.8.8": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "255.255.255.255": false, "224.0.0.1": false, "198.18.0.1": false, "203.0.113.5": false,
		"::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false, "fd12::1": false, "ff02::1": false, "::ffff:10.0.0.1": false,
		"::ffff:127.0.0.1": false, "64:ff9b::a00:1": false, "2002:a00:1::": false, "2001:db8::1": false, "::7f00:1": false, "fec0::1": false, "feff::1": false,
		"8.8.8.8": true, "172.32.0.1": true, "100.128.0.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
	} {
		if strings.Contains(address, ":") {
			address = "[" + address + "]"
		}
		if err := (Config{}).check(address + ":443"); (err == nil) != public {
			t.Errorf("%s: got %v, public is %v", address, err, public)
		}
	}
	if err := (Config{Private: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}).check("10.1.2.3:443"); err != nil {
		t.Errorf("a network that the operator named: got %v", err)
	}
}

func TestNeitherNamesNorRedirectsLeadInside(t *testing.T) {
	inside := 0
	inner := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inside++ }))
	defer inner.Close()
	outer := httptest.NewTLSServer(http.RedirectHandler(inner.URL, http.StatusTemporaryRedirect))
	defer outer.Close()
	roots := x509.NewCertPool()
	roots.AddCert(inner.Certificate())
	strict := NewClient(Config{Roots: roots})
	_, port, _ := strings.Cut(strings.TrimPrefix(inner.URL, "https://"), ":")
	for _, target := range []string{inner.URL, "https://localhost:" + port, "https://[::1]:" + port, "https://127.1:" + port, "http://127.0.0.1:" + port} {
		res, err := strict.Post(target, "application/json", strings.NewReader("{}"))
		if err == nil {
			res.Body.Close()
			t.Errorf("%s: answered %s, want a refusal", target, res.Status)
		}
	}
	loopback := NewClient(Config{Roots: roots, Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	res, err := loopback.Post(outer.URL, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusTemporaryRedirect || inside != 0 {
		t.Errorf("a redirect: got %s and %d requests behind it, want it unfollowed", res.Status, inside)
	}
	if res, err = loopback.Post(strings.Replace(outer.URL, "https:", "http:", 1), "application/json", strings.NewReader("{}")); err == nil {
		res.Body.Close()
		t.Errorf("plain HTTP: answered %s, want a refusal", res.Status)
	}
}

func TestNetworksAreReadStrictly(t *testing.T) {
	for _, list := range []string{"10.0.0.1", "10.0.0.0/33", "office"} {
		if _, err := ParseNetworks(list); err == nil {
			t.Errorf("%q: accepted", list)
		}
	}
	if got, err := ParseNetworks("10.0.0.0/8, fd00::/8"); err != nil || len(got) != 2 {
		t.Errorf("got %v (%v), want two networks", got, err)
	}
	if got, err := ParseNetworks(""); err != nil || got != nil {
		t.Errorf("none: got %v (%v)", got, err)
	}
}
