package hpcsera

import "fmt"

// CodePart is a manifest that was validated, digested and compiled once, to
// be used for many jobs. Nothing changes it, so it may be shared.
type CodePart struct {
	Manifest  Manifest
	Digest    string
	Canonical []byte // the digested bytes
	schemas   map[string]parameter
}

// Check validates m and makes a CodePart of it.
func (m Manifest) Check() (*CodePart, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	text, err := m.Canonical()
	if err != nil {
		return nil, fmt.Errorf("write manifest %s: %w", m.Name, err)
	}
	p := &CodePart{Manifest: m, Digest: DigestOf(text), Canonical: text, schemas: map[string]parameter{}}
	for name := range m.Parameters {
		if p.schemas[name], err = m.compile(name); err != nil {
			return nil, noSchema(name, err)
		}
	}
	return p, nil
}

// Complete is [Manifest.Complete] without compiling anything.
func (p *CodePart) Complete(values Values) (Values, error) {
	return p.Manifest.complete(values, func(name string) (parameter, error) { return p.schemas[name], nil })
}

// Admits checks a run part against the ceiling that the code part itself sets.
// Where it sets none, the signed statement does, see [Limits.Within].
func (p *CodePart) Admits(r RunPart) error {
	return p.Manifest.SignedLimits(r).Within(r, p.Manifest.Steps)
}
