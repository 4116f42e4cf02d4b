package code

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Prepare finds the code that p means with spec, which names it (a digest,
// NAME, or NAME@DIGEST) or holds new code. New code is checked, not filed. The
// errors are unknown_code, missing_blobs, and those of the manifest.
func (s *Service) Prepare(r store.Reader, p *auth.Principal, spec hpcsera.JobSpec) (*hpcsera.CodePart, error) {
	var part *hpcsera.CodePart
	var err error
	if spec.Code == "" {
		part, err = s.check(spec.Manifest)
	} else {
		part, err = s.resolve(r, p, spec.Code)
	}
	if err != nil {
		return nil, err
	}
	missing, err := s.missing(r, p.Token.Project, part.Digest, part.Manifest.Files)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		e := hpcsera.Errorf(hpcsera.MissingBlobs, "%d files of the code are not here.", len(missing)).At("files").
			Hint("Upload each with PUT /blobs/{digest} and try again.")
		e.Missing = missing
		return nil, e
	}
	return part, nil
}

// Part returns a code part of a project by its digest.
func (s *Service) Part(r store.Reader, project, digest string) (*hpcsera.CodePart, error) {
	if part, ok := s.parts.get(digest); ok {
		return part, nil
	}
	row, err := r.Code(project, digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notHere(hpcsera.UnknownCode, digest)
	} else if err != nil {
		return nil, err
	}
	return s.check(row.Manifest)
}

// resolve follows a reference to code that exists.
func (s *Service) resolve(r store.Reader, p *auth.Principal, ref string) (*hpcsera.CodePart, error) {
	name, digest, pinned := strings.Cut(ref, "@")
	switch {
	case hpcsera.ValidDigest(ref):
		name, digest = "", ref
	case pinned && hpcsera.ValidName(name) && hpcsera.ValidDigest(digest):
	case !pinned && hpcsera.ValidName(name):
		var err error
		if digest, err = s.newest(r, p, name); err != nil {
			return nil, err
		}
	default:
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q names no code.", ref).At("code").
			Hint("Write a digest (sha256:…), a name, or NAME@DIGEST.")
	}
	row, err := r.Code(p.Token.Project, digest)
	if errors.Is(err, store.ErrNotFound) || err == nil && name != "" && row.Name != name {
		return nil, notHere(hpcsera.UnknownCode, ref)
	} else if err != nil {
		return nil, err
	}
	target := auth.Target{Project: row.Project, User: row.User, Client: row.Client}
	if target.Granted, err = s.granted(r, p, row); err != nil {
		return nil, err
	}
	// Using code is POST_Job's right; whoever may not use it does not see it.
	if err := auth.Allow(p, auth.SubmitJobs, target); hpcsera.CodeOf(err) == hpcsera.NotFound {
		return nil, notHere(hpcsera.UnknownCode, ref)
	} else if err != nil {
		return nil, err
	}
	if part, ok := s.parts.get(digest); ok {
		return part, nil
	}
	return s.check(row.Manifest)
}

// newest returns the digest that a name means: the approval of p's user filed
// last, among those that hold now and count for p's client.
func (s *Service) newest(r store.Reader, p *auth.Principal, name string) (string, error) {
	list, err := r.Approvals(p.Token.User, p.Token.Project, p.Token.Client, "", name, listLimit)
	if err != nil {
		return "", err
	}
	for _, a := range list {
		st, err := s.statement(a)
		if err != nil {
			return "", err
		}
		if s.holds(st, s.cfg.Now()) && allows(st.Clients, p.Token.Client) {
			return a.Digest, nil
		}
	}
	return "", hpcsera.Errorf(hpcsera.UnknownCode, "%s has approved no code of the name %s for the client %s.", p.Token.User, name, p.Token.Client).
		At("code").Hint("Approve it with hpcsera approve, or name its digest.")
}

// Covering returns the newest approval under which a job may start, or nil
// when there is none. agent is the one that would run it, nil before one takes
// it. When an approval covers everything but the resources and attributes that
// the job asks for, the error is limit_exceeded.
func (s *Service) Covering(r store.Reader, j *store.Job, agent *store.Agent, at time.Time) (*hpcsera.Approval, error) {
	list, err := r.Approvals(j.User, j.Project, j.Client, j.Code.Digest, "", listLimit)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	part, err := s.Part(r, j.Project, j.Code.Digest)
	if err != nil {
		return nil, err
	}
	var exceeded error
	dead := map[string]bool{} // what a newer one replaces
	for _, a := range list {
		st, err := s.statement(a)
		if err != nil {
			return nil, err
		}
		dead[st.Replaces] = true
		if dead[a.ID] || !s.covers(st, j, at) || agent != nil && !slices.Contains(st.Agents, agent.Thumbprint) {
			continue
		}
		err = st.Limits.Within(j.Run, part.Manifest.Steps)
		if err == nil {
			return &a.Approval, nil
		}
		if exceeded == nil {
			exceeded = err
		}
	}
	return nil, exceeded
}

// covers compares every member of a statement with a job but limits, agents
// and runs.
func (s *Service) covers(st *approval.Statement, j *store.Job, at time.Time) bool {
	return s.holds(st, at) && st.User == j.User && st.Project == j.Project && st.Code == j.Code.Digest &&
		slices.Contains(st.Sites, j.Site) && allows(st.Clients, j.Client) && allows(st.Submitters, j.User)
}

func (s *Service) holds(st *approval.Statement, at time.Time) bool {
	return st.Deployment == s.cfg.Deployment && !at.Add(clockSkew).Before(st.NotBefore) && at.Before(st.NotAfter)
}

// clockSkew is how far the signer's clock may be ahead of ours: a statement
// mostly begins at the moment of signing and is filed in the next.
const clockSkew = 5 * time.Minute

func allows(list []string, name string) bool {
	return slices.Contains(list, name) || slices.Contains(list, approval.Anyone)
}

// statement parses a filed statement, remembered by the approval's id: rows of
// approvals never change but those of no client.
func (s *Service) statement(a *store.Approval) (*approval.Statement, error) {
	if st, ok := s.statements.get(a.ID); ok && a.Client != store.NoClient {
		return st, nil
	}
	st, err := approval.Parse(a.Statement)
	if err != nil {
		return nil, err
	}
	if a.Client != store.NoClient {
		s.statements.put(a.ID, &st, 1)
	}
	return &st, nil
}
