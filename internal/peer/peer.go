// Package peer tells where a request comes from, and whose address that is, so
// that what strangers may do is counted the same way everywhere.
package peer

import (
	"net/http"
	"net/netip"
)

// Of returns the address of a request's connection, without its port.
func Of(r *http.Request) string {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return at.Addr().Unmap().WithZone("").String()
	}
	return r.RemoteAddr
}

// Network returns what allowances count an address as. Who has a network of
// version 6 has more addresses than could be counted, so its 2^64 are one. A
// version 4 address is itself, however it is written; what is no address,
// too. Some proxies tell the port as well: it is left out.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return address
		}
		ip = at.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, 64).Masked().String()
}
