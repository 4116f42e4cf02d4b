// Package server is the HTTP chassis of our programs: a listener with or
// without TLS, request ids, an access log, limits, and a stop that cuts nobody
// off. It knows nothing of what is served.
//
// It promises the handler: a request id in the context ([RequestID]), a body
// that ends with [http.MaxBytesError] above the limit, and deadlines that move
// with progress, so that a long poll or a stream lives as long as it must
// while a peer that stands still does not. It promises clients: security
// headers on every answer, a problem+json instead of a broken connection when
// a handler panics, and after a stop began an answer to every request that was
// accepted, within the grace period.
//
// A stop goes in this order: [Server.Stopping] is closed, so that handlers can
// end what would wait; the listener closes; requests in flight finish; what is
// left after the grace period is cut.
package server
