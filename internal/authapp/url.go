package authapp

import (
	"net"
	"net/url"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Path is where a server serves an Auth app of its own, below its URL.
const Path = "/auth"

// Below returns the URL of the Auth app inside a server. A loopback address
// becomes localhost: passkeys are bound to names, and browsers have none for
// addresses.
func Below(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "", hpcsera.Errorf(hpcsera.InvalidField, "%q is not the URL of a server.", server).At("public_url")
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		if !ip.IsLoopback() {
			return "", hpcsera.Errorf(hpcsera.InvalidField, "%q names an address, and passkeys are bound to a name.", server).At("public_url").
				Hint("Write the URL with the host's name.")
		}
		host := "localhost"
		if port := u.Port(); port != "" {
			host += ":" + port
		}
		u.Host = host
	}
	return strings.TrimRight(u.String(), "/") + Path, nil
}
