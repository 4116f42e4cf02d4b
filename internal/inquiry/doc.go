// Package inquiry asks users in the Auth app about code that their jobs wait
// to have approved, and applies what they decide. It also tells the Auth app
// of approvals that were signed elsewhere, so that they can be withdrawn there.
//
//	job waits for approval ──> asked (one request per user, project and code)
//	                            │
//	              signed: the approval is filed, the jobs go on
//	              denied: the jobs fail with approval_denied
//	              not decided in time: forgotten, and asked again while jobs wait
//	              nobody waits any more: taken back
//
// A request is a document that is inserted before it is posted, so of several
// replicas one asks; its id is in the document, so posting it again after a
// crash is the same request. The statement that comes back is what the Auth
// app built and a passkey signed. The server files it only if it is about the
// code that it asked about itself, and checks it as it checks those that
// hpcsera approve files; whether it counts, the agents decide. Whether the
// sender may make jobs wait at all was checked when the code was handed in.
package inquiry
