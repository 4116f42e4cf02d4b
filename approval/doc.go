// Package approval makes and verifies a user's consent to code: a [Statement]
// that says what may run where, for whom, within which limits, how often and
// until when, and a signature over its bytes.
//
// The client builds a statement from the files on its own disk and signs it;
// the server files it; the agent alone decides by it, so a server that was
// taken over can repeat what was signed and nothing else. Every one of them
// reads statements with this package.
//
// What is signed is what is parsed. A statement is canonical JSON (RFC 8785)
// and [Parse] accepts exactly the bytes that [Statement.Canonical] writes for
// the value it returns: there are no two ways to write one consent, no member
// that one reader sees and another drops, nothing before or after it. Every
// member is there, lists are explicit and every limit stands.
//
// Signatures are SSHSIG (the format of ssh-keygen -Y) in the namespace
// [Namespace], or WebAuthn assertions of passkeys over the statement's hash
// ([Assertion]). The package tells which key signed and how; whether that key
// may is the agent's trust file's business.
//
// Beside consent to code there are, in the same strict form, a [TrustStatement],
// by which a trusted key changes whom agents trust, and the [StatusList], by
// which an Auth app says what was withdrawn.
//
// Nothing here touches the disk or the network, apart from [LoadSigner], which
// opens a key file or the ssh-agent's socket. Everything may be called
// concurrently.
package approval
