package hpcsera

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
)

// SiteCode is what a code part has at one site in place of what it has
// elsewhere: every field that is not zero, and of the environment the variables
// that are named. It is signed with the rest.
type SiteCode struct {
	Executable       string            `json:"executable,omitempty"`
	Launcher         string            `json:"launcher,omitempty"`
	Modules          []string          `json:"modules,omitempty"`
	SpackEnvironment string            `json:"spack_environment,omitempty"`
	Container        *Container        `json:"container,omitempty"`
	Environment      map[string]string `json:"environment,omitempty"`
}

func (c SiteCode) given() bool {
	return c.Executable != "" || c.Launcher != "" || len(c.Modules) > 0 || c.SpackEnvironment != "" || c.Container != nil || len(c.Environment) > 0
}

// At returns the code part as it is at a site.
func (m Manifest) At(site string) Manifest {
	c := m.Sites[site]
	m.Sites = nil
	set(&m.Executable, c.Executable)
	set(&m.Launcher, c.Launcher)
	set(&m.Container, c.Container)
	switch { // of these a job has one
	case len(c.Modules) > 0:
		m.Modules, m.SpackEnvironment = c.Modules, c.SpackEnvironment
	case c.SpackEnvironment != "":
		m.Modules, m.SpackEnvironment = nil, c.SpackEnvironment
	}
	m.Environment = merged(m.Environment, c.Environment)
	return m
}

func (m Manifest) validateSites() error {
	if len(m.Sites) > 64 {
		return Errorf(InvalidField, "the code differs at %d sites; it can at 64.", len(m.Sites)).At("sites")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Sites)) {
		if !ValidName(name) {
			return Errorf(InvalidField, "%q is not a site's name.", name).At("sites." + name)
		}
		if err := m.validateSite(m.Sites[name]); err != nil {
			return blame(name, m.Sites[name], err)
		}
	}
	return nil
}

// validateSite checks what differs at a site, and nothing of the rest again.
func (m Manifest) validateSite(c SiteCode) error {
	if c.Executable != "" || c.Launcher != "" {
		if m.Executable == "" {
			return Errorf(InvalidField, "only code whose program is an executable can have another one, or another launcher, at a site.").
				At(map[bool]string{true: "executable", false: "launcher"}[c.Executable != ""]).Hint("In a script, tell sites apart by $HPCSERA_SITE.")
		}
		here := Program{Executable: cmp.Or(c.Executable, m.Executable), Launcher: c.Launcher}
		if err := m.validateProgram(here, "", nil); err != nil {
			return err
		}
	}
	here := Manifest{Modules: c.Modules, SpackEnvironment: c.SpackEnvironment, Environment: c.Environment, Parameters: m.Parameters}
	if err := here.validateEnvironment(); err != nil {
		return err
	}
	if err := here.validateSoftware(); err != nil {
		return err
	}
	return c.Container.validate()
}

