// Package code keeps code parts, the blobs they need, and the approvals on
// file, for the edge (internal/httpapi) and, through small interfaces that
// they declare themselves, for jobs.
//
// A code part is immutable and addressed by its digest; it belongs to the
// project in which it was filed. Its files are blobs; a project has a blob
// once somebody of that project handed in the bytes, and never sees another's.
//
// An approval is a signed statement. The server checks that it can be meant
// (whose, for which deployment, about code that is here, not at its end, and
// that the signature belongs to its bytes) and keeps it. It is not trusted
// with more: whether the signer may approve is decided by the agent, from its
// own trust file. Filing makes waiting jobs ready in the same transaction.
package code
