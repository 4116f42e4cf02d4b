// Package consent is where people decide: the Auth app's requests, decisions,
// consent to code, withdrawals, and the sign-in of the deployments that share
// the Auth app.
//
// A deployment of HPCSerA posts a request, the user finds it in the inbox or
// types its code, reads who asks for what, grants all or less or nothing, and
// the deployment fetches a signed decision. The messages are package decision;
// who a person is, is package session.
//
//	posted ---> open ---- allow, deny, mute ----> decided ---> acknowledged
//	              |                               (signed,
//	              +-- cancelled, expired           delivered until then)
//
// A request is decided once, in one transaction that takes it away and keeps
// the decision. Nothing is decided without a second factor given within the
// last minutes, nor by a link: codes are typed, whatever the address says.
// Whoever asks is shown by the name under which the operator registered it,
// and what a client says of itself is shown as the client's own words.
//
// No deployment is believed. The Auth app builds the statement under code
// itself, from digests that it computes, shows the bytes that are signed, and
// verifies the signature before it hands it on. Agents verify all of it again.
// A passkey for signing code serves nothing else: it is registered here, and
// session never sees it.
//
// The package is an OpenID provider for its deployments alone: authorization
// code with PKCE, clients that authenticate by their own key.
package consent
