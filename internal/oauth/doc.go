// Package oauth gives tokens on demand: the OAuth endpoints of hpcserad. A
// client that knows its user's name asks by CIBA, one that does not shows a
// code that the user types (device authorization, RFC 8628); both wait, and
// collect the token when the user decided.
//
//	client                      hpcserad (here)                 Auth app
//	  | device_authorization,     |                                |
//	  | bc-authorize, POST /tokens|                                |
//	  |-------------------------->| grant: pending                 |
//	  |<-- device_code,           |--- decision.Request ---------->|
//	  |    auth_req_id            |                                |  the user
//	  |                           |<-- decision.Decision, signed --|  decides
//	  |                           | grant: granted or denied       |
//	  |-- token ----------------->|                                |
//	  |<-- access_token ----------| grant: used                    |
//
// A grant is what was asked, and later what was decided. It changes only
// forward, each time in one transaction, so a decision counts once whatever is
// repeated, and a token is made when it is collected: a grant that nobody
// collects leaves none behind. What is granted is never more than what was
// asked; what was asked is kept here, so the Auth app cannot widen it.
// internal/access makes the token on behalf of the user who decided, and
// checks again that it may be.
//
// The same way leads to a key-bound session (hpcsera login) and to an agent's
// enrolment (hpcsera-agent enroll). There the request names the thumbprint of
// a key (dpop_jkt), the approval page shows it, and the token endpoint gives
// the credential only to whoever proves to have that key (RFC 9449).
//
// What a client holds while it waits (device_code, auth_req_id) is a MAC over
// the grant's id by the server's key: the database cannot be used to collect
// anything.
//
// Answers are OAuth's own, to the letter: forms in, JSON out, errors as RFC
// 6749 section 5.2 has them and none of ours. Requests are read strictly; a
// parameter that is given twice is refused, since two readers could disagree
// which one counts.
package oauth
