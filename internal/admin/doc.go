// Package admin is the operator's edge of hpcserad: the operations of
// internal/access and internal/audit as they stand on admin.sock, which
// internal/operator carries. Whoever can open the socket is the operator on the
// host, and there is no other check.
package admin
