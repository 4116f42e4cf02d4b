package policy

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// clockTolerance is how far the signer's clock may be ahead of the site's.
const clockTolerance = 5 * time.Minute

// Context is what the agent knows by itself, from its own configuration and
// journal.
type Context struct {
	User       string
	Site       string
	Deployment string   // the server's URL as configured, in any form
	Thumbprint string   // of the agent's own key
	Projects   []string // those it serves; none means every project of the user
	Now        time.Time

	Unsigned          bool      // trust.code is server: code runs at the server's word
	PasskeySameOrigin bool      // passkeys count on the API server's own pages as well
	Version           string    // the agent's
	Account           string    // the user's on this system
	Files             SiteFiles // where the site's policy stands
	Memory            *Memory   // nil is ready
}

// Verdict is what the agent may act on, and nothing else of the order.
type Verdict struct {
	Statement   approval.Statement // zero where nobody signed
	Manifest    hpcsera.Manifest   // read from the bytes that were digested, as it is at this site
	Digest      string             // of the code
	Values      hpcsera.Values     // with defaults
	Runs        int                // how often the approval may be used here, which the caller counts: the lowest of the statement's, the key's and the site's number; 0 where nobody signed
	Kind        Kind               // what stands behind it
	Fingerprint string             // of the key that signed
	KeyName     string             // its name in the trust file
	Origin      string             // of the page where a passkey signed

	replaces string // the approval that this one ends here
}

// Verify reads the trust file at path, the status list beside it and the
// site's policy, so that what was just added, withdrawn or forbidden counts,
// and judges the order by them. Errors without a [Reason] decide nothing;
// among them, [Waiting] says that the job itself is well.
func Verify(path string, order hpcsera.OrderSpec, in Context) (*Verdict, error) {
	t, err := Read(path, in)
	if err != nil {
		return nil, err
	}
	return t.Verify(order, in)
}

// Read is the first half of [Verify], for many orders that are judged at one
// moment.
func Read(path string, in Context) (*Trust, error) {
	t, err := load(path, in.Memory)
	if err == nil {
		t.site = sync.OnceValues(func() (*Site, error) { return in.Files.policy(in.Memory) })
	}
	return t, err
}

