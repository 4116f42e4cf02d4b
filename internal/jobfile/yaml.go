package jobfile

import (
	"bytes"
	"encoding/json"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// YAML returns the job.yaml that f means. Stored beside the job's files, it
// loads to the same job with the same code digest.
func (f *File) YAML() ([]byte, error) {
	text, err := json.Marshal(f.Spec)
	if err != nil {
		return nil, hpcsera.Errorf(hpcsera.Internal, "the job cannot be written: %w.", err)
	}
	if len(f.Spec.Files) > 0 {
		var paths []string
		for _, file := range f.Spec.Files {
			paths = append(paths, file.Path)
		}
		// Files are digests in JSON and paths in job.yaml. Within strings
		// quotes are escaped, so this text stands where the member does.
		digests, _ := json.Marshal(f.Spec.Files)
		names, _ := json.Marshal(paths)
		text = bytes.Replace(text, append([]byte(`"files":`), digests...), append([]byte(`"files":`), names...), 1)
	}
	return strictyaml.Format(text)
}
