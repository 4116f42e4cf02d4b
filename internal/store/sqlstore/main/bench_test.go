package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// benchStores opens a store of each engine; PostgreSQL only where a server is
// given, since a benchmark is no test.
func benchStores(b *testing.B, run func(b *testing.B, s *Store)) {
	engines := map[string]func() string{"sqlite": func() string { return filepath.Join(b.TempDir(), "bench.db") }}
	if os.Getenv("HPCSERA_TEST_POSTGRES") != "" {
		engines["postgres"] = func() string { return newSchema(b) }
	}
	for name, newURL := range engines {
		url := newURL()
		b.Run(name, func(b *testing.B) {
			s := open(b, url)
			err := s.Write(context.Background(), func(tx store.Tx) error { return tx.PutCode(benchCode()) })
			if err != nil {
				b.Fatal(err)
			}
			run(b, s)
		})
	}
}

const benchDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func benchCode() store.Code {
	var c store.Code
	c.Project, c.Digest, c.Name, c.User, c.Client = "cfd", benchDigest, "cavity", "alice", "ci"
	c.Manifest = hpcsera.Manifest{Name: "cavity", Program: hpcsera.Program{Script: "#!/bin/sh\nblockMesh && icoFoam\n"}}
	c.Created = time.Now()
	return c
}

func benchJob(seq int64) *store.Job {
	j := &store.Job{Token: "t_00000000000000000000", Ready: true}
	j.ID, j.Version, j.Name, j.Project, j.User, j.Client, j.Site = hpcsera.NewID("j"), seq, "cavity", "cfd", "alice", "ci", "gwdg"
	j.State, j.Reason, j.Attempt, j.Desired = hpcsera.Pending, hpcsera.WaitingForAgent, 1, hpcsera.DesiredRun
	j.Code = hpcsera.CodeRef{Digest: benchDigest, Name: "cavity"}
	j.Values = hpcsera.Values{"viscosity": []byte("0.02")}
	j.Resources.NodeCount = 1
	j.Attributes.Duration = hpcsera.Duration(30 * time.Minute)
	j.Times.Created = time.Now()
	j.Run = hpcsera.RunPart{Site: hpcsera.Sites(j.Site), Resources: j.Resources, Attributes: j.Attributes, Values: j.Values}
	return j
}

func benchChange(j *store.Job) store.Change {
	return store.Change{
		Event: hpcsera.Event{Seq: j.Version, At: j.Times.Created, Type: "job.state", Job: j.ID, Project: j.Project, Attempt: 1, State: j.State, Reason: j.Reason},
		User:  j.User, Client: j.Client, Site: j.Site,
	}
}

// submit does what a request that submits a job does in its closure.
func submit(tx store.Tx, key string) error {
	if _, err := tx.Idempotent("cfd/ci/jobs", key); !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("answer before the request: %w", err)
	}
	if _, err := tx.Code("cfd", benchDigest); err != nil {
		return err
	}
	seq, err := tx.NextSeq()
	if err != nil {
		return err
	}
	j := benchJob(seq)
	if err := tx.InsertJobs([]*store.Job{j}); err != nil {
		return err
	}
	if err := tx.Append(benchChange(j)); err != nil {
		return err
	}
	return tx.KeepAnswer("cfd/ci/jobs", key, store.Answer{BodySHA256: benchDigest[7:], Status: 201, Body: []byte(`{"id":"` + j.ID + `"}`), Created: time.Now()})
}

// BenchmarkSubmit submits jobs from 64 goroutines.
func BenchmarkSubmit(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		before := s.Stats()
		var next atomic.Int64
		var wg sync.WaitGroup
		b.ResetTimer()
		for range 64 {
			wg.Go(func() {
				for next.Add(1) <= int64(b.N) {
					key := hpcsera.NewID("k")
					if err := s.Write(context.Background(), func(tx store.Tx) error { return submit(tx, key) }); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		after := s.Stats()
		b.ReportMetric(float64(after.Commits-before.Commits)/float64(after.Writes-before.Writes), "commits/closure")
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "closures/s")
	})
}

// BenchmarkSubmitAlone submits from one goroutine: what a single request waits
// for.
func BenchmarkSubmitAlone(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		for b.Loop() {
			key := hpcsera.NewID("k")
			if err := s.Write(context.Background(), func(tx store.Tx) error { return submit(tx, key) }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkBulk files 10 000 jobs in one closure.
func BenchmarkBulk(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		for b.Loop() {
			err := s.Write(context.Background(), func(tx store.Tx) error {
				jobs := make([]*store.Job, 10_000)
				for i := range jobs {
					seq, err := tx.NextSeq()
					if err != nil {
						return err
					}
					jobs[i] = benchJob(seq)
				}
				if err := tx.InsertJobs(jobs); err != nil {
					return err
				}
				for _, j := range jobs {
					if err := tx.Append(benchChange(j)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkJob reads one job.
func BenchmarkJob(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		var id string
		err := s.Write(context.Background(), func(tx store.Tx) error {
			seq, err := tx.NextSeq()
			if err != nil {
				return err
			}
			j := benchJob(seq)
			id = j.ID
			return tx.InsertJobs([]*store.Job{j})
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				err := s.Read(context.Background(), func(r store.Reader) error {
					_, err := r.Job(id)
					return err
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkPrincipal reads what every request needs.
func BenchmarkPrincipal(b *testing.B) {
	benchStores(b, func(b *testing.B, s *Store) {
		id := hpcsera.NewID("t")
		err := s.Write(context.Background(), func(tx store.Tx) error {
			if err := tx.InsertToken(hpcsera.Token{ID: id, User: "alice", Project: "cfd", Client: "ci"}, make([]byte, 32)); err != nil {
				return err
			}
			if _, err := tx.User("alice"); err == nil {
				return nil
			}
			return errors.Join(tx.InsertUser(hpcsera.User{Name: "alice"}), tx.InsertClient(hpcsera.Client{Name: "ci"}),
				tx.InsertProject(hpcsera.Project{Name: "cfd", Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Member}}))
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				err := s.Read(context.Background(), func(r store.Reader) error {
					_, err := r.Principal(id)
					return err
				})
				if err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkOpen opens and closes an existing database.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "open.db")
	for b.Loop() {
		s, err := Open(context.Background(), path, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