// Verify judges the order; in is that of Read. When it accepts a statement that replaces another,
// that one is dead from then on, durably. The word of a restricted key ends
// none: the statement names nothing but an id, which may be that of another
// project or beyond the key's limits, and what that key may not start it may
// not stop. What it meant to replace lives until its end or its withdrawal.
func (t *Trust) Verify(order hpcsera.OrderSpec, in Context) (*Verdict, error) {
	known, err := remembered(in.Memory, "code", func() (Verdict, error) { return code(order) }, order.Manifest, []byte(order.Digest))
	if err != nil {
		return nil, err
	}
	v := &known
	v.Manifest = known.Manifest.At(in.Site) // the rest of it is other sites'
	if in.Unsigned && len(order.Statement) == 0 {
		v.Kind = ServersWord
		err = run(v, order, v.Manifest.SignedLimits(order.Run), in)
	} else {
		err = t.signed(v, order, in)
	}
	if err != nil {
		return nil, err
	}
	// What is not as signed is refused even while nothing may start.
	if t.site == nil {
		return nil, hpcsera.Errorf(hpcsera.Internal, "the trust file was not read to judge by it.")
	}
	site, err := t.site()
	if err != nil {
		return nil, err
	}
	if err := site.allow(v, order.Run, in, t.AuthApp); err != nil {
		return nil, err
	}
	if v.Kind != ServersWord {
		if err := t.standing(v, in); err != nil {
			return nil, err
		}
	}
	if v.replaces != "" {
		if err := t.noteReplaced(v.replaces, v.Statement.ID); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// signed holds the order against the statement and its signature.
func (t *Trust) signed(v *Verdict, order hpcsera.OrderSpec, in Context) error {
	if len(order.Statement) == 0 || order.Signature == "" {
		return forged("no signed approval came with the job.")
	}
	signature, err := remembered(in.Memory, "signature", func() (*approval.Signature, error) { return approval.Verify(order.Statement, order.Signature) },
		order.Statement, []byte(order.Signature))
	if err != nil {
		return forgedBy(err)
	}
	// The key comes first: bytes that a stranger signed are not looked into.
	key, err := t.accept(signature, in.Now)
	if err != nil {
		return err
	}
	if v.Kind, err = key.counts(signature, in); err != nil {
		return err
	}
	v.Statement, err = remembered(in.Memory, "statement", func() (approval.Statement, error) { return approval.Parse(order.Statement) }, order.Statement)
	if err != nil {
		return forgedBy(err)
	}
	v.Fingerprint, v.KeyName, v.Origin = signature.Fingerprint, key.Name, signature.Origin
	v.Runs = v.Statement.Runs
	if key.Runs > 0 {
		v.Runs = min(v.Runs, key.Runs)
	}
	if !key.restricted() {
		v.replaces = v.Statement.Replaces
	}
	for _, check := range []func() error{
		func() error { return matches(v, order, in) },
		func() error { return t.alive(v.Statement, in.Now) },
		func() error { return run(v, order, v.Statement.Limits, in) },
		func() error { return key.allows(v.Statement, order.Run, v.Manifest.Steps) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// standing asks the Auth app's status list, where one is pinned, whether the
// approval and its key still stand.
func (t *Trust) standing(v *Verdict, in Context) error {
	if t.AuthApp == nil {
		return nil
	}
	list, err := currentStatus(t.path, *t.AuthApp, in.Now, in.Memory)
	if err != nil {
		return err
	}
	if slices.Contains(list.Approvals, v.Statement.ID) {
		return refuse(hpcsera.ApprovalWithdrawn, "approval %s was withdrawn or replaced, says status list %d of %s.", v.Statement.ID, list.Number, list.Issuer)
	}
	if slices.Contains(list.Keys, v.Fingerprint) {
		return refuse(hpcsera.ApprovalWithdrawn, "the signing key %s was withdrawn, says status list %d of %s.", v.Fingerprint, list.Number, list.Issuer)
	}
	return nil
}

// code reads the manifest as received, and again from the bytes that are
// digested: nothing reaches the verdict that the digest does not cover.
func code(order hpcsera.OrderSpec) (Verdict, error) {
	var received, signed hpcsera.Manifest
	err := hpcsera.Decode(order.Manifest, &received)
	var text []byte
	if err == nil {
		text, err = received.Canonical()
	}
	if err == nil {
		err = hpcsera.Decode(text, &signed)
	}
	if err == nil {
		err = signed.Validate()
	}
	if err != nil {
		return Verdict{}, forged("the manifest cannot be what was signed: %w", err)
	}
	digest := hpcsera.DigestOf(text)
	if digest != order.Digest {
		return Verdict{}, forged("the manifest has the digest %s, the order says %s.", digest, order.Digest)
	}
	return Verdict{Manifest: signed, Digest: digest}, nil
}

// accept finds the trust entry of the key that signed.
func (t *Trust) accept(s *approval.Signature, now time.Time) (Key, error) {
	if slices.Contains(t.Withdrawn.Keys, s.Fingerprint) {
		return Key{}, refuse(hpcsera.ApprovalWithdrawn, "the signing key %s was withdrawn on this site.", s.Fingerprint)
	}
	// By fingerprint alone: a name is whatever its owner called it.
	i := slices.IndexFunc(t.Keys, func(k Key) bool { return k.fingerprint() == s.Fingerprint })
	if i < 0 {
		// No server knows whom the user trusts here, so before the first trust add
		// an honest one sends this, too. Later it is what a server would send that
		// signs itself.
		e := hpcsera.Errorf(hpcsera.ApprovalRefused, "the signing key %s is not in this agent's trust file.", s.Fingerprint).
			Hint("If it is yours, run on the site: hpcsera-agent trust add FILE.pub")
		return Key{}, &Refusal{Reason: hpcsera.ApprovalInvalid, Err: e, Forged: len(t.Keys) > 0}
	}
	key := t.Keys[i]
	if key.NotAfter != nil && !now.Before(*key.NotAfter) {
		return Key{}, refuse(hpcsera.ApprovalExpired, "the trust in key %q ended at %s.", key.Name, key.NotAfter.Format(time.RFC3339))
	}
	return key, nil
}

// matches compares every member of the statement with the job and with what
// the agent knows. Client and submitter are the server's word: a lie there
// only chooses among what the user allowed. User and site of the job are held
// against what the agent knows by run, since its settings may be wrong.
func matches(v *Verdict, order hpcsera.OrderSpec, in Context) error {
	s := v.Statement
	deployment, err := approval.Deployment(in.Deployment)
	if err != nil {
		return hpcsera.Errorf(hpcsera.Unavailable, "the agent's own settings: %w", err)
	}
	schema, err := approval.SchemaDigest(v.Manifest)
	if err != nil {
		return forgedBy(err)
	}
	for _, c := range []struct{ what, signed, here string }{
		{"code", s.Code, v.Digest},
		{"parameter schemas", s.Schema, schema},
		{"code's name", s.Name, v.Manifest.Name},
		{"server", s.Deployment, deployment},
		{"user", s.User, order.User},
		{"project", s.Project, order.Project},
	} {
		if c.signed != c.here {
			return forged("the %s is %s, but %s was signed.", c.what, c.here, c.signed)
		}
	}
	for _, c := range []struct {
		what, here string
		signed     []string
		anyone     bool
	}{
		{"site", order.Site, s.Sites, false},
		{"agent's key", in.Thumbprint, s.Agents, false},
		{"client", order.Client, s.Clients, true},
		{"submitter", order.Submitter, s.Submitters, true},
	} {
		if !slices.Contains(c.signed, c.here) && !(c.anyone && slices.Contains(c.signed, approval.Anyone)) {
			return forged("the %s is %s, but what was signed is %s.", c.what, c.here, strings.Join(c.signed, ", "))
		}
	}
	return nil
}

// alive checks that the statement holds now.
func (t *Trust) alive(s approval.Statement, now time.Time) error {
	if slices.Contains(t.Withdrawn.Approvals, s.ID) {
		return refuse(hpcsera.ApprovalWithdrawn, "approval %s was withdrawn on this site.", s.ID)
	}
	if by, dead := t.replaced[s.ID]; dead {
		return refuse(hpcsera.ApprovalWithdrawn, "approval %s was replaced by %s.", s.ID, by)
	}
	if now.Add(clockTolerance).Before(s.NotBefore) {
		// The server files none that begins later, so one of both clocks is wrong,
		// and a clock ends no job.
		return wait(hpcsera.WaitingForApproval, "approval %s holds from %s on; it is %s here.",
			s.ID, s.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if !now.Before(s.NotAfter) {
		return refuse(hpcsera.ApprovalExpired, "approval %s ended at %s; it is %s here.",
			s.ID, s.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// run checks whom the job is for, the run part and the values. Of what the
// user signed and the server can see, the server checks the same first, so
// anything else was changed on the way.
func run(v *Verdict, order hpcsera.OrderSpec, limits hpcsera.Limits, in Context) error {
	policy := func(err error) error { return &Refusal{Reason: hpcsera.RejectedByPolicy, Err: err, Forged: true} }
	for _, c := range []struct{ what, order, here string }{
		{"run part's site", cmp.Or(string(order.Run.Site), order.Site), order.Site},
		{"job's name", order.Name, v.Manifest.Name},
	} {
		if c.order != c.here {
			return policy(hpcsera.Errorf(hpcsera.ApprovalRefused, "the %s is %s, but here it is %s.", c.what, c.order, c.here))
		}
	}
	// The statement names the same user and site, so it is this agent's settings
	// that may be wrong.
	for _, c := range []struct{ key, order, here string }{{"user", order.User, in.User}, {"site", order.Site, in.Site}} {
		if c.order != c.here {
			return &Refusal{Reason: hpcsera.RejectedByPolicy, Err: hpcsera.Errorf(hpcsera.ApprovalRefused,
				"the job is for the %s %s, and this agent's settings say %s: %s.", c.key, c.order, c.key, c.here).
				Hint("If that is wrong, write %s: %s into agent.yaml and start the agent again.", c.key, c.order)}
		}
	}
	if len(in.Projects) > 0 && !slices.Contains(in.Projects, order.Project) {
		return refuse(hpcsera.RejectedByPolicy, "the project is %s, but this agent serves %s.", order.Project, strings.Join(in.Projects, ", "))
	}
	if order.RunFault != "" {
		return refuse(hpcsera.RejectedByPolicy, "the run part holds what this agent does not know: %s", order.RunFault)
	}
	if err := order.Run.Validate(); err != nil {
		return policy(err)
	}
	if err := limits.Within(order.Run, v.Manifest.Steps); err != nil {
		return policy(err)
	}
	for name, raw := range order.Run.Values {
		var ignored any
		if err := hpcsera.Decode(raw, &ignored); err != nil {
			return policy(hpcsera.Errorf(hpcsera.InvalidValue, "%w", err).At("values." + name))
		}
	}
	values, err := v.Manifest.Complete(order.Run.Values)
	if err != nil {
		return policy(err)
	}
	v.Values = values
	return nil
}
