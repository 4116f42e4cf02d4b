package code

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store      store.Store
	Blobs      blob.Store
	Deployment string // the server's public URL
	// Filed, where it is set, hears in the same transaction of each approval
	// that a token filed: who is to know of it that did not hear it signed.
	Filed func(tx store.Tx, a hpcsera.Approval) error
	Log   *slog.Logger
	Now   func() time.Time // nil is time.Now
}

// Service keeps code. It may be used by many goroutines.
type Service struct {
	cfg        Config
	parts      *cache[*hpcsera.CodePart]   // by digest
	whole      *cache[bool]                // project and digest whose blobs are all here
	statements *cache[*approval.Statement] // by approval id
}

// Bounds of the caches. A code part costs its canonical bytes and as much for
// what was made of them.
const (
	partBytes      = 64 << 20
	statementCount = 10_000
	wholeCount     = 100_000
	listLimit      = 1000
)

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	// Statements name the deployment in one form only.
	if form, err := approval.Deployment(cfg.Deployment); err == nil {
		cfg.Deployment = form
	}
	return &Service{
		cfg: cfg, parts: newCache[*hpcsera.CodePart](partBytes),
		whole: newCache[bool](wholeCount), statements: newCache[*approval.Statement](statementCount),
	}
}

// Put files a code part and says which blobs are missing. Filing it twice is
// no error; created is false then.
func (s *Service) Put(ctx context.Context, p *auth.Principal, m hpcsera.Manifest) (entry hpcsera.CodeEntry, created bool, err error) {
	target := auth.Target{Project: projectOf(p), User: p.User()}
	if err := auth.Allow(p, auth.PostCode, target); err != nil {
		return entry, false, err
	}
	part, err := s.check(m)
	if err != nil {
		return entry, false, err
	}
	at := s.cfg.Now().UTC()
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Code(target.Project, part.Digest)
		created = errors.Is(err, store.ErrNotFound)
		if err := s.File(tx, p, part, at); err != nil {
			return err
		}
		row, err := tx.Code(target.Project, part.Digest)
		if err != nil {
			return err
		}
		entry, err = s.entry(tx, row)
		return err
	})
	return entry, created, store.Failed("file code "+part.Digest, err)
}

// File files a code part for p within a transaction.
func (s *Service) File(tx store.Tx, p *auth.Principal, part *hpcsera.CodePart, at time.Time) error {
	if _, err := tx.Code(p.Token.Project, part.Digest); err == nil {
		return nil // the first filing stays
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err := note(tx, p, p.Token.Project, at, "code.file", part.Digest, part.Manifest.Name); err != nil {
		return err
	}
	return tx.PutCode(store.Code{
		CodeEntry: hpcsera.CodeEntry{
			Digest: part.Digest, Name: part.Manifest.Name, Project: p.Token.Project, Manifest: part.Manifest, Created: at.UTC(),
		},
		User: p.Token.User, Client: p.Token.Client,
	})
}

// Get returns a code part by digest, with its missing blobs.
func (s *Service) Get(ctx context.Context, p *auth.Principal, digest string) (entry hpcsera.CodeEntry, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		row, err := s.reached(r, p, auth.GetCode, digest)
		if err != nil {
			return err
		}
		entry, err = s.entry(r, row)
		return err
	})
	return entry, store.Failed("read code "+digest, err)
}

// List returns the code parts that p reaches, newest first, at most 1000.
func (s *Service) List(ctx context.Context, p *auth.Principal) (hpcsera.CodeList, error) {
	list := hpcsera.CodeList{Code: []hpcsera.CodeEntry{}}
	if err := auth.Allow(p, auth.ListCode, auth.Target{Project: projectOf(p), User: p.User()}); err != nil {
		return list, err
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		rows, err := r.CodeList(p.Token.Project, "", p.OnlyClient(), listLimit)
		if err != nil {
			return err
		}
		for _, row := range rows {
			entry, err := s.entry(r, row)
			if err != nil {
				return err
			}
			list.Code = append(list.Code, entry)
		}
		return nil
	})
	return list, store.Failed("list code", err)
}

// Delete takes a code part off file: conflict while an unfinished job uses it.
func (s *Service) Delete(ctx context.Context, p *auth.Principal, digest string) error {
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		row, err := s.reached(tx, p, auth.DeleteCode, digest)
		if err != nil {
			return err
		}
		user, err := unfinishedUse(tx, row)
		if err != nil {
			return err
		}
		if user != "" {
			return hpcsera.Errorf(hpcsera.Conflict, "the job %s uses this code and has not ended.", user).
				Hint("Cancel it, or wait for its end.")
		}
		if err := note(tx, p, row.Project, s.cfg.Now(), "code.delete", digest, row.Name); err != nil {
			return err
		}
		return tx.DeleteCode(row.Project, digest)
	})
	return store.Failed("delete code "+digest, err)
}

