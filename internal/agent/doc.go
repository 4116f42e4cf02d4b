// Package agent is the program a user starts on the login node: it pulls
// orders, verifies and prepares jobs, drives the batch system, and reports.
// cmd/hpcsera-agent wires it.
//
// One goroutine, the engine, owns every job. Loops and workers hand it what
// they found as closures; after each batch of closures the engine asks every
// touched job what to do next ([job.decide], a pure function), appends what
// it learned and what it is about to do to the journal in one fsync, and only
// then lets the acts begin. So "journal before act" holds for every act by
// construction, and a crash at any moment leaves a journal from which the
// same decisions follow.
//
//	work loop ── orders ──┐                        ┌── stage   (verify, fetch, lay out)
//	inbox loop ── rings ──┤                        ├── submit  (like jobs by one command)
//	poll loop ── status ──┼─> engine ── journal ──>┼── block   (take the start claim)
//	workers ── results ───┘      │                 ├── act     (cancel, hold, release)
//	                             └─ facts ─> report └── collect (log, artifacts, result)
//
// Who is the authority: the server for what should be (desired), the journal
// for what was tried, the start claim in the spool for what may run, the
// wrapper's end record and then the batch system for what happened. A final
// state needs a fact from one of these; silence is never one.
package agent
