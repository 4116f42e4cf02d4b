package inquiry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// What is asked for where the code does not say; the user may choose less.
const (
	askedDays = 30
	askedRuns = approval.DefaultRuns
)

// How much is shown of one file, and of all of one version.
const (
	shownBytes = 256 << 10
	shownTotal = decision.MaxContents / 2
)

// found is what is known of code that jobs wait for.
type found struct {
	jobs   []*store.Job
	code   *store.Code
	agents []decision.CodeAgent // that could run it
	sites  []string
	last   *store.Approval // of the same name, by the same user
	before *store.Code     // what it is about, unless that is this code or gone
	shown  map[string]bool // digests of files whose bytes the project has
}

// find returns nil where nothing is to be asked: no job waits any more, the
// code is gone, or no agent could run it. An agent serves the projects of
// which its user is still a member, so who left is shown no more code.
func (s *Service) find(ctx context.Context, a store.Awaited) (*found, error) {
	f := &found{shown: map[string]bool{}}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		agents, err := s.agents(r, a)
		if err != nil || len(agents) == 0 {
			return err
		}
		if f.jobs, err = r.AwaitingApproval(a.User, a.Project, a.Digest); err != nil {
			return err
		}
		for _, j := range f.jobs {
			f.sites = append(f.sites, j.Site)
		}
		slices.Sort(f.sites)
		f.sites = slices.Compact(f.sites)
		for _, agent := range agents {
			if slices.Contains(f.sites, agent.Site) {
				f.agents = append(f.agents, agent)
			}
		}
		if f.code, err = r.Code(a.Project, a.Digest); err != nil || len(f.agents) == 0 {
			return err
		}
		if err := f.findLast(r, a); err != nil {
			return err
		}
		return f.findFiles(r, a.Project)
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && len(f.agents) == 0 {
		return nil, nil
	}
	return f, store.Failed("read what waits for "+a.Digest, err)
}

// agents returns the user's agents that serve the project now.
func (s *Service) agents(r store.Reader, a store.Awaited) (list []decision.CodeAgent, err error) {
	user, err := r.User(a.User)
	if err != nil || user.Disabled {
		return nil, err
	}
	rows, err := r.Agents(a.User, "")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		serves, err := auth.Serves(r, row)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(serves, a.Project) || !s.now().Before(row.Expires) {
			continue
		}
		agent := decision.CodeAgent{Thumbprint: row.Thumbprint, Site: row.Site}
		if row.Facts != nil {
			agent.Host = row.Facts.Host
		}
		list = append(list, agent)
	}
	return list, nil
}

// findLast finds the version that the user approved last. One that a client
// filed by itself is none: it could make a large change look small.
func (f *found) findLast(r store.Reader, a store.Awaited) error {
	list, err := r.Approvals(a.User, a.Project, "", "", f.code.Name, 1)
	if err != nil || len(list) == 0 || list[0].Digest == a.Digest {
		return err
	}
	f.last = list[0]
	f.before, err = r.Code(a.Project, f.last.Digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// findFiles finds out which bytes the project has. A manifest may name any
// digest, also that of another project's file, whose bytes are not shown.
func (f *found) findFiles(r store.Reader, project string) error {
	files := slices.Clone(f.code.Manifest.Files)
	if f.before != nil {
		files = append(files, f.before.Manifest.Files...)
	}
	for _, file := range files {
		digest := "sha256:" + file.SHA256
		has, err := r.HasBlob(project, digest)
		if err != nil {
			return err
		}
		f.shown[digest] = has
	}
	return nil
}

// request returns what the user is shown.
func (s *Service) request(ctx context.Context, q question, f *found) (r decision.Request, err error) {
	m := f.code.Manifest
	details := &decision.CodeDetails{
		Manifest: m, Deployment: s.cfg.Deployment, Sender: f.code.User, Clients: []string{approval.Anyone}, Submitters: []string{q.User},
		Sites: f.sites, Agents: f.agents, Limits: limits(m, f.jobs), Days: askedDays, Runs: askedRuns,
	}
	if details.Contents, err = s.contents(ctx, m, f.shown); err != nil {
		return r, err
	}
	if f.before != nil {
		details.Last = &decision.LastApproved{Approval: f.last.ID, Manifest: f.before.Manifest}
		if details.Last.Contents, err = s.contents(ctx, f.before.Manifest, f.shown); err != nil {
			return r, err
		}
	}
	return decision.Request{
		ID: q.Request, Kind: decision.Code, User: q.User, Client: f.jobs[0].Client, Project: q.Project, Code: details, Expires: q.Expires,
	}, nil
}

// limits returns limits that every job keeps within, so that one answer is
// enough for all that wait.
func limits(m hpcsera.Manifest, jobs []*store.Job) hpcsera.Limits {
	var runs []hpcsera.RunPart
	for _, j := range jobs {
		runs = append(runs, j.Run)
	}
	return m.SignedLimits(runs...)
}

// contents reads the files that can be shown. What is too long, or not here,
// is left out; the page says so.
func (s *Service) contents(ctx context.Context, m hpcsera.Manifest, shown map[string]bool) (map[string][]byte, error) {
	texts, total := map[string][]byte{}, int64(0)
	for _, f := range m.Files {
		digest := "sha256:" + f.SHA256
		if !shown[digest] || f.Size > shownBytes || total+f.Size > shownTotal {
			continue
		}
		text, err := s.read(ctx, digest, f.Size)
		if err != nil {
			return nil, fmt.Errorf("read file %s: %w", digest, err)
		}
		if text != nil {
			texts[f.Path] = text
			total += f.Size
		}
	}
	return texts, nil
}

// read returns a file's bytes, or nil when they are not here or as many as the
// manifest says: the size in it is its sender's word.
func (s *Service) read(ctx context.Context, digest string, size int64) ([]byte, error) {
	file, err := s.cfg.Blobs.Open(ctx, digest)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if file.Size() != size {
		return nil, file.Close()
	}
	text, err := io.ReadAll(io.NewSectionReader(file, 0, size))
	return text, errors.Join(err, file.Close())
}