// note leaves a line in the audit log.
func note(tx store.Tx, p *auth.Principal, project string, at time.Time, action, about, detail string) error {
	return tx.Note(hpcsera.AuditLine{
		At: at, Actor: p.Actor(), Action: action, User: p.User(), Project: project, About: about, Detail: detail,
	})
}

// unfinishedUse returns the id of an unfinished job that uses the code, or "".
// Jobs carry the name of their code, which narrows the search.
func unfinishedUse(r store.Reader, row *store.Code) (string, error) {
	for _, state := range hpcsera.States {
		if state.Final() {
			continue
		}
		filter := store.JobFilter{Projects: []string{row.Project}, Name: row.Name, State: state, Limit: listLimit}
		for {
			page, err := r.Jobs(filter)
			if err != nil {
				return "", err
			}
			for _, j := range page {
				if j.Code.Digest == row.Digest {
					return j.ID, nil
				}
			}
			if len(page) < listLimit {
				break
			}
			filter.Older = page[len(page)-1].Cursor
		}
	}
	return "", nil
}

// reached reads a code part that p may act on. What p does not reach and what
// is not there look the same.
func (s *Service) reached(r store.Reader, p *auth.Principal, action auth.Action, digest string) (*store.Code, error) {
	if p.Token == nil || !hpcsera.ValidDigest(digest) {
		return nil, notHere(hpcsera.NotFound, digest)
	}
	row, err := r.Code(p.Token.Project, digest)
	if errors.Is(err, store.ErrNotFound) {
		return nil, notHere(hpcsera.NotFound, digest)
	} else if err != nil {
		return nil, err
	}
	target := auth.Target{Project: row.Project, User: row.User, Client: row.Client}
	if target.Granted, err = s.granted(r, p, row); err != nil {
		return nil, err
	}
	if err := auth.Allow(p, action, target); hpcsera.CodeOf(err) == hpcsera.NotFound {
		return nil, notHere(hpcsera.NotFound, digest)
	} else if err != nil {
		return nil, err
	}
	return row, nil
}

// granted says whether p's user approved code of another client for p's. What
// a client filed by itself grants it nothing: any key could have signed that.
func (s *Service) granted(r store.Reader, p *auth.Principal, row *store.Code) (bool, error) {
	if only := p.OnlyClient(); only == "" || only == row.Client {
		return false, nil
	}
	list, err := r.Approvals(p.Token.User, row.Project, "", row.Digest, "", listLimit)
	if err != nil {
		return false, err
	}
	for _, a := range list {
		st, err := s.statement(a)
		if err != nil {
			return false, err
		}
		if allows(st.Clients, p.Token.Client) && s.cfg.Now().Before(st.NotAfter) {
			return true, nil
		}
	}
	return false, nil
}

// entry fills in which blobs are missing.
func (s *Service) entry(r store.Reader, row *store.Code) (hpcsera.CodeEntry, error) {
	entry := row.CodeEntry
	missing, err := s.missing(r, row.Project, row.Digest, row.Manifest.Files)
	entry.Missing = missing
	return entry, err
}

// missing lists the digests of files whose bytes the project does not have.
// Bytes stay once they came, so completeness is remembered.
func (s *Service) missing(r store.Reader, project, digest string, files []hpcsera.File) ([]string, error) {
	missing := []string{}
	key := project + " " + digest
	if _, whole := s.whole.get(key); whole {
		return missing, nil
	}
	asked := map[string]bool{}
	for _, f := range files {
		d := "sha256:" + f.SHA256
		if asked[d] {
			continue
		}
		asked[d] = true
		has, err := r.HasBlob(project, d)
		if err != nil {
			return nil, err
		}
		if !has {
			missing = append(missing, d)
		}
	}
	if len(missing) == 0 {
		s.whole.put(key, true, 1)
	}
	return missing, nil
}

// check is [hpcsera.Manifest.Check], remembered by digest.
func (s *Service) check(m hpcsera.Manifest) (*hpcsera.CodePart, error) {
	if digest, err := m.Digest(); err == nil {
		if part, ok := s.parts.get(digest); ok {
			return part, nil
		}
	}
	part, err := m.Check()
	if err != nil {
		return nil, err
	}
	s.parts.put(part.Digest, part, 2*int64(len(part.Canonical)))
	return part, nil
}

// projectOf returns the token's project, "" for an agent, which reaches no
// operation that asks.
func projectOf(p *auth.Principal) string {
	if p.Token == nil {
		return ""
	}
	return p.Token.Project
}

func notHere(code hpcsera.Code, ref string) error {
	return hpcsera.Errorf(code, "there is no code %s.", ref).At("code").
		Hint("hpcsera code list shows what there is; new code is handed in with POST /code.")
}
