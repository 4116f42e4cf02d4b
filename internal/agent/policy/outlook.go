package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Open says why the site lets no job of this agent start for now, whatever was
// signed; nil where it does.
func (s *Site) Open(in Context) error { return s.open(in) }

// Outlook says whether any job could start by what the trust file at path and
// the site's policy say, before there is one: the error of an agent that would
// refuse everything. told are the keys that count, for people.
func Outlook(path string, in Context) (told []string, err error) {
	t, err := Load(path)
	if err != nil {
		return nil, err
	}
	s, err := in.Files.Policy()
	if err != nil {
		return nil, err
	}
	if in.Unsigned && (s.Trust == nil || slices.Contains(s.Trust, ServersWord)) {
		return []string{"whatever the server on this host sends (trust.code: server)"}, nil
	}
	if len(t.Keys) == 0 {
		return nil, hpcsera.Errorf(hpcsera.ApprovalRefused, "no key is trusted, so no job can start.").Hint("Type: hpcsera-agent trust add KEY.pub")
	}
	var without []string
	for _, k := range t.Keys {
		if why := t.idle(k, s, in); why != "" {
			without = append(without, fmt.Sprintf("%q %s", k.Name, why))
		} else {
			told = append(told, k.Name)
		}
	}
	if told == nil {
		return nil, hpcsera.Errorf(hpcsera.ApprovalRefused, "no trusted key counts, so no job can start: %s.", strings.Join(without, "; ")).
			Hint("Trust another one: hpcsera-agent trust add KEY.pub. What the site asks for stands in its %s.", policyFile)
	}
	return told, nil
}

// idle says why nothing starts by a key's signature; "" where something can.
func (t *Trust) idle(k Key, s *Site, in Context) string {
	c, err := parseCredential([]byte(k.Key))
	switch {
	case err != nil:
		return "cannot be read"
	case slices.Contains(t.Withdrawn.Keys, c.fingerprint):
		return "was withdrawn"
	case k.NotAfter != nil && !in.Now.Before(*k.NotAfter):
		return "was trusted until " + k.NotAfter.Format("2006-01-02")
	case !c.proves() && !k.Plain:
		return "is a plain key, and its entry does not say plain: true"
	case len(k.Projects) > 0 && len(in.Projects) > 0 && !slices.ContainsFunc(k.Projects, func(p string) bool { return slices.Contains(in.Projects, p) }):
		return "is for other projects (" + strings.Join(k.Projects, ", ") + ")"
	}
	var kinds []Kind
	switch {
	case c.passkey != nil:
		kinds = []Kind{Passkey}
	case c.proves():
		kinds = []Kind{SecurityKey}
	}
	if k.Plain {
		kinds = append(kinds, Plain)
	}
	if s.Trust != nil && !slices.ContainsFunc(kinds, func(k Kind) bool { return slices.Contains(s.Trust, k) }) {
		return "is " + kindWords[kinds[0]] + ", and the site's policy lets code approved by that not run"
	}
	return ""
}
