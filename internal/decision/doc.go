// Package decision holds the messages between HPCSerA's API server and the
// Auth app in which people decide. hpcserad is a deployment of the Auth app:
// it posts a [Request], the user decides in the Auth app, and hpcserad fetches
// a signed [Decision].
//
//	hpcserad                                Auth app
//	   | -- Request ------------------------> |   who asks for what, until when
//	   |                                      | <- the user reads, narrows, decides
//	   | <- Decision, signed ---------------- |   a long poll; kept until Ack
//	   | -- Ack ----------------------------> |
//
// The Auth app is the authority for who the user is and what they decided;
// hpcserad for what was asked and what a grant is worth. So a decision alone
// grants nothing: it must be from the one Auth app, for this deployment, in
// time ([Verify]), and answer a request that hpcserad itself made and still
// waits for, with no more than that asked for ([Decision.Answers]). It works
// once: the receiver applies it to its pending grant in one transaction.
//
// Requests carry an assertion of the deployment's key ([Assert], RFC 7523),
// so several deployments can share an Auth app and none speaks for another.
// Messages are read strictly: members that are unknown or named twice,
// algorithms other than EdDSA and other types of tokens are refused, so that a
// token made for one purpose never serves another.
//
// In one process the same messages go through [Local] instead of a network.
//
// Everything here may be called concurrently.
package decision
