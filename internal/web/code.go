package web

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/code"
)

// projectCode is the code of one project.
type projectCode struct {
	Project string
	Code    []codeRow
}

// codeRow is a code part in the list.
type codeRow struct {
	code.Shown
	State, Kind string
}

// code lists the code of the visitor's projects.
func (s *Site) code(v *visit) error {
	projects, err := s.ownProjects(v)
	if err != nil {
		return err
	}
	data := struct {
		Projects []projectCode
		Inbox    string
	}{Inbox: s.cfg.AuthURL + "/"}
	for _, p := range projects {
		list, err := s.cfg.Code.InProject(v.Context(), v.by, p.Name)
		if err != nil {
			return err
		}
		pc := projectCode{Project: p.Name}
		for _, shown := range list {
			row := codeRow{Shown: shown}
			row.State, row.Kind = s.mayRun(shown)
			pc.Code = append(pc.Code, row)
		}
		data.Projects = append(data.Projects, pc)
	}
	return s.show(v, "code", data)
}

// mayRun says whether code runs, by the approvals on file. The agents have the
// last word: they verify every signature themselves.
func (s *Site) mayRun(c code.Shown) (state, kind string) {
	for _, a := range c.Approvals {
		if s.holds(a) == "" {
			return "approved", "ok"
		}
	}
	if len(c.Approvals) > 0 {
		return "approval ended", ""
	}
	return "not approved", "warn"
}

// holds says why an approval does not hold; "" for one that does.
func (s *Site) holds(a code.Signed) string {
	now := s.cfg.Now()
	switch {
	case a.Replaced != "":
		return "replaced"
	case !now.Before(a.NotAfter):
		return "ended"
	case now.Before(a.NotBefore.Add(-time.Minute)):
		return "not yet"
	}
	return ""
}

// signedRow is an approval on the page of its code.
type signedRow struct {
	code.Signed
	State string
	Key   string // what signed, as far as this server can read it
}

// program is something that runs, by its step.
type program struct{ Step, Where, Text string }

// parameter is a value that jobs may choose.
type parameter struct{ Name, Schema string }

// codePart shows one code part: what runs, and what was signed about it.
func (s *Site) codePart(v *visit) error {
	shown, err := s.cfg.Code.InProjectByDigest(v.Context(), v.by, v.PathValue("project"), v.PathValue("digest"))
	if err != nil {
		return err
	}
	data := struct {
		code.Shown
		State, Kind string
		Signed      []signedRow
		Programs    []program
		Parameters  []parameter
		Missing     map[string]bool
		Manifest    string
		Inbox       string
	}{Shown: shown, Missing: map[string]bool{}, Inbox: s.cfg.AuthURL + "/"}
	data.State, data.Kind = s.mayRun(shown)
	for _, a := range shown.Approvals {
		row := signedRow{Signed: a, State: s.holds(a)}
		if sig, err := approval.VerifySSH(a.Statement, a.Signature); err == nil {
			row.Key = sig.Fingerprint
		}
		data.Signed = append(data.Signed, row)
	}
	for _, digest := range shown.Missing {
		data.Missing[digest] = true
	}
	m := shown.CodeEntry.Manifest
	for _, step := range m.Plan() {
		data.Programs = append(data.Programs, program{step.Name, string(step.Type), programText(step.Program)})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Parameters)) {
		data.Parameters = append(data.Parameters, parameter{name, string(m.Parameters[name])})
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	data.Manifest = string(text)
	return s.show(v, "code_part", data)
}

func programText(p hpcsera.Program) string {
	switch {
	case p.Script != "":
		return p.Script
	case p.ScriptFile != "":
		return "the file " + p.ScriptFile
	}
	text := p.Executable
	for _, a := range p.Arguments {
		text += "\n  " + a
	}
	return text
}
