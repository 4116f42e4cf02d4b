package jobfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// File is a job as the user's disk describes it. The caller may change Spec's
// run part (flags win over files) and then asks Check again.
type File struct {
	Path    string            // as given
	Spec    hpcsera.JobSpec   // with the files' digests
	Blobs   map[string]string // digest of each file's bytes ("sha256:…") to its path here
	Notices []string          // one line each, for the user to read
	// Elsewhere says of fields of Spec that do not come from the file who gave
	// them: a flag, such as --nodes for resources.node_count.
	Elsewhere map[string]string

	locate func(error) error
}

// maxJobFile bounds a job.yaml or a batch script. Large data is no code.
const maxJobFile = 8 << 20

// Open reads the job at path: a batch script by its name (.sbatch) or by its
// #SBATCH lines, anything else as job.yaml. A directory stands for the
// job.yaml in it.
func Open(path string) (*File, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "job.yaml")
	}
	text, err := read(path)
	if err != nil {
		return nil, err
	}
	ext := strings.ToLower(filepath.Ext(path))
	if system, other := otherSystems[ext]; other {
		return nil, notYet(path, "batch scripts of "+system)
	}
	script := bytes.HasPrefix(text, []byte("#!"))
	switch {
	case ext == ".sbatch":
		return convert(path, text)
	case !script || ext == ".yaml" || ext == ".yml" || ext == ".json":
		return load(path, text)
	case hasSlurmDirectives(string(text)):
		return convert(path, text)
	case hpcsera.HasDirectives(string(text)):
		return nil, notYet(path, "batch scripts of this family")
	}
	return nil, hpcsera.Errorf(hpcsera.InvalidField, "this is neither a job.yaml nor a script with #SBATCH lines.").At(path).
		Hint("Write a job.yaml that names it: script_file: %s", filepath.Base(path))
}

// otherSystems are batch systems by the names that their scripts usually have.
var otherSystems = map[string]string{".pbs": "PBS", ".lsf": "LSF", ".sge": "Grid Engine", ".oar": "OAR"}

func notYet(path, what string) error {
	return hpcsera.Errorf(hpcsera.NotSupportedYet, "%s are not supported by this version.", what).At(path).
		Hint("Write a job.yaml that names the script as script_file, with directives: converted; nothing was submitted.")
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the file cannot be read: %w.", errors.Unwrap(err)).At(path)
	}
	if !info.Mode().IsRegular() || info.Size() > maxJobFile {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "this is no file of at most %v.", hpcsera.Bytes(maxJobFile)).At(path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the file cannot be read: %w.", errors.Unwrap(err)).At(path)
	}
	return text, nil
}

// yamlSpec is a JobSpec as people write it: files are patterns, not digests.
type yamlSpec struct {
	Files []string `json:"files"` // hides the manifest's
	hpcsera.JobSpec
}

// load reads a job.yaml.
func load(path string, text []byte) (*File, error) {
	doc, err := strictyaml.Parse(path, text)
	if err != nil {
		return nil, err
	}
	var spec yamlSpec
	if err := doc.Decode(&spec); err != nil {
		return nil, err
	}
	spec.Part()
	f := &File{Path: path, Spec: spec.JobSpec, locate: doc.Locate}
	if err := f.addFiles(spec.Files); err != nil {
		return nil, doc.Locate(err)
	}
	if err := f.Spec.Validate(); err != nil {
		return nil, doc.Locate(err)
	}
	return f, nil
}

// Check holds the whole job against every rule that needs no server: the
// spec's own, the code's limits, and the values against their schemas. It
// names file and line where the offence stands in the file.
func (f *File) Check() error {
	if err := f.Spec.Validate(); err != nil {
		return f.Locate(err)
	}
	if f.Spec.Code != "" {
		return nil
	}
	for _, run := range f.Spec.Everywhere() {
		err := f.Spec.SignedLimits(run).Within(run, f.Spec.Steps)
		if err == nil {
			_, err = f.Spec.Complete(run.Values)
		}
		if err != nil {
			return f.Locate(f.Spec.In(string(run.Site), err))
		}
	}
	return nil
}

// Locate puts file and line before the field of an *hpcsera.Error, as in
// "job.yaml:4 resources.node_count", also for one that a server or a site
// sent. Other errors it returns as they are.
//
// What stands in Elsewhere it names by that, without file and line.
func (f *File) Locate(err error) error {
	if err == nil {
		return nil
	}
	var e *hpcsera.Error
	if errors.As(err, &e) && f.Elsewhere[e.Field] != "" {
		named := *e
		named.Field = f.Elsewhere[e.Field]
		return &named
	}
	return f.locate(err)
}
