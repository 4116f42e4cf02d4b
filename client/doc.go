// Package client speaks to an HPCSerA server: the command line and the agent
// use it, and so can any Go program.
//
// It is a thin layer over the client that is generated from the contract
// (package api). What it adds is what every caller would have to write again:
//
//   - An answer that is not a success becomes an [hpcsera.Error] with the
//     server's code, field and advice. A server that cannot be reached, or
//     cannot serve, is [hpcsera.Unavailable].
//   - A request that may be repeated safely (reads, PUT, DELETE, and POST with
//     an idempotency key) is repeated with growing, jittered pauses while the
//     connection fails or the server is overloaded, for as long as
//     [Options].Patience says, and not before the time the server asks for.
//   - Uploads and downloads go on where they broke off, and every byte is
//     checked against its digest.
//   - A token is a [Secret]: it prints as [redacted] and travels in one header
//     only, never across a redirect and never over plain HTTP to another host.
//
// A [Client] may be used by many goroutines. Every method ends when its
// context ends.
package client
