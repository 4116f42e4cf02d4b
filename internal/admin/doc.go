// Package admin holds the operator's operations: who there is (users,
// projects, clients, sites), and, by the exception that the threat model
// names, the first tokens and agents, made on the server's own host.
//
// They are Go functions of [Service], and the same as JSON over HTTP on a unix
// socket, admin.sock: [Service.Handler] serves it inside hpcserad, [Call] is
// what the commands use. Who may open the socket is the operator; there is no
// other check, so the socket's file mode and folder are the lock. Every
// operation is logged. None of them reads a job's output, and none approves
// code.
package admin
