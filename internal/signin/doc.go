// Package signin knows who a browser is at hpcserad. People are the Auth
// app's: it says who somebody is and when they showed a second factor, by
// OpenID Connect (authorization code with PKCE), and this package remembers
// that for a while as a session. internal/web gives it what the browser sends
// and sets the cookies that it returns.
//
//	nobody ──Begin──► at the Auth app ──Finish──► session ──┬─► ended: End, EndAll,
//	                                                 ▲      │   LoggedOut, one hour idle,
//	                                                 └──────┘   twelve hours old
//	                                              Begin{StepUp}
//
// A step-up is a sign-in of the same person with a second factor that is
// fresh; it replaces the session. Whether something may be done with a session
// is decided by auth.Allow alone, from auth.Person.SteppedUp.
//
// Promises. A sign-in ends only in the browser that began it, once, and with
// the Auth app that was asked (state, nonce, PKCE, and iss of RFC 9207); until
// then it costs the server no memory: what has to be remembered travels in a
// sealed cookie. Every sign-in makes a new session with a new secret, of which
// the server keeps the hash. A session of a disabled user, of a user who is
// gone, and one that was ended anywhere are refused from the next request on,
// on every replica.
package signin
