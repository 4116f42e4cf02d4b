package jobs

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Get returns a job.
func (s *Service) Get(ctx context.Context, p *auth.Principal, id string) (hpcsera.Job, error) {
	return s.get(ctx, p, auth.GetJob, id)
}

func (s *Service) get(ctx context.Context, p *auth.Principal, action auth.Action, id string) (shown hpcsera.Job, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		j, err := s.load(r, p, action, id)
		if err != nil {
			return err
		}
		shown = j.Job
		return s.warn(r, &shown, nil)
	})
	return shown, store.Failed("read job "+id, err)
}

// Wait returns a job as soon as its version is above since, it has ended, wait
// (at most 60 s) is over, or the server stops; the job may be unchanged then.
// It ends with an error soon after p is no longer valid.
func (s *Service) Wait(ctx context.Context, p *auth.Principal, id string, since int64, wait time.Duration) (hpcsera.Job, error) {
	sub := s.cfg.Store.Feed().Subscribe(func(c *store.Change) bool { return c.Job == id })
	defer sub.Close()
	limited, cancel := s.until(ctx, min(wait, longestWait))
	defer cancel()
	watch := s.watch(p)
	for {
		j, err := s.Get(ctx, p, id)
		if err != nil || j.Version > since || j.State.Final() || limited.Err() != nil {
			return j, err
		}
		watch.wait(limited, sub)
		if err := watch.check(ctx); err != nil {
			return hpcsera.Job{}, err
		}
	}
}

// warn adds what is only known at the moment of reading: that the job's agent
// was not seen lately. Nothing ends by that. memo holds the sentences of the
// agents that were looked up already; nil remembers nothing.
func (s *Service) warn(r store.Reader, j *hpcsera.Job, memo map[string]string) error {
	if j.Agent == "" || j.State.Final() {
		return nil
	}
	sentence, known := memo[j.Agent]
	if !known {
		var err error
		if sentence, err = s.unseen(r, j.Agent, j.Site); err != nil {
			return err
		}
		if memo != nil {
			memo[j.Agent] = sentence
		}
	}
	if sentence != "" {
		j.Warnings = append(j.Warnings, sentence)
	}
	return nil
}

// unseen returns a warning about an agent, or "".
func (s *Service) unseen(r store.Reader, id, site string) (string, error) {
	now := s.cfg.Now()
	if last := s.cfg.Sightings.Last(id, nil); last != nil && now.Sub(*last) <= unseenAfter {
		return "", nil
	}
	row, err := r.Agent(id)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	last := s.cfg.Sightings.Last(id, row.LastSeen)
	switch {
	case last == nil:
		return fmt.Sprintf("The agent at %s was never seen.", site), nil
	case !s.silent(row, now):
		return "", nil
	}
	return fmt.Sprintf("The agent at %s was last seen at %s. What is shown may be old; the job itself goes on.", site, last.UTC().Format(time.RFC3339)), nil
}

// silent reports whether an agent did not come for longer than it should.
func (s *Service) silent(row *store.Agent, now time.Time) bool {
	late := unseenAfter
	if row.Facts != nil && row.Facts.FromCron {
		late = cronUnseenAfter
	}
	last := s.cfg.Sightings.Last(row.ID, row.LastSeen)
	return last == nil || now.Sub(*last) > late
}

// ListQuery selects jobs. Zero fields select all.
type ListQuery struct {
	State      hpcsera.State
	Site       string
	Name       string
	Label      string    // KEY=VALUE
	Annotation string    // KEY=VALUE
	After      time.Time // created at or after
	Before     time.Time // created before
	Cursor     string    // Next of the page before
	Limit      int       // 1 to 1000; 0 is 100
}

// List returns a page of the jobs that p reaches, newest first.
func (s *Service) List(ctx context.Context, p *auth.Principal, q ListQuery) (hpcsera.JobList, error) {
	list := hpcsera.JobList{Jobs: []hpcsera.Job{}}
	if err := auth.Allow(p, auth.ListJobs, ownProject(p)); err != nil {
		return list, err
	}
	filter, err := q.filter(p)
	if err != nil {
		return list, err
	}
	if only := p.OnlySite(); only != "" && filter.Site != only {
		return list, nil
	}
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		filter.Limit++ // one more tells whether there is another page
		rows, err := r.Jobs(filter)
		if err != nil {
			return err
		}
		if last := filter.Limit - 1; len(rows) > last {
			rows = rows[:last]
			list.Next = pageCursor(rows[last-1].Cursor)
		}
		memo := map[string]string{}
		for _, row := range rows {
			if err := s.warn(r, &row.Job, memo); err != nil {
				return err
			}
			list.Jobs = append(list.Jobs, row.Job)
		}
		return nil
	})
	return list, store.Failed("list jobs", err)
}

func (q ListQuery) filter(p *auth.Principal) (store.JobFilter, error) {
	f := store.JobFilter{
		Projects: p.Projects(), Client: p.OnlyClient(), Site: q.Site, State: q.State, Name: q.Name,
		After: q.After, Before: q.Before, Limit: q.Limit,
	}
	if f.Site == "" {
		f.Site = p.OnlySite()
	}
	if q.State != "" && !q.State.Valid() {
		return f, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a state.", q.State).At("state")
	}
	if f.Limit == 0 {
		f.Limit = 100
	}
	if f.Limit < 1 || f.Limit > maxPage {
		return f, hpcsera.Errorf(hpcsera.InvalidField, "%d is not between 1 and %d.", q.Limit, maxPage).At("limit")
	}
	var err error
	if f.Label, err = pair("label", q.Label); err != nil {
		return f, err
	}
	if f.Note, err = pair("annotation", q.Annotation); err != nil {
		return f, err
	}
	f.Older, err = readPageCursor(q.Cursor)
	return f, err
}

// maxPage is the longest page that the contract allows.
const maxPage = 1000

func pair(field, text string) (kv [2]string, err error) {
	if text == "" {
		return kv, nil
	}
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return kv, hpcsera.Errorf(hpcsera.InvalidField, "%q is not KEY=VALUE.", text).At(field)
	}
	return [2]string{key, value}, nil
}

// A page's cursor says where the next page starts. It is opaque so that its
// content can change; it opens nothing that a filter would not.
func pageCursor(older int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("jobs " + strconv.FormatInt(older, 10)))
}

func readPageCursor(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	number, ok := strings.CutPrefix(string(b), "jobs ")
	older, errInt := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || errInt != nil || older < 1 {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "this is not the next of a page.").At("cursor")
	}
	return older, nil
}

// Artifacts lists what a job left on the server.
func (s *Service) Artifacts(ctx context.Context, p *auth.Principal, id string) (hpcsera.ArtifactList, error) {
	list := hpcsera.ArtifactList{Artifacts: []hpcsera.Artifact{}}
	j, err := s.get(ctx, p, auth.ListArtifacts, id)
	list.Artifacts = append(list.Artifacts, j.Artifacts...)
	return list, err
}

// ownProject is the target of what concerns a whole project.
func ownProject(p *auth.Principal) auth.Target {
	if p.Token == nil {
		return auth.Target{}
	}
	return auth.Target{Project: p.Token.Project, User: p.Token.User, Client: p.Token.Client}
}
