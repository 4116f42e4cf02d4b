package hpcsera

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Role is one of the eight orthogonal rights that a token may carry.
type Role uint8

// The roles. Their numbers and names are part of the API.
const (
	GetJobStatus    Role = 1 // read jobs, events, logs, artifacts
	UpdateJobStatus Role = 2 // agents report; clients annotate
	GetJob          Role = 3 // pull work (agents)
	PostCode        Role = 4 // hand in new code
	GetCode         Role = 5 // fetch code
	PostJob         Role = 6 // trigger a job from code that exists
	UpdateJob       Role = 7 // hold, release, change labels and resources
	DeleteJob       Role = 8 // cancel; erase a final job
)

var roleNames = [...]string{
	1: "GET_JobStatus", 2: "UPDATE_JobStatus", 3: "GET_Job", 4: "POST_Code",
	5: "GET_Code", 6: "POST_Job", 7: "UPDATE_Job", 8: "DELETE_Job",
}

// String returns the role's name, such as GET_JobStatus.
func (r Role) String() string {
	if r < 1 || int(r) >= len(roleNames) {
		return fmt.Sprintf("role(%d)", uint8(r))
	}
	return roleNames[r]
}

// Roles is a set of roles; bit r-1 stands for role r. The zero value grants
// nothing.
type Roles uint8

// RolesOf returns the set of the given roles.
func RolesOf(rs ...Role) Roles {
	var set Roles
	for _, r := range rs {
		set |= 1 << (r - 1)
	}
	return set
}

// Has reports whether r is in the set.
func (s Roles) Has(r Role) bool { return r >= 1 && r <= 8 && s&(1<<(r-1)) != 0 }

// List returns the roles of the set by number.
func (s Roles) List() []Role {
	var list []Role
	for r := GetJobStatus; r <= DeleteJob; r++ {
		if s.Has(r) {
			list = append(list, r)
		}
	}
	return list
}

// String returns the names, comma-separated.
func (s Roles) String() string {
	names := []string{}
	for _, r := range s.List() {
		names = append(names, r.String())
	}
	return strings.Join(names, ",")
}

// ParseRoles reads a comma-separated list of role names or numbers.
func ParseRoles(list string) (Roles, error) {
	var set Roles
	for _, word := range strings.Split(list, ",") {
		word = strings.TrimSpace(word)
		found := false
		for r := GetJobStatus; r <= DeleteJob; r++ {
			if word == r.String() || word == fmt.Sprint(uint8(r)) {
				set |= RolesOf(r)
				found = true
			}
		}
		if !found {
			return 0, Errorf(InvalidField, "unknown role %q", word).At("roles").
				Hint("Roles are numbered 1 to 8: %s.", Roles(255))
		}
	}
	return set, nil
}

// MarshalJSON writes the names as a list.
func (s Roles) MarshalJSON() ([]byte, error) {
	names := []string{}
	for _, r := range s.List() {
		names = append(names, r.String())
	}
	return json.Marshal(names)
}

// UnmarshalJSON reads a list of names.
func (s *Roles) UnmarshalJSON(b []byte) error {
	var names []string
	if err := json.Unmarshal(b, &names); err != nil {
		return err
	}
	*s = 0
	if len(names) == 0 {
		return nil
	}
	set, err := ParseRoles(strings.Join(names, ","))
	*s = set
	return err
}

// Presets are the role sets that people name by purpose.
var Presets = map[string]Roles{
	"ci":      RolesOf(1, 6, 8),
	"ci-code": RolesOf(1, 4, 6, 8),
	"engine":  RolesOf(1, 6, 7, 8),
	"viewer":  RolesOf(1),
}

// AgentRoles are the roles of every agent's credential.
var AgentRoles = RolesOf(UpdateJobStatus, GetJob, GetCode)
