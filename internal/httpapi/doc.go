// Package httpapi is the edge of the API server: it turns HTTP requests into
// calls of the features and their errors into answers. What it serves is
// api/openapi.yaml; the glue in gen is generated from that.
//
// Each request goes through the same layers, in this order, so that nobody
// without a credential makes the server do work:
//
//	route        the operation, or a problem for an unknown path or method
//	authenticate who it is (internal/auth)
//	validate     parameters and body against the contract
//	handler      one call of a feature, which decides what is allowed
//
// Every refusal is application/problem+json (problem.go holds the one table
// from error codes to statuses). Bodies that are bytes of users (logs, blobs,
// artifacts) pass unread and are served as attachments that no browser runs.
//
// The package compares no roles and knows no database.
package httpapi
