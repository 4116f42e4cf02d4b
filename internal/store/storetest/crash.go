package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

var crashTests = map[string]func(*testing.T, Database){
	"everything is there after closing and opening":                       testReopen,
	"a killed process loses nothing it answered":                          testKill,
	"a full disk refuses, keeps nothing half, and ends with the shortage": testFull,
}

func exitGoroutine() { runtime.Goexit() }

func testReopen(t *testing.T, d Database) {
	s := d.Open(t)
	epoch := get(t, s, func(r store.Reader) (int64, error) { return r.Epoch() })
	j := insert(t, s)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.InsertUser(hpcsera.User{Name: "alice"}), tx.KeepAnswer("scope", "key", store.Answer{Status: 201, Created: day}))
	})
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	s = d.Open(t)
	read(t, s, func(r store.Reader) error {
		if _, err := r.Job(j.ID); err != nil {
			t.Errorf("the job: %v", err)
		}
		if _, err := r.User("alice"); err != nil {
			t.Errorf("the user: %v", err)
		}
		if _, err := r.Idempotent("scope", "key"); err != nil {
			t.Errorf("the answer: %v", err)
		}
		if got, err := r.Epoch(); err != nil || got != epoch {
			t.Errorf("the epoch is %d (%v), want %d", got, err, epoch)
		}
		return nil
	})
	if next := insert(t, s); next.Version != j.Version+1 {
		t.Errorf("the next number is %d, want %d", next.Version, j.Version+1)
	}
}

// WriteForever files pairs of jobs from many goroutines, each with an event
// and one answer for both, and prints a line per pair once it is promised. It
// is the victim of the kill test and ends when a write or out fails.
func WriteForever(s store.Store, out io.Writer) error {
	lines, failed := make(chan string), make(chan error)
	for n := range 8 {
		go func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d", n, i)
				if err := s.Write(context.Background(), func(tx store.Tx) error { return pair(tx, key) }); err != nil {
					failed <- err
					return
				}
				lines <- key
			}
		}()
	}
	for {
		select {
		case err := <-failed:
			return err
		case line := <-lines:
			if _, err := fmt.Fprintln(out, line); err != nil {
				return err
			}
		}
	}
}

// pair files two jobs and an answer that names both.
func pair(tx store.Tx, key string) error {
	a, err := file(tx)
	if err != nil {
		return err
	}
	b, err := file(tx, func(j *store.Job) { j.Labels = map[string]string{"second": "yes"} })
	if err != nil {
		return err
	}
	return tx.KeepAnswer("pairs", key, store.Answer{Status: 201, Body: []byte(a.ID + " " + b.ID), Created: day})
}

