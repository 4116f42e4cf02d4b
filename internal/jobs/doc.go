// Package jobs is the life of jobs on the API server: submitting, reading,
// changing and cancelling for clients; orders and reports for agents; logs and
// results. The edge (internal/httpapi) calls it, and so may any other facade.
//
// The authority for each fact: the user for what should be (Desired with its
// Revision), the agent for what was found (Attempt and Seq of its reports), the
// server for what was accepted and in which order (Version). The server sends
// no commands. It states per job what should be, and an agent's poll receives
// every order it has not acknowledged:
//
//	never delivered (Delivered 0)                delivered
//	   the server decides alone                     the agent decides
//	   pending <-> held                             Desired, Revision+1, OrderSeq
//	   cancel ends the job                          cancel is an order; a job
//	   work request takes it ------------------->   that ends first keeps its end
//
// Every change of a job is recorded through [store.Ledger] in one Write: a
// seq, the job's Version, an event. The closures given to Write are pure; all
// that is expensive (schemas, digests, JSON) happens before.
package jobs