// Overlay is what a job's run part has at one site in place of what it has
// elsewhere: every field that is not zero, and of values and labels those that
// are named. What is written beside it of the code part belongs to the
// manifest; see [JobSpec.Part].
type Overlay struct {
	SiteCode
	Resources  Resources         `json:"resources,omitzero"`
	Attributes Attributes        `json:"attributes,omitzero"`
	Values     Values            `json:"values,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Keep       Keep              `json:"keep,omitzero"`
}

// Part gives what the overlays of a spec that was just read say of the code part
// to the manifest: in a job file both stand side by side.
func (s *JobSpec) Part() {
	for name, o := range s.Overlays {
		if !o.SiteCode.given() {
			continue
		}
		if s.Sites == nil {
			s.Sites = map[string]SiteCode{}
		}
		s.Sites[name], o.SiteCode = o.SiteCode, SiteCode{}
		s.Overlays[name] = o
	}
}

// MarshalJSON writes both parts' overlays side by side.
func (s JobSpec) MarshalJSON() ([]byte, error) {
	type plain JobSpec
	if len(s.Sites) > 0 {
		all := maps.Clone(s.Overlays)
		if all == nil {
			all = map[string]Overlay{}
		}
		for name, c := range s.Sites {
			o := all[name]
			o.SiteCode = c
			all[name] = o
		}
		s.Overlays = all
	}
	return json.Marshal(plain(s))
}

// run returns the overlay as a run part, which has the same rules.
func (o Overlay) run() RunPart {
	return RunPart{Resources: o.Resources, Attributes: o.Attributes, Values: o.Values, Labels: o.Labels, Keep: o.Keep}
}

// sets reports whether an overlay decides a field, such as
// resources.node_count or modules[1].
func sets(overlay any, field string) bool {
	text, err := json.Marshal(overlay)
	for name := range strings.SplitSeq(field, ".") {
		name, _, _ = strings.Cut(name, "[")
		var members map[string]json.RawMessage
		if err != nil || json.Unmarshal(text, &members) != nil || members[name] == nil {
			return false
		}
		text = members[name]
	}
	return true
}

// At returns the run part that a job has at a site.
func (s JobSpec) At(site string) RunPart {
	r := s.RunPart
	r.Site = Sites(site)
	o, ok := s.Overlays[site]
	if !ok {
		return r
	}
	set(&r.Resources.NodeCount, o.Resources.NodeCount)
	set(&r.Resources.ProcessCount, o.Resources.ProcessCount)
	set(&r.Resources.ProcessesPerNode, o.Resources.ProcessesPerNode)
	set(&r.Resources.CPUCoresPerProcess, o.Resources.CPUCoresPerProcess)
	set(&r.Resources.GPUCoresPerProcess, o.Resources.GPUCoresPerProcess)
	set(&r.Resources.Memory, o.Resources.Memory)
	set(&r.Resources.ExclusiveNodeUse, o.Resources.ExclusiveNodeUse)
	set(&r.Attributes.Duration, o.Attributes.Duration)
	set(&r.Attributes.QueueName, o.Attributes.QueueName)
	set(&r.Attributes.Account, o.Attributes.Account)
	set(&r.Attributes.ReservationID, o.Attributes.ReservationID)
	set(&r.Keep.Succeeded, o.Keep.Succeeded)
	set(&r.Keep.Failed, o.Keep.Failed)
	r.Values = merged(r.Values, o.Values)
	r.Labels = merged(r.Labels, o.Labels)
	return r
}

func set[T comparable](target *T, value T) {
	var zero T
	if value != zero {
		*target = value
	}
}

// merged returns a map with the entries of both; those of over win.
func merged[M ~map[string]V, V any](base, over M) M {
	if len(over) == 0 {
		return base
	}
	all := M{}
	maps.Copy(all, base)
	maps.Copy(all, over)
	return all
}

// Everywhere returns the run parts that the job can have: one for each site
// that it names, and where it names none, the one without an overlay and one
// for each overlay.
func (s JobSpec) Everywhere() []RunPart {
	var all []RunPart
	for _, name := range s.Site.Names() {
		all = append(all, s.At(name))
	}
	if len(all) > 0 {
		return all
	}
	all = append(all, s.RunPart)
	for _, name := range slices.Sorted(maps.Keys(s.Overlays)) {
		all = append(all, s.At(name))
	}
	return all
}

func (s JobSpec) validateOverlays() error {
	for _, name := range slices.Sorted(maps.Keys(s.Overlays)) {
		at := "sites." + name
		if !ValidName(name) {
			return Errorf(InvalidField, "%q is not a site's name.", name).At(at)
		}
		if o := s.Overlays[name]; o.SiteCode.given() {
			return Errorf(InvalidField, "fields of the code part stand beside those of the run part.").At(at)
		}
		err := s.Overlays[name].run().Validate()
		if err == nil {
			err = s.At(name).Validate()
		}
		if err != nil {
			return s.In(name, err)
		}
	}
	return nil
}

// In puts the blame for an error of a job at a site where it belongs: a field
// that the site's overlay decides is the overlay's.
func (s JobSpec) In(site string, err error) error {
	o := s.Overlays[site]
	o.SiteCode = s.Sites[site]
	return blame(site, o, err)
}

func blame(site string, overlay any, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Field == "" || !sets(overlay, e.Field) {
		return err
	}
	named := *e
	return named.At("sites." + site + "." + e.Field)
}
