package hpcsera

import (
	"encoding/json"
	"slices"
	"strings"
)

// Sites says where a job may run: the name of one site, or several, of which
// the first that can take the job gets it. "" is any site. As JSON it is a
// string or a list of strings; as text the names have commas between them.
type Sites string

// maxSites is how many sites a job may name.
const maxSites = 64

// SitesOf makes Sites of names.
func SitesOf(names ...string) Sites { return Sites(strings.Join(names, ",")) }

// Names returns the sites in their order.
func (s Sites) Names() []string {
	if s == "" {
		return nil
	}
	return strings.Split(string(s), ",")
}

// MarshalJSON writes one name as a string and several as a list.
func (s Sites) MarshalJSON() ([]byte, error) {
	if names := s.Names(); len(names) > 1 {
		return json.Marshal(names)
	}
	return json.Marshal(string(s))
}

// UnmarshalJSON reads a string or a list of strings.
func (s *Sites) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var names []string
		if err := json.Unmarshal(b, &names); err != nil || len(names) == 0 || slices.Contains(names, "") {
			return Errorf(InvalidField, "a list of sites has at least one name, and only names.")
		}
		*s = SitesOf(names...)
		return nil
	}
	return json.Unmarshal(b, (*string)(s))
}

func (s Sites) validate() error {
	names := s.Names()
	if len(names) > maxSites {
		return Errorf(InvalidField, "%d sites are too many; %d can be named.", len(names), maxSites).At("site")
	}
	for i, name := range names {
		if !ValidName(name) {
			return Errorf(InvalidField, "%q is not a site's name.", name).At("site")
		}
		if slices.Contains(names[:i], name) {
			return Errorf(InvalidField, "%q is named twice.", name).At("site")
		}
	}
	return nil
}
