// Package admin is the operator's edge: the operations of internal/access as
// JSON over HTTP on a unix socket, admin.sock. [New] makes the handler that
// hpcserad serves, [Call] is what the commands use.
//
// Who may open the socket is the operator; there is no other check, so the
// socket's file mode and folder are the lock. Every operation is logged.
package admin
