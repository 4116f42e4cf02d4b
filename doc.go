// Package hpcsera holds the words and rules of HPCSerA, a REST API that gives
// applications an HPC system as their backend without opening that system.
// Every program of the project imports it; it imports none of them and does
// no I/O.
//
// The words, one for each thing, everywhere (API, SQL, logs, CLI, docs):
//
//	User      a person
//	Project   segments a user's workflows; has members
//	Client    a registered external service, or the command line
//	Site      an HPC system
//	Agent     one user's enrolment at one site
//	Facts     what an agent tells of its site ([Facts])
//	Token     user x project x client, roles, perhaps a site, an end
//	Code      an immutable code part, addressed by digest ([Manifest])
//	Approval  a signed statement about code
//	Job       code plus a run part ([Job], [RunPart])
//	Overlay   what a job's run part has at one site ([Overlay])
//	Step      one stage of a job: login, batch
//	Submission one call of the batch system's submit command
//	Order     what an agent should make true ([Order])
//	Report    what an agent found to be true ([Report])
//	Event     one change of a job
//	Artifact  a result kept by the server
//	Epoch     one life of the server's database; a restore begins the next
//
// Who is the authority for a fact: the user for what should be (desired), the
// API server for what was accepted, the agent's journal for what was tried,
// the start claim on the site's shared file system for what may run, the
// wrapper's records and the batch system for what happened.
package hpcsera
