// Package api is the contract of the REST API: openapi.yaml, written by hand,
// and what is generated from it (scripts/generate): the types of requests and
// answers, which are the root package's wherever it has one, and a client
// without manners. Programs should use package client, which adds them; the
// server's glue is in internal/httpapi/gen.
package api

import _ "embed"

// contract is the bytes of openapi.yaml.
//
//go:embed openapi.yaml
var contract string

// Contract returns openapi.yaml as the server serves it.
func Contract() []byte { return []byte(contract) }
