package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/hpcsera/hpcsera"
)

// Enrolment is what the user granted to this agent, in STATE_DIR/enrolled.json.
// The settings can say something else later, and then nothing runs. Of an
// enrolment that an operator made only Agent is known.
type Enrolment struct {
	Agent    string   `json:"agent"`
	User     string   `json:"user,omitempty"`
	Site     string   `json:"site,omitempty"`
	Projects []string `json:"projects,omitempty"`
}

func enrolmentPath(dir string) string { return filepath.Join(dir, "enrolled.json") }

// Keep writes it down.
func (e Enrolment) Keep(dir string) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return replaceFile(enrolmentPath(dir), b, 0o600)
}

// readEnrolment returns what was granted to the agent of that id, the zero value
// where that is not known.
func readEnrolment(dir, agent string) (e Enrolment) {
	b, err := os.ReadFile(enrolmentPath(dir))
	if err != nil || json.Unmarshal(b, &e) != nil || e.Agent != agent {
		return Enrolment{}
	}
	return e
}

// differs says where the settings differ from what was granted.
func (e Enrolment) differs(c Config) error {
	for _, s := range []struct{ key, granted, set string }{{"user", e.User, c.User}, {"site", e.Site, c.Site}} {
		if s.granted != "" && s.granted != s.set {
			return hpcsera.Errorf(hpcsera.Conflict, "the agent was enrolled for the %s %s, and the settings say %s: %s.", s.key, s.granted, s.key, s.set)
		}
	}
	if e.Agent == "" || len(e.Projects) == 0 {
		return nil
	}
	for _, p := range c.Projects {
		if !slices.Contains(e.Projects, p) {
			return hpcsera.Errorf(hpcsera.Conflict, "the settings name the project %s, and the agent was enrolled for %v: it gets no jobs of it.", p, e.Projects)
		}
	}
	for _, p := range e.Projects {
		if len(c.Projects) > 0 && !slices.Contains(c.Projects, p) {
			return hpcsera.Errorf(hpcsera.Conflict, "the agent was enrolled for the project %s too, and the settings do not name it: its jobs are refused.", p)
		}
	}
	return nil
}