func testKill(t *testing.T, d Database) {
	promised := map[string]bool{}
	for _, after := range []int{3, 50, 200} {
		cmd := d.Writer(t)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		within(t, "the writing process", func() {
			lines := bufio.NewScanner(out)
			for n := 0; lines.Scan(); n++ {
				promised[fmt.Sprintf("%d/%s", after, lines.Text())] = true
				if n == after {
					if err := cmd.Process.Kill(); err != nil {
						t.Error(err)
					}
				}
			}
		})
		cmd.Wait() //nolint:errcheck // it was killed
		if len(promised) < after {
			t.Fatalf("the writing process ended after %d pairs: %s", len(promised), stderr.String())
		}
		s := d.Open(t)
		checkPairs(t, s, promised, after)
		// Keys of the next round must be new.
		write(t, s, func(tx store.Tx) error { return tx.DropAnswers(day.Add(time.Hour)) })
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
}

// checkPairs compares the database with what was promised in a round.
func checkPairs(t *testing.T, s store.Store, promised map[string]bool, round int) {
	t.Helper()
	read(t, s, func(r store.Reader) error {
		for name := range promised {
			key, ours := strings.CutPrefix(name, fmt.Sprintf("%d/", round))
			if !ours {
				continue
			}
			a, err := r.Idempotent("pairs", key)
			if err != nil {
				t.Errorf("the answer to the promised pair %s: %v", key, err)
				continue
			}
			for _, id := range strings.Fields(string(a.Body)) {
				if _, err := r.Job(id); err != nil {
					t.Errorf("job %s of the promised pair %s: %v", id, key, err)
				}
				if e, err := r.Events(store.EventFilter{Job: id}); err != nil || len(e) != 1 {
					t.Errorf("job %s of the promised pair %s has %d events (%v), want 1", id, key, len(e), err)
				}
			}
		}
		return nil
	})
	read(t, s, func(r store.Reader) error {
		numbers := map[int64]bool{}
		jobs, second := 0, 0
		for after := int64(0); ; {
			page, err := r.Events(store.EventFilter{After: after, Limit: 1000})
			if err != nil {
				return err
			}
			for _, c := range page {
				j, err := r.Job(c.Job)
				if err != nil || numbers[c.Seq] || j.Version != c.Seq {
					t.Errorf("event %d has no job of that version: %v", c.Seq, err)
					continue
				}
				numbers[c.Seq] = true
				jobs++
				if j.Labels["second"] != "" {
					second++
				}
				after = c.Seq
			}
			if len(page) < 1000 {
				break
			}
		}
		last, err := r.LastSeq()
		if err != nil || int64(jobs) != last || second*2 != jobs {
			t.Errorf("got %d jobs, %d of them second ones, and LastSeq %d (%v): a pair was torn", jobs, second, last, err)
		}
		return nil
	})
}

// testFull fills a small database until it refuses.
func testFull(t *testing.T, d Database) {
	s, grow := d.Small(t)
	var promised []string
	var err error
	for i := 0; err == nil; i++ {
		if i == 100_000 {
			t.Fatal("the small database is never full")
		}
		key := fmt.Sprintf("fill-%d", i)
		if err = s.Write(t.Context(), func(tx store.Tx) error { return fill(tx, key, 40_000) }); err == nil {
			promised = append(promised, key)
		}
	}
	wantErr(t, "filling", err, store.ErrFull)
	if len(promised) == 0 {
		t.Fatal("the small database was full from the start")
	}
	// Together with others that do not fit either, nothing is half there.
	errs := inOneTransaction(t, s,
		func(tx store.Tx) error { return fill(tx, "big-1", 400_000) },
		func(tx store.Tx) error { return fill(tx, "big-2", 400_000) },
		func(store.Tx) error { return errOwn },
	)
	wantErr(t, "a big one", errs[0], store.ErrFull)
	wantErr(t, "another big one", errs[1], store.ErrFull)
	wantErr(t, "one that fails by itself", errs[2], errOwn)
	checkFill(t, s, promised)
	grow()
	within(t, "writing with space again", func() {
		for i := range 20 {
			key := fmt.Sprintf("after-%d", i)
			if err := s.Write(t.Context(), func(tx store.Tx) error { return fill(tx, key, 40_000) }); err != nil {
				t.Errorf("writing with space again: %v", err)
			}
			promised = append(promised, key)
		}
	})
	checkFill(t, s, promised)
}

// fill files a job and an answer of some size.
func fill(tx store.Tx, key string, size int) error {
	j, err := file(tx, func(j *store.Job) { j.Name = key })
	if err != nil {
		return err
	}
	body := slices.Repeat([]byte(j.ID), size/len(j.ID)) // random enough not to be compressed away
	for i := range body {
		body[i] = byte((i*i*31 + i*7 + len(key)) >> 3)
	}
	return tx.KeepAnswer("fill", key, store.Answer{Status: 201, Body: body, Created: day})
}

func checkFill(t *testing.T, s store.Store, promised []string) {
	t.Helper()
	all := events(t, s)
	if len(all) != len(promised) {
		t.Errorf("got %d events, want those of the %d promised", len(all), len(promised))
	}
	read(t, s, func(r store.Reader) error {
		list, err := r.Jobs(store.JobFilter{Limit: 1000})
		if err != nil {
			return err
		}
		if len(list) != min(len(promised), 1000) {
			t.Errorf("got %d jobs, want %d", len(list), len(promised))
		}
		for _, key := range promised {
			if _, err := r.Idempotent("fill", key); err != nil {
				t.Errorf("the promised answer %s: %v", key, err)
			}
		}
		for _, key := range []string{"big-1", "big-2"} {
			_, err := r.Idempotent("fill", key)
			wantErr(t, "the refused answer "+key, err, store.ErrNotFound)
		}
		return nil
	})
}
