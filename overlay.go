package hpcsera

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Overlay is what a job's run part has at one site in place of what it has
// elsewhere: every field that is not zero, and of values and labels those that
// are named.
type Overlay struct {
	Resources  Resources         `json:"resources,omitzero"`
	Attributes Attributes        `json:"attributes,omitzero"`
	Values     Values            `json:"values,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Keep       Keep              `json:"keep,omitzero"`
}

// InCodePart reports whether a key of job.yaml belongs to the code part, which
// is the same at every site.
func InCodePart(key string) bool {
	known := map[string]reflect.Type{}
	var names []string
	jsonFields(reflect.TypeFor[Manifest](), known, &names)
	return slices.Contains(names, key)
}

// run returns the overlay as a run part, which has the same rules.
func (o Overlay) run() RunPart {
	return RunPart{Resources: o.Resources, Attributes: o.Attributes, Values: o.Values, Labels: o.Labels, Keep: o.Keep}
}

// Sets reports whether the overlay decides a field, such as
// resources.node_count.
func (o Overlay) Sets(field string) bool {
	text, err := json.Marshal(o)
	for name := range strings.SplitSeq(field, ".") {
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
	var e *Error
	if !errors.As(err, &e) || e.Field == "" || !s.Overlays[site].Sets(e.Field) {
		return err
	}
	named := *e
	return named.At("sites." + site + "." + e.Field)
}
