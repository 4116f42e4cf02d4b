// Package access is the feature about who may what: users, projects and their
// members, clients, sites, tokens, agents. It makes, lists, changes and takes
// back.
//
// Everything that changes something is told who asks ([Actor]), decides by
// itself whether that person may, and leaves a line in the audit log in the
// same transaction. Its callers are the operator's socket (internal/admin),
// the pages (internal/web), the API (internal/httpapi) and the grants that a
// user decided in the Auth app (internal/oauth). None of its operations reads
// a job's output, and none approves code.
package access
