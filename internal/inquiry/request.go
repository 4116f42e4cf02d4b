package inquiry

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// What is asked for where the code does not say; the user may choose less.
const (
	askedDays = 30
	askedRuns = 1000
)

// shownBytes is how much of one file is shown; shownTotal of all of them, in
// both versions together.
const (
	shownBytes = 256 << 10
	shownTotal = decision.MaxContents / 2
)

// request returns what the user is shown, or nil where nothing is to be asked:
// no job waits any more, or no agent could run the code.
func (s *Service) request(ctx context.Context, q question) (*decision.Request, error) {
	var jobs []*store.Job
	var row, before *store.Code
	var agents []*store.Agent
	var last *hpcsera.Approval
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		if jobs, err = r.AwaitingApproval(q.User, q.Project, q.Digest); err != nil {
			return err
		}
		if row, err = r.Code(q.Project, q.Digest); err != nil {
			return err
		}
		if agents, err = r.Agents(q.User, ""); err != nil {
			return err
		}
		list, err := r.Approvals(q.User, q.Project, "", row.Name, 1)
		if err != nil || len(list) == 0 {
			return err
		}
		last = list[0]
		if before, err = r.Code(q.Project, last.Digest); errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // the code was deleted
	} else if err != nil {
		return nil, err
	}
	if len(jobs) == 0 {
		return nil, nil
	}
	details := &decision.CodeDetails{
		Manifest: row.Manifest, Deployment: s.cfg.Deployment, Sender: row.User, Clients: []string{approval.Anyone}, Submitters: []string{q.User},
		Limits: row.Manifest.SignedLimits(jobs[0].Run), Days: askedDays, Runs: askedRuns,
	}
	for _, j := range jobs {
		if j.Site != "" && !slices.Contains(details.Sites, j.Site) {
			details.Sites = append(details.Sites, j.Site)
		}
	}
	for _, a := range agents {
		if slices.Contains(details.Sites, a.Site) && slices.Contains(a.Projects, q.Project) {
			agent := decision.CodeAgent{Thumbprint: a.Thumbprint, Site: a.Site}
			if a.Facts != nil {
				agent.Host = a.Facts.Host
			}
			details.Agents = append(details.Agents, agent)
		}
	}
	if len(details.Agents) == 0 {
		return nil, nil // asked once an agent is enrolled
	}
	if details.Contents, err = s.contents(ctx, row.Manifest); err != nil {
		return nil, err
	}
	if before != nil && before.Digest != row.Digest {
		details.Last = &decision.LastApproved{Approval: last.ID, Manifest: before.Manifest}
		if details.Last.Contents, err = s.contents(ctx, before.Manifest); err != nil {
			return nil, err
		}
	}
	return &decision.Request{
		ID: q.Request, Kind: decision.Code, User: q.User, Client: row.Client, Project: q.Project, Code: details, Expires: q.Expires,
	}, nil
}

// contents reads the files that can be shown. What is too long, or not here,
// is left out; the page says so.
func (s *Service) contents(ctx context.Context, m hpcsera.Manifest) (map[string][]byte, error) {
	shown, total := map[string][]byte{}, int64(0)
	for _, f := range m.Files {
		if f.Size > shownBytes || total+f.Size > shownTotal {
			continue
		}
		blob, err := s.cfg.Blobs.Open(ctx, "sha256:"+f.SHA256)
		if err != nil {
			continue // its bytes were not uploaded
		}
		text, err := io.ReadAll(io.NewSectionReader(blob, 0, blob.Size()))
		if err := errors.Join(err, blob.Close()); err != nil {
			return nil, err
		}
		total += int64(len(text))
		shown[f.Path] = text
	}
	return shown, nil
}
