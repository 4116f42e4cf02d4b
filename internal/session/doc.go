// Package session knows who a person is: accounts, how they sign in, and what
// they are signed in with. It is the Auth app's front door, with pages of its
// own; what people decide there is another feature's.
//
// A person proves to be somebody in one of three ways:
//
//	name and password, then a second factor   a passkey, a code of an
//	                                          authenticator app, a recovery code
//	a passkey alone                           it is on the device and checks its
//	                                          owner, so it is two factors
//	the institution                           OpenID Connect, with PKCE
//
// Every account has a second factor from its first minute: without one it
// comes into being only by an institution's word, and can then add one and do
// nothing that needs one. Whoever decides anything verifies a second factor
// again, within five minutes ([SteppedUp]).
//
//	nobody ──► visit ──► session ──► stepped up ─5 min─► session
//	           (first factor passed; ten minutes; counts for nothing)
//
// The authority for all of this is the records: a cookie is a random name for
// a record, stored as its hash. A new one is given whenever a person becomes
// more than before, so a name that somebody planted or saw never grows.
//
// Promises. Who tries names learns nothing: unknown, disabled and existing
// accounts give the same answer after the same work. Guessing is counted before
// it is answered, per account and per address. Each code of an app and each
// recovery code works once. What a request brings never decides where the
// browser goes next. Ending a session, disabling an account, and an
// institution's word that somebody left hold from the next request.
package session
