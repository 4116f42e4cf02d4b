package hpcsera

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// JobSpec is job.yaml as JSON: what POST /jobs takes. Either Code names code
// that exists (a digest, NAME, or NAME@DIGEST), or the manifest's fields hold
// new code; never both.
type JobSpec struct {
	Code string `json:"code,omitempty"`
	Manifest
	RunPart
	Overlays map[string]Overlay `json:"sites,omitempty"` // of the run part, by site; as JSON beside the manifest's
}

// RunPart is what a job may choose freely within the signed limits. It never
// asks for consent.
type RunPart struct {
	Site         Sites             `json:"site,omitempty"`
	Resources    Resources         `json:"resources,omitzero"`
	Attributes   Attributes        `json:"attributes,omitzero"`
	Values       Values            `json:"values,omitempty"`
	Dependencies []Dependency      `json:"dependencies,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Keep         Keep              `json:"keep,omitzero"`
	Requeue      bool              `json:"requeue,omitempty"`
	Hold         bool              `json:"hold,omitempty"`
}

// Resources are PSI/J's resource names. Zero means not asked for. Memory is
// for the whole job; drivers divide.
type Resources struct {
	NodeCount          int   `json:"node_count,omitempty"`
	ProcessCount       int   `json:"process_count,omitempty"`
	ProcessesPerNode   int   `json:"processes_per_node,omitempty"`
	CPUCoresPerProcess int   `json:"cpu_cores_per_process,omitempty"`
	GPUCoresPerProcess int   `json:"gpu_cores_per_process,omitempty"`
	Memory             Bytes `json:"memory,omitempty"`
	ExclusiveNodeUse   bool  `json:"exclusive_node_use,omitempty"`
}

// Nodes returns how many nodes a driver divides by: at least 1.
func (r Resources) Nodes() int {
	switch {
	case r.NodeCount > 0:
		return r.NodeCount
	case r.ProcessCount > 0 && r.ProcessesPerNode > 0:
		return (r.ProcessCount + r.ProcessesPerNode - 1) / r.ProcessesPerNode
	}
	return 1
}

// Processes returns the number of processes (MPI ranks) asked for: at least 1.
func (r Resources) Processes() int {
	switch {
	case r.ProcessCount > 0:
		return r.ProcessCount
	case r.ProcessesPerNode > 0:
		return r.ProcessesPerNode * r.Nodes()
	}
	return r.Nodes()
}

// Attributes are PSI/J's scheduling attributes.
type Attributes struct {
	Duration      Duration `json:"duration,omitempty"`
	QueueName     string   `json:"queue_name,omitempty"`
	Account       string   `json:"account,omitempty"`
	ReservationID string   `json:"reservation_id,omitempty"`
}

// Dependency is a job that must reach State first; the server keeps it.
type Dependency struct {
	Job   string `json:"job"`
	State State  `json:"state"`
}

// Keep is how long the job's directory stays on the site after its end.
type Keep struct {
	Succeeded Duration `json:"succeeded,omitempty"` // default 3d
	Failed    Duration `json:"failed,omitempty"`    // default 14d; also for cancelled
}

// Validate checks the spec as far as it can be without server and site.
func (s JobSpec) Validate() error {
	if s.Code != "" {
		if s.Manifest.given() {
			return Errorf(InvalidField, "code names code that exists, so no field of the code part can stand beside it.").At("code").
				Hint("Leave the code part out, or code.")
		}
	} else if err := s.Manifest.Validate(); err != nil {
		return err
	}
	return s.ValidateRun()
}

// ValidateRun checks the run part and the overlays.
func (s JobSpec) ValidateRun() error {
	if err := s.RunPart.Validate(); err != nil {
		return err
	}
	return s.validateOverlays()
}

// given reports whether any field of the code part is set.
func (m Manifest) given() bool {
	p := m.Program
	return m.Name != "" || p.Script != "" || p.ScriptFile != "" || p.Executable != "" || len(p.Arguments) > 0 || p.Launcher != "" ||
		len(m.Files) > 0 || len(m.Environment) > 0 || len(m.Parameters) > 0 || len(m.Artifacts) > 0 || m.Result != "" ||
		len(m.CustomAttributes) > 0 || m.Limits != nil || m.Directives != "" || len(m.Steps) > 0 || len(m.Modules) > 0 || m.SpackEnvironment != "" || m.Container != nil || len(m.Sites) > 0
}

// Validate checks the run part alone.
func (r RunPart) Validate() error {
	if err := r.Site.validate(); err != nil {
		return err
	}
	if err := r.Resources.validate("resources."); err != nil {
		return err
	}
	for field, word := range map[string]string{
		"queue_name": r.Attributes.QueueName, "account": r.Attributes.Account, "reservation_id": r.Attributes.ReservationID,
	} {
		if word != "" && !ValidWord(word) {
			return Errorf(InvalidField, "%q has characters that no batch system's name has.", word).At("attributes." + field)
		}
	}
	for i, d := range r.Dependencies {
		if !ValidID("j", d.Job) {
			return Errorf(InvalidField, "%q is not a job id.", d.Job).At(fmt.Sprintf("dependencies[%d].job", i))
		}
		if !d.State.Final() && d.State != Running {
			return Errorf(InvalidField, "%q cannot be waited for.", d.State).At(fmt.Sprintf("dependencies[%d].state", i)).
				Hint("Use running, succeeded, failed or cancelled.")
		}
	}
	for field, set := range map[string]map[string]string{"labels": r.Labels, "annotations": r.Annotations} {
		if err := CheckLabels(field, set); err != nil {
			return err
		}
	}
	return nil
}

// CheckLabels checks a map of labels or annotations: at most 64 of them, keys
// of 1 to 63 printable characters, values of at most 4 KiB of UTF-8.
func CheckLabels(field string, set map[string]string) error {
	if len(set) > 64 {
		return Errorf(InvalidField, "%d are too many; 64 can be given.", len(set)).At(field)
	}
	for k, v := range set {
		if k == "" || len(k) > 63 || strings.ContainsFunc(k, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '=' }) {
			return Errorf(InvalidField, "%q cannot be a key.", k).At(field).Hint("Use 1 to 63 characters without spaces and =.")
		}
		if len(v) > 4096 || !utf8.ValidString(v) || strings.ContainsRune(v, 0) {
			return Errorf(InvalidField, "the value is longer than 4 KiB or not text.").At(field + "." + k)
		}
	}
	return nil
}

func (r Resources) validate(at string) error {
	for field, n := range map[string]int{
		"node_count": r.NodeCount, "process_count": r.ProcessCount, "processes_per_node": r.ProcessesPerNode,
		"cpu_cores_per_process": r.CPUCoresPerProcess, "gpu_cores_per_process": r.GPUCoresPerProcess,
	} {
		if n < 0 || n > 10_000_000 {
			return Errorf(InvalidField, "%d is not a sensible number.", n).At(at + field)
		}
	}
	if r.NodeCount > 0 && r.ProcessCount > 0 && r.ProcessesPerNode > 0 && r.NodeCount*r.ProcessesPerNode < r.ProcessCount {
		return Errorf(InvalidField, "%d processes do not fit on %d nodes with %d each.", r.ProcessCount, r.NodeCount, r.ProcessesPerNode).At(at + "process_count")
	}
	return nil
}

// Within checks that a run part stays inside limits, which are those of a
// signed statement: an absent limit allows only the site's own default.
// steps are the manifest's, whose own resources count as well.
func (l Limits) Within(r RunPart, steps []Step) error {
	all := []Resources{r.Resources}
	for _, s := range steps {
		if s.Resources != nil {
			all = append(all, *s.Resources)
		}
	}
	for _, res := range all {
		if n := res.Nodes(); n > max(l.NodeCount, 1) {
			return beyond("resources.node_count", "%d exceeds the signed limit of %d.", n, max(l.NodeCount, 1))
		}
		if res.Memory > l.Memory {
			return beyond("resources.memory", "%v exceeds the signed limit of %v.", res.Memory, l.Memory)
		}
	}
	if r.Attributes.Duration > l.Duration {
		return beyond("attributes.duration", "%v exceeds the signed limit of %v.", r.Attributes.Duration, l.Duration)
	}
	for _, c := range []struct {
		field, word string
		allowed     []string
	}{
		{"attributes.queue_name", r.Attributes.QueueName, l.QueueNames},
		{"attributes.account", r.Attributes.Account, l.Accounts},
		{"attributes.reservation_id", r.Attributes.ReservationID, l.ReservationIDs},
	} {
		if c.word == "" {
			continue
		}
		found := false
		for _, a := range c.allowed {
			found = found || a == c.word
		}
		if !found && len(c.allowed) == 0 {
			return beyond(c.field, "%q was not signed: none was.", c.word)
		}
		if !found {
			return beyond(c.field, "%q is not among the signed ones: %s.", c.word, strings.Join(c.allowed, ", "))
		}
	}
	if r.Requeue && !l.Requeue {
		return beyond("requeue", "requeue is not among what was signed.")
	}
	return nil
}

// beyond is the error for what was not signed.
func beyond(field, format string, args ...any) error {
	return Errorf(LimitExceeded, format, args...).At(field).Hint("Ask for less, or have it approved again: what the job asks for then is signed, or what limits in the job file allow. A key may have limits of its own.")
}

// SignedLimits returns the limits that a statement carries when m is signed
// with these run parts: the manifest's, and for absent ones whatever the run
// parts need.
func (m Manifest) SignedLimits(runs ...RunPart) Limits {
	var all Limits
	for i, r := range runs {
		l := m.limitsWith(r)
		if i == 0 {
			all = l
			continue
		}
		all.NodeCount, all.Memory, all.Duration = max(all.NodeCount, l.NodeCount), max(all.Memory, l.Memory), max(all.Duration, l.Duration)
		all.QueueNames, all.Accounts = union(all.QueueNames, l.QueueNames), union(all.Accounts, l.Accounts)
		all.ReservationIDs, all.Requeue = union(all.ReservationIDs, l.ReservationIDs), all.Requeue || l.Requeue
	}
	return all
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func (m Manifest) limitsWith(r RunPart) Limits {
	var l Limits
	if m.Limits != nil {
		l = *m.Limits
	}
	nodes, memory := r.Resources.Nodes(), r.Resources.Memory
	for _, s := range m.Steps {
		if s.Resources != nil {
			nodes, memory = max(nodes, s.Resources.Nodes()), max(memory, s.Resources.Memory)
		}
	}
	if l.NodeCount == 0 {
		l.NodeCount = nodes
	}
	if l.Memory == 0 {
		l.Memory = memory
	}
	if l.Duration == 0 {
		l.Duration = r.Attributes.Duration
	}
	for _, c := range []struct {
		list *[]string
		word string
	}{{&l.QueueNames, r.Attributes.QueueName}, {&l.Accounts, r.Attributes.Account}, {&l.ReservationIDs, r.Attributes.ReservationID}} {
		if len(*c.list) == 0 && c.word != "" {
			*c.list = []string{c.word}
		}
	}
	l.Requeue = l.Requeue || r.Requeue
	return l
}
