package approval

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/hpcsera/hpcsera"
)

// What Options leave open.
const (
	DefaultValidity = 30 * 24 * time.Hour
	DefaultRuns     = 1000
)

// Options say for whom, where, how often and how long code is approved.
// Deployment, User, Project, Sites and Agents are required; they come from
// the client's own settings, never from the server's answer.
type Options struct {
	Deployment string // any form of the server's URL
	User       string
	Project    string
	Sites      []string
	Agents     []string // thumbprints, as hpcsera-agent status prints them
	Clients    []string // default: Anyone
	Submitters []string // default: the user alone
	Replaces   string
	NotBefore  time.Time     // default: now
	Validity   time.Duration // default: DefaultValidity; at most MaxValidity
	Runs       int           // per agent; default: DefaultRuns
	// Elsewhere is what the same job asks for at other sites; it is to be within
	// the limits as well.
	Elsewhere []hpcsera.RunPart
}

// ForManifest returns a statement about code m as it is, whose limits are m's
// own and, where m has none, what run asks for ([hpcsera.Manifest.SignedLimits]).
// A run part that would not be within these limits is refused, since it could
// never run.
func ForManifest(m hpcsera.Manifest, run hpcsera.RunPart, o Options) (Statement, error) {
	if err := m.Validate(); err != nil {
		return Statement{}, err
	}
	runs := append([]hpcsera.RunPart{run}, o.Elsewhere...)
	limits := m.SignedLimits(runs...)
	for _, r := range runs {
		if err := limits.Within(r, m.Steps); err != nil {
			return Statement{}, err
		}
	}
	code, err := m.Digest()
	if err != nil {
		return Statement{}, hpcsera.Errorf(hpcsera.InvalidField, "the code has no digest: %w.", err)
	}
	schema, err := SchemaDigest(m)
	if err != nil {
		return Statement{}, err
	}
	deployment, err := Deployment(o.Deployment)
	if err != nil {
		return Statement{}, err
	}
	if o.Clients == nil {
		o.Clients = []string{Anyone}
	}
	if o.Submitters == nil {
		o.Submitters = []string{o.User}
	}
	if o.NotBefore.IsZero() {
		o.NotBefore = time.Now()
	}
	if o.Validity == 0 {
		o.Validity = DefaultValidity
	}
	if o.Runs == 0 {
		o.Runs = DefaultRuns
	}
	from := o.NotBefore.UTC().Truncate(time.Second)
	s := Statement{
		ID: hpcsera.NewID("ap"), Deployment: deployment, User: o.User, Project: o.Project,
		Sites: ordered(o.Sites), Clients: ordered(o.Clients), Submitters: ordered(o.Submitters), Agents: ordered(o.Agents),
		Code: code, Name: m.Name, Replaces: o.Replaces, Schema: schema, Limits: limits,
		NotBefore: from, NotAfter: from.Add(o.Validity).Truncate(time.Second), Runs: o.Runs,
	}
	for _, list := range []*[]string{&s.Limits.QueueNames, &s.Limits.Accounts, &s.Limits.ReservationIDs} {
		*list = ordered(*list)
	}
	if err := s.validate(); err != nil {
		return Statement{}, err
	}
	return s, nil
}

// ordered returns a sorted copy without repetitions, so that the caller's
// order says nothing.
func ordered(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// SchemaDigest returns the digest of the code's parameter schemas alone, so
// that a signer sees whether a new version takes the same values.
func SchemaDigest(m hpcsera.Manifest) (string, error) {
	parameters := m.Parameters
	if parameters == nil {
		parameters = map[string]json.RawMessage{}
	}
	text, err := json.Marshal(parameters)
	if err == nil {
		text, err = jcs.Transform(text)
	}
	if err != nil {
		return "", hpcsera.Errorf(hpcsera.InvalidField, "the schemas cannot be digested: %w.", err).At("parameters")
	}
	return hpcsera.DigestOf(text), nil
}
