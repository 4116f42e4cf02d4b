// Package auth answers two questions for every request: who is it, and may it.
//
// [Service.Authenticate] turns the headers of a request into a [Principal]: a
// client's token (a bearer secret), or an agent's credential, which counts
// only together with a proof that the sender holds the key made at enrolment
// (DPoP, RFC 9449). [Allow] is the only permission check of the API server;
// handlers and features compare no roles, stores know none. Every operation of
// the API is one row of [Rules].
//
// Promises: a malformed secret is refused without a look-up; revocation,
// disabling and removal hold from the next request on every replica, since
// nothing about a token is remembered but what the store vouches for at each
// use; what a principal cannot reach does not exist for it
// (not_found), and only of what it reaches is it told which role it lacks
// (forbidden).
package auth
