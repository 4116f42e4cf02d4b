package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/httpapi"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/server"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// share measures which part of the CPU time of GET /jobs/{id} goes into the
// question who asks and may he. hpcserad shows nobody its profile, so this is
// the same stack in this process, of whose profile only the stacks below a
// connection count, and the store's that answer for them.
func (b *bed) share(ctx context.Context, length time.Duration) ([]result, error) {
	dir := filepath.Join(b.dir, "here")
	databases := []struct{ name, url string }{{"SQLite", filepath.Join(dir, "hpcsera.db")}}
	if url := os.Getenv("HPCSERA_TEST_POSTGRES"); url != "" {
		databases = append(databases, struct{ name, url string }{"PostgreSQL", url})
	}
	var table []result
	for _, db := range databases {
		measured, err := b.shareOn(ctx, dir, db.url, length)
		if err != nil {
			return table, fmt.Errorf("%s: %w", db.name, err)
		}
		table = append(table, result{"token look-up and Allow in GET /jobs/{id}, " + db.name, "under 10 % of its CPU time", measured})
	}
	return table, nil
}

func (b *bed) shareOn(ctx context.Context, dir, database string, length time.Duration) (measured string, err error) {
	url, token, job, stop, err := serveHere(ctx, dir, database)
	if err != nil {
		return "", err
	}
	ask := func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/api/v1/jobs/"+job, nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := b.http.Do(r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = errors.New(res.Status)
		}
		return err
	}
	var text bytes.Buffer
	if err := pprof.StartCPUProfile(&text); err != nil {
		return "", errors.Join(err, stop())
	}
	_, err = rate(length, ask)
	pprof.StopCPUProfile()
	b.http.CloseIdleConnections()
	if err := errors.Join(err, stop()); err != nil {
		return "", err
	}
	p, err := profile.Parse(&text)
	if err != nil {
		return "", fmt.Errorf("read the profile: %w", err)
	}
	versions := cpu(p, "(*Store).answerVersions")
	of := cpu(p, "net/http.(*conn).serve") + versions
	in := cpu(p, "net/http.(*conn).serve", "internal/auth.(*Service).Authenticate") + cpu(p, "net/http.(*conn).serve", "internal/auth.Allow") + versions
	return fmt.Sprintf("%.1f %% of %v", 100*in.Seconds()/of.Seconds(), of.Round(10*time.Millisecond)), nil
}

// cpu sums the samples in whose stacks all of these functions stand.
func cpu(p *profile.Profile, functions ...string) time.Duration {
	var sum int64
	for _, s := range p.Sample {
		within := func(name string) bool {
			return slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
				return slices.ContainsFunc(l.Line, func(line profile.Line) bool { return strings.HasSuffix(line.Function.Name, name) })
			})
		}
		if !slices.ContainsFunc(functions, func(name string) bool { return !within(name) }) {
			sum += s.Value[len(s.Value)-1] // nanoseconds; the first value counts
		}
	}
	return time.Duration(sum)
}

// serveHere starts a server in this process, with one job.
func serveHere(ctx context.Context, dir, database string) (url, token, job string, stop func() error, err error) {
	log := slog.New(slog.DiscardHandler)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", "", nil, err
	}
	db, err := sqlstore.Open(ctx, database, log)
	if err != nil {
		return "", "", "", nil, err
	}
	files, err := fs.Open(filepath.Join(dir, "files"))
	if err != nil {
		return "", "", "", nil, errors.Join(err, db.Close())
	}
	front, err := server.Listen(server.Config{Listen: "127.0.0.1:0", Log: log})
	if err != nil {
		return "", "", "", nil, errors.Join(err, db.Close(), files.Close())
	}
	life, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	stop = func() error {
		cancel()
		return errors.Join(<-ended, db.Close(), files.Close())
	}
	api, token, job, err := populate(ctx, db, files, front, log)
	if err != nil {
		cancel()
		return "", "", "", nil, errors.Join(err, front.Close(), db.Close(), files.Close())
	}
	go func() { ended <- front.Serve(life, api) }()
	return front.URL(), token, job, stop, nil
}

// populate assembles the API as hpcserad does and submits a job.
func populate(ctx context.Context, db *sqlstore.Store, files *fs.Store, front *server.Server, log *slog.Logger) (api http.Handler, token, job string, err error) {
	key := bytes.Repeat([]byte{7}, 32)
	who, err := auth.New(auth.Config{Store: db, PublicURL: front.URL(), Key: key, Log: log})
	if err != nil {
		return nil, "", "", err
	}
	seen := auth.NewSightings(db, nil, log)
	codes := code.New(code.Config{Store: db, Blobs: files, Deployment: front.URL(), Log: log})
	life, err := jobs.New(jobs.Config{Store: db, Blobs: files, Logs: files, Code: codes, Sightings: seen, Key: key, Stopping: front.Stopping(), Still: who.Still, Log: log})
	if err != nil {
		return nil, "", "", err
	}
	api, err = httpapi.New(httpapi.Config{
		Auth: who, Jobs: life, Code: codes, Ready: func(context.Context) error { return nil }, LastSeq: func(context.Context) (int64, error) { return 0, nil },
		RequestID: server.RequestID, Note: server.Note, Refused: func(hpcsera.AuditLine) {}, Metrics: httpapi.NewMetrics(), Log: log,
	})
	if err != nil {
		return nil, "", "", err
	}
	people, host := access.New(access.Config{Store: db, Jobs: life, Sightings: seen, Log: log}), auth.OperatorOnHost()
	_, err1 := people.CreateUser(ctx, host, access.NewUser{Name: "bench"})
	_, err2 := people.CreateProject(ctx, host, access.NewProject{Name: "speed", Members: map[string]hpcsera.MemberRole{"bench": hpcsera.Owner}})
	_, err3 := people.CreateClient(ctx, host, access.Named{Name: "cli"})
	_, err4 := people.CreateSite(ctx, host, access.Named{Name: "nobody"})
	made, err5 := people.CreateToken(ctx, host, access.NewToken{User: "bench", Project: "speed", Client: "cli", Roles: "1,4,6"})
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return nil, "", "", err
	}
	principal := &auth.Principal{Token: &made.Token, Member: hpcsera.Owner}
	spec := hpcsera.JobSpec{Manifest: hpcsera.Manifest{Name: "share", Program: hpcsera.Program{Script: "true\n"}}, RunPart: hpcsera.RunPart{Site: "nobody"}}
	if _, err := life.Submit(ctx, principal, []hpcsera.JobSpec{spec}, false, jobs.Idempotency{}); err != nil {
		return nil, "", "", err
	}
	list, err := life.List(ctx, principal, jobs.ListQuery{})
	if err != nil || len(list.Jobs) != 1 {
		return nil, "", "", fmt.Errorf("the job is not there: %w", err)
	}
	return api, made.Secret, list.Jobs[0].ID, nil
}
