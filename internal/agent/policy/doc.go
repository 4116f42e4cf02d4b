// Package policy is the agent's own judgement of a job: may this code, with
// these values and resources, start here and now? It believes nothing that
// the server says. What it believes stands in the trust file, which only the
// user changes, on the site, with hpcsera-agent trust or by a statement that a
// trusted key signed; in the status list of the Auth app that the trust file
// pins; and in the site's policy, which stands above both.
//
// [Verify] takes an order and returns a [Verdict], which holds all that the
// agent may act on: the code as it was digested and signed, the values with
// defaults, the statement. The rest of the order is not to be used. A server
// that was taken over can withhold jobs and repeat what was signed, within
// its limits and as often as was signed; every other change is refused with a
// sentence that says what differs.
//
//	bytes of the manifest ── digest ──┐
//	order's digest ───────────────────┼── all equal
//	statement's code ─────────────────┘
//	statement ── signature ── key ── trust file (plain? passkey's page? project? end? caps?)
//	statement's members ── deployment, user, project, site, client, submitter, agent, time, runs
//	run part ── statement's limits, key's own caps
//	values ── the signed schemas
//	all of it ── site policy ── status list (withdrawn?)
//
// There are two kinds of no. A [Refusal] ends the job, and is called forged
// where no honest server would have sent it, whatever the user's own trust file
// and settings say. [Waiting] says that the job is as
// it was signed, and that site or Auth app let nothing start for now.
//
// What is left to others: the bytes of the code's files are checked against
// the manifest by whoever fetches them; custom attributes against their list
// by the driver; runs are counted, and the count made durable before a start,
// by the agent's journal.
package policy
