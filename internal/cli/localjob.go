package cli

import (
	"errors"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/jobfile"
)

// localJob is a job as the files here and the flags describe it.
type localJob struct {
	*jobfile.File
	digest string // of the code part; "" where Spec.Code names code on the server
}

// loadJob reads a job file and puts flags over it. It asks no server.
func (a *app) loadJob(path string, flags *runFlags) (*localJob, error) {
	f, err := jobfile.Open(path)
	if err != nil {
		return nil, err
	}
	c, err := loadConfig(a.env)
	if err != nil {
		return nil, err
	}
	name := first(a.flags.context, a.env["HPCSERA_CONTEXT"], c.Current)
	current := c.Contexts[name]
	f.Elsewhere = flags.given()
	if f.Spec.Site == "" && f.Elsewhere["site"] == "" {
		f.Elsewhere["site"] = a.siteFrom(name)
	}
	if err := flags.apply(&f.Spec, first(a.env["HPCSERA_SITE"], current.Site)); err != nil {
		return nil, err
	}
	if err := f.SetValues(flags.values); err != nil {
		return nil, usageError{err}
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	for _, notice := range f.Notices {
		a.screen.say("%s", clean(notice))
	}
	local := &localJob{File: f}
	if f.Spec.Code == "" {
		local.digest, err = f.Spec.Digest()
	}
	return local, err
}

// request returns what POST /jobs is sent: the run part beside the digest of
// the code, which is handed in before where the server does not know it. So a
// token that may only trigger code that exists is enough where it does.
func (l *localJob) request() hpcsera.JobSpec {
	if l.digest == "" {
		return l.Spec
	}
	return hpcsera.JobSpec{Code: l.digest, RunPart: l.Spec.RunPart, Overlays: l.Spec.Overlays}
}

// refused puts file and line to what the server refused of the job. Other
// errors it leaves as they are.
func (l *localJob) refused(err error) error {
	var e *hpcsera.Error
	switch {
	case !errors.As(err, &e) || e.Field == "":
		return err
	case e.Code == hpcsera.UnknownSite && l.Elsewhere["site"] != "" && len(l.Spec.Site.Names()) == 1:
		return unknownSite(string(l.Spec.Site), l.Elsewhere["site"])
	}
	return l.Locate(err)
}

// everywhere returns what the job asks for at the sites that it names: first at
// one of them, then at the others.
func (l *localJob) everywhere() (first hpcsera.RunPart, others []hpcsera.RunPart) {
	all := l.Spec.Everywhere()
	return all[0], all[1:]
}
