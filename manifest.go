package hpcsera

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/gowebpki/jcs"
)

// Manifest is the code part of a job: everything that decides what runs. It
// is digested and signed as a whole; a job on approved code cannot change any
// of it. Files are named by the digest of their bytes and travel as blobs, so
// there are no archives to unpack anywhere.
type Manifest struct {
	Name string `json:"name"`
	Program
	Files            []File                     `json:"files,omitempty"`
	Modules          []string                   `json:"modules,omitempty"`           // of the site, loaded before each step
	SpackEnvironment string                     `json:"spack_environment,omitempty"` // or this, by its name
	Container        *Container                 `json:"container,omitempty"`
	Environment      map[string]string          `json:"environment,omitempty"`
	Parameters       map[string]json.RawMessage `json:"parameters,omitempty"` // a JSON Schema per name
	Artifacts        []ArtifactPattern          `json:"artifacts,omitempty"`
	Result           string                     `json:"result,omitempty"` // a file holding a small JSON object
	CustomAttributes map[string]string          `json:"custom_attributes,omitempty"`
	Limits           *Limits                    `json:"limits,omitempty"`
	Directives       string                     `json:"directives,omitempty"` // "converted", or absent
	Steps            []Step                     `json:"steps,omitempty"`
	Sites            map[string]SiteCode        `json:"sites,omitempty"` // by site
}

// Program says what a step executes: exactly one of Script, ScriptFile and
// Executable. {name} in Arguments stands for a parameter, as one argument's
// part; scripts get parameters as environment variables only.
type Program struct {
	Script     string   `json:"script,omitempty"`
	ScriptFile string   `json:"script_file,omitempty"` // one of the manifest's files
	Executable string   `json:"executable,omitempty"`  // absolute
	Arguments  []string `json:"arguments,omitempty"`
	Launcher   string   `json:"launcher,omitempty"` // none (default) or mpi; for Executable
}

// File is one file beside job.yaml: code like the script itself.
type File struct {
	Path   string `json:"path"` // relative, slash-separated, inside the job's directory
	Mode   string `json:"mode"` // 0644 or 0755
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // 64 hexadecimal digits
}

// StepType is where a step runs.
type StepType string

// The step types. A transfer step is refused until transfers exist.
const (
	LoginStep    StepType = "login" // on the agent's own host
	BatchStep    StepType = "batch" // through the batch system
	TransferStep StepType = "transfer"
)

// Step is one stage of a job (the seed's subJob).
type Step struct {
	Name string   `json:"name"`
	Type StepType `json:"type"`
	Program
	Timeout   Duration   `json:"timeout,omitempty"`   // login steps; default one hour
	Resources *Resources `json:"resources,omitempty"` // batch steps; default the job's
}

// ArtifactPattern selects results to keep on the server. As JSON it may be a
// plain string, which stands for Path.
type ArtifactPattern struct {
	Path   string `json:"path"`             // relative, * and ? match within one path element
	Always bool   `json:"always,omitempty"` // keep it when the job failed, too
}

// UnmarshalJSON reads a string or an object.
func (a *ArtifactPattern) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &a.Path)
	}
	type object ArtifactPattern
	return json.Unmarshal(b, (*object)(a))
}

// Limits are the ceiling that a code part sets for the run part. In a
// statement every limit stands; in a manifest an absent one takes the run
// part's value at the moment of signing.
type Limits struct {
	NodeCount      int      `json:"node_count,omitempty"`
	Duration       Duration `json:"duration,omitempty"`
	Memory         Bytes    `json:"memory,omitempty"`
	QueueNames     []string `json:"queue_names,omitempty"`
	Accounts       []string `json:"accounts,omitempty"`
	ReservationIDs []string `json:"reservation_ids,omitempty"`
	Requeue        bool     `json:"requeue,omitempty"`
}

// Digest returns the code digest: "sha256:" and the SHA-256 of the manifest's
// canonical JSON (RFC 8785) in hexadecimal. Equal code has an equal digest,
// whatever wrote its JSON.
func (m Manifest) Digest() (string, error) {
	b, err := m.Canonical()
	if err != nil {
		return "", err
	}
	return DigestOf(b), nil
}

