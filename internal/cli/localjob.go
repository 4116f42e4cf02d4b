package cli

import (
	"errors"

	"github.com/hpcsera/hpcsera"
)

// localJob is a job as the files here describe it.
type localJob struct {
	file     string
	spec     hpcsera.JobSpec
	manifest hpcsera.Manifest  // the code part; zero where spec.Code names code on the server
	digest   string            // of the manifest; "" likewise
	files    map[string]string // digest of each of its files to the path here
}

func (a *app) loadJob(file string, flags *runFlags) (*localJob, error) {
	return nil, errors.New("TODO")
}