// Canonical returns the bytes that are digested.
func (m Manifest) Canonical() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(b)
}

// DigestOf returns the digest of b in the form used everywhere: "sha256:" and
// 64 hexadecimal digits.
func DigestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

var (
	digestPattern  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	hexPattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	namePattern    = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	paramPattern   = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	envPattern     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	wordPattern    = regexp.MustCompile(`^[A-Za-z0-9_.@%+-]{1,128}$`)
	braces         = regexp.MustCompile(`\{([^{}]*)\}`)
	directiveLines = regexp.MustCompile(`(?m)^#(SBATCH|PBS|BSUB|\$|OAR)[ \t]+\S`)
)

// ValidDigest reports whether d has the form DigestOf gives.
func ValidDigest(d string) bool { return digestPattern.MatchString(d) }

// ValidName reports whether s may name code, users, projects, clients and
// sites: 1 to 63 of a to z, 0 to 9 and the hyphen.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// ValidWord reports whether s may be a queue, an account or a reservation of a
// batch system: no spaces, no control characters, nothing like an option.
func ValidWord(s string) bool { return wordPattern.MatchString(s) && s[0] != '-' }

// proxyNames must never be set by a value: programs obey them.
var proxyNames = []string{"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "rsync_proxy"}

// Plan returns the steps in their order: Steps, or the one batch step that
// the short form stands for.
func (m Manifest) Plan() []Step {
	if len(m.Steps) > 0 {
		return m.Steps
	}
	return []Step{{Name: "main", Type: BatchStep, Program: m.Program}}
}

// File returns the manifest's file of that path.
func (m Manifest) File(p string) (File, bool) {
	for _, f := range m.Files {
		if f.Path == p {
			return f, true
		}
	}
	return File{}, false
}

// Validate checks every rule of the code part that needs no file and no
// server. It returns the first offence as an *Error naming its field.
func (m Manifest) Validate() error {
	if !ValidName(m.Name) {
		return Errorf(InvalidField, "%q is not a name.", m.Name).At("name").Hint("Use 1 to 63 of a-z, 0-9 and the hyphen.")
	}
	paths, err := m.validateFiles()
	if err != nil {
		return err
	}
	if err := m.validateSteps(paths); err != nil {
		return err
	}
	if err := m.validateEnvironment(); err != nil {
		return err
	}
	if err := m.validateSoftware(); err != nil {
		return err
	}
	if err := m.Container.validate(); err != nil {
		return err
	}
	for i, a := range m.Artifacts {
		if err := CheckPath(a.Path); err != nil {
			return err.At(fmt.Sprintf("artifacts[%d].path", i))
		}
		if _, err := path.Match(a.Path, ""); err != nil {
			return Errorf(InvalidField, "%q is not a pattern.", a.Path).At(fmt.Sprintf("artifacts[%d].path", i))
		}
	}
	if m.Result != "" {
		if err := CheckPath(m.Result); err != nil {
			return err.At("result")
		}
	}
	for key, value := range m.CustomAttributes {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return Errorf(InvalidField, "the value holds a control character.").At("custom_attributes." + key)
		}
	}
	if m.Directives != "" && m.Directives != "converted" {
		return Errorf(InvalidField, "%q is not known; only \"converted\" is.", m.Directives).At("directives")
	}
	if err := m.Limits.validate(); err != nil {
		return err
	}
	if err := m.validateSites(); err != nil {
		return err
	}
	return m.checkParameters()
}

// validate checks limits that may be nil.
func (l *Limits) validate() error {
	if l == nil {
		return nil
	}
	if l.NodeCount < 0 {
		return Errorf(InvalidField, "%d is not a sensible number.", l.NodeCount).At("limits.node_count")
	}
	for field, words := range map[string][]string{"queue_names": l.QueueNames, "accounts": l.Accounts, "reservation_ids": l.ReservationIDs} {
		for i, w := range words {
			if !ValidWord(w) {
				return Errorf(InvalidField, "%q has characters that no batch system's name has.", w).At(fmt.Sprintf("limits.%s[%d]", field, i))
			}
		}
	}
	return nil
}

func (m Manifest) validateEnvironment() error {
	for name, value := range m.Environment {
		if !envPattern.MatchString(name) || strings.HasPrefix(name, "HPCSERA_") {
			return Errorf(InvalidField, "%q cannot be set.", name).At("environment").Hint("Names are letters, digits and _, and HPCSERA_* is taken.")
		}
		if strings.ContainsRune(value, 0) || len(value) > maxEnvironmentText {
			return Errorf(InvalidField, "the value holds a NUL character or more than %d bytes.", maxEnvironmentText).At("environment." + name)
		}
		if _, both := m.Parameters[name]; both {
			return Errorf(InvalidField, "%q is also a parameter.", name).At("environment." + name)
		}
	}
	return nil
}

// validateFiles checks the files and returns their paths.
func (m Manifest) validateFiles() (map[string]bool, error) {
	paths, dirs := map[string]bool{}, map[string]string{} // dirs: to a file below
	for i, f := range m.Files {
		at := func(sub string) string { return fmt.Sprintf("files[%d].%s", i, sub) }
		if err := CheckPath(f.Path); err != nil {
			return nil, err.At(at("path"))
		}
		if paths[f.Path] {
			return nil, Errorf(InvalidField, "%q appears twice.", f.Path).At(at("path")).Hint("Name each file once.")
		}
		if below, ok := dirs[f.Path]; ok {
			return nil, Errorf(InvalidField, "%q is a file, but %q lies below it.", f.Path, below).At(at("path")).Hint("Rename one of them.")
		}
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if paths[dir] {
				return nil, Errorf(InvalidField, "%q lies below the file %q.", f.Path, dir).At(at("path")).Hint("Rename one of them.")
			}
			dirs[dir] = f.Path
		}
		paths[f.Path] = true
		if f.Mode != "0644" && f.Mode != "0755" {
			return nil, Errorf(InvalidField, "mode %q is neither 0644 nor 0755; links and special files cannot be sent.", f.Mode).At(at("mode")).
				Hint("Send what a link leads to as a file of its own.")
		}
		if !hexPattern.MatchString(f.SHA256) {
			return nil, Errorf(InvalidField, "%q is not 64 hexadecimal digits.", f.SHA256).At(at("sha256"))
		}
		if f.Size < 0 {
			return nil, Errorf(InvalidField, "a size cannot be negative.").At(at("size"))
		}
	}
	return paths, nil
}

func (m Manifest) validateSteps(paths map[string]bool) error {
	p := m.Program
	short := p.Script != "" || p.ScriptFile != "" || p.Executable != "" || len(p.Arguments) > 0 || p.Launcher != ""
	if len(m.Steps) > 0 && short {
		return Errorf(InvalidField, "a job has either steps or one script, script_file or executable.").At("steps")
	}
	if len(m.Steps) > 64 {
		return Errorf(InvalidField, "a job has at most 64 steps.").At("steps")
	}
	names := map[string]bool{}
	for i, s := range m.Plan() {
		at := ""
		if len(m.Steps) > 0 {
			at = fmt.Sprintf("steps[%d].", i)
		}
		if !ValidName(s.Name) || names[s.Name] {
			return Errorf(InvalidField, "%q is not a name, or appears twice.", s.Name).At(at + "name")
		}
		names[s.Name] = true
		switch s.Type {
		case LoginStep:
			if s.Resources != nil {
				return Errorf(InvalidField, "a login step takes no resources.").At(at + "resources")
			}
		case BatchStep:
			if s.Timeout != 0 {
				return Errorf(InvalidField, "a batch step's limit is attributes.duration.").At(at + "timeout")
			}
			if s.Resources != nil {
				if err := s.Resources.validate(at + "resources."); err != nil {
					return err
				}
			}
		case TransferStep:
			return notSupported(at+"type", "transfer")
		default:
			return Errorf(InvalidField, "%q is not a step type.", s.Type).At(at + "type").Hint("Use login or batch.")
		}
		if err := m.validateProgram(s.Program, at, paths); err != nil {
			return err
		}
	}
	return nil
}

func (m Manifest) validateProgram(p Program, at string, paths map[string]bool) error {
	count := 0
	for _, s := range []string{p.Script, p.ScriptFile, p.Executable} {
		if s != "" {
			count++
		}
	}
	if count != 1 {
		return Errorf(InvalidField, "%d of script, script_file and executable are given.", count).At(at + "script").Hint("Give exactly one.")
	}
	if strings.ContainsRune(p.Script, 0) {
		return Errorf(InvalidField, "the script holds a NUL character.").At(at + "script")
	}
	if m.Directives == "" && HasDirectives(p.Script) {
		return Errorf(InvalidField, "the script has batch directives, which are inert here.").At(at + "script").
			Hint("Let the client map them: hpcsera run FILE.sbatch, or hpcsera convert FILE.sbatch.")
	}
	if p.ScriptFile != "" && !paths[p.ScriptFile] {
		return Errorf(InvalidField, "%q is not one of files.", p.ScriptFile).At(at + "script_file")
	}
	if p.Executable != "" && (!path.IsAbs(p.Executable) || strings.ContainsRune(p.Executable, 0)) {
		return Errorf(InvalidField, "%q is not an absolute path.", p.Executable).At(at + "executable")
	}
	switch {
	case p.Launcher != "" && p.Launcher != "none" && p.Launcher != "mpi":
		return Errorf(InvalidField, "%q is not a launcher.", p.Launcher).At(at + "launcher").Hint("Use none or mpi.")
	case p.Launcher == "mpi" && p.Executable == "":
		return Errorf(InvalidField, "a launcher needs an executable; in a script write $HPCSERA_LAUNCH.").At(at + "launcher")
	}
	if len(p.Arguments) > 0 && p.Script != "" {
		return Errorf(InvalidField, "arguments go with script_file or executable.").At(at + "arguments")
	}
	for i, a := range p.Arguments {
		for _, ref := range braces.FindAllStringSubmatch(a, -1) {
			if _, ok := m.Parameters[ref[1]]; !ok {
				return Errorf(InvalidField, "{%s} is not a parameter.", ref[1]).At(fmt.Sprintf("%sarguments[%d]", at, i))
			}
		}
		if strings.ContainsRune(a, 0) {
			return Errorf(InvalidField, "the argument holds a NUL character.").At(fmt.Sprintf("%sarguments[%d]", at, i))
		}
	}
	return nil
}

// HasDirectives reports whether a script has lines for a batch system's
// submit command before its first command. Such a script runs only from code
// with directives: converted, so that no line of it is silently lost.
func HasDirectives(script string) bool { return directiveLines.MatchString(leadingComments(script)) }

// leadingComments returns the part of a script in which a batch system looks
// for directives: everything before its first command.
func leadingComments(script string) string {
	end := 0
	for line := range strings.Lines(script) {
		t := strings.TrimSpace(line)
		if t != "" && !strings.HasPrefix(t, "#") {
			break
		}
		end += len(line)
	}
	return script[:end]
}

// CheckPath refuses a path that is not relative, clean, printable and inside
// the job's directory. The names .hpcsera and below are the agent's own.
func CheckPath(p string) *Error {
	bad := p == "" || len(p) > 1024 || path.IsAbs(p) || path.Clean(p) != p || p == "." || p == ".." ||
		strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\\") ||
		strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
	if bad || slices.Contains(strings.Split(p, "/"), ".hpcsera") {
		return Errorf(InvalidField, "%q is not a path inside the job's directory.", p).
			Hint("Write it relative, without .. and without control characters.")
	}
	return nil
}

// laterKeys are keys of job.yaml that this version knows and refuses, so that
// nothing a user asked for is silently dropped.
var laterKeys = []string{
	"inputs", "gather", "provenance", "sweep", "notify", "to", "credential", "keep", "transfer",
}

// UnknownKey returns the error for a key at the given path that the schema
// does not have: NotSupportedYet where the format has it and this version
// does not.
func UnknownKey(field, key string) *Error {
	if slices.Contains(laterKeys, key) {
		return notSupported(field, key)
	}
	return Errorf(UnknownField, "%q is not a known field.", key).At(field).Hint("Check the spelling; nothing was submitted.")
}

func notSupported(field, key string) *Error {
	return Errorf(NotSupportedYet, "%q is not supported by this version.", key).At(field).Hint("Leave it out; nothing was submitted.")
}
