package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// proxy stands between the store and the server and breaks connections.
type proxy struct {
	network, address string // of the server

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
	// cut breaks the connection over which word is sent next: before the server
	// gets it, or after it has answered.
	word        []byte
	afterAnswer bool
}

// through returns the URL of a database as seen through a new proxy.
func through(t *testing.T, databaseURL string) (*proxy, string) {
	t.Helper()
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{conns: map[net.Conn]bool{}}
	p.network, p.address = pgconn.NetworkAddress(config.Host, config.Port)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		p.setDown(true)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = l.Addr().String()
	q := u.Query()
	q.Del("host")
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	return p, u.String()
}

// setDown ends all connections and refuses new ones.
func (p *proxy) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	for c := range p.conns {
		c.Close()
	}
}

// cut breaks the connection that sends word next.
func (p *proxy) cut(word string, afterAnswer bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.word, p.afterAnswer = []byte(word), afterAnswer
}

// armed reports whether cut has not happened yet.
func (p *proxy) armed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.word != nil
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial(p.network, p.address)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	if p.down {
		p.mu.Unlock()
		return
	}
	p.conns[client] = true
	p.mu.Unlock()
	mute := make(chan struct{}) // the server's answers are dropped from now on
	go p.answers(client, server, mute)
	buffer := make([]byte, 1<<20)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		hit, after := p.word != nil && bytes.Contains(buffer[:n], p.word), p.afterAnswer
		if hit {
			p.word = nil
		}
		p.mu.Unlock()
		if hit && !after {
			return
		}
		if hit {
			close(mute)
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// answers carries the server's answers. Once muted, the next one is swallowed
// and the connection ends.
func (p *proxy) answers(client, server net.Conn, mute <-chan struct{}) {
	defer client.Close()
	buffer := make([]byte, 1<<20)
	for {
		n, err := server.Read(buffer)
		select {
		case <-mute:
			return
		default:
		}
		if err != nil {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func fileOne(tx store.Tx) (string, error) {
	seq, err := tx.NextSeq()
	if err != nil {
		return "", err
	}
	j := benchJob(seq)
	return j.ID, errors.Join(tx.InsertJobs([]*store.Job{j}), tx.Append(benchChange(j)))
}

// exists reads through s until the answer is known.
func exists(t *testing.T, s *Store, id string) bool {
	t.Helper()
	err := s.Read(t.Context(), func(r store.Reader) error {
		_, err := r.Job(id)
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Read: %v", err)
	}
	return err == nil
}

// Both ways of losing the answer to a COMMIT look the same, so both are told
// as unknown; the feed and the next write go by what really happened.
func TestPostgresLostCommit(t *testing.T) {
	for name, applied := range map[string]bool{"applied": true, "not applied": false} {
		t.Run(name, func(t *testing.T) {
			p, url := through(t, newSchema(t))
			s := open(t, url)
			sub := s.Feed().Subscribe(func(*store.Change) bool { return true })
			defer sub.Close()
			var lost, later string
			p.cut("; COMMIT", applied)
			err := s.Write(t.Context(), func(tx store.Tx) (err error) {
				lost, err = fileOne(tx)
				return err
			})
			if got := hpcsera.CodeOf(err); got != hpcsera.Unavailable {
				t.Fatalf("a lost answer: got %q (%v), want %q", got, err, hpcsera.Unavailable)
			}
			if p.armed() {
				t.Fatal("the connection was not cut")
			}
			if got := exists(t, s, lost); got != applied {
				t.Errorf("the job exists: %v, want %v", got, applied)
			}
			err = s.Write(t.Context(), func(tx store.Tx) (err error) {
				later, err = fileOne(tx)
				return err
			})
			if err != nil {
				t.Fatalf("the next Write: %v", err)
			}
			want := []string{later}
			if applied {
				want = []string{lost, later}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var got []string
			for len(got) < len(want) {
				changes, _ := sub.Wait(ctx)
				if len(changes) == 0 {
					t.Fatalf("the feed has %v, want %v", got, want)
				}
				for _, c := range changes {
					got = append(got, c.Job)
				}
			}
			for i := range want {
				if len(got) != len(want) || got[i] != want[i] {
					t.Fatalf("the feed has %v, want %v", got, want)
				}
			}
		})
	}
}

// Nothing is unknown before the COMMIT is sent, so the closures run again and
// their callers notice nothing.
func TestPostgresConnectionLostBeforeCommit(t *testing.T) {
	for _, word := range []string{"INSERT INTO jobs", "INSERT INTO events", "LockCounter", "SetCounter", "BEGIN ISOLATION LEVEL READ COMMITTED"} {
		t.Run(word, func(t *testing.T) {
			p, url := through(t, newSchema(t))
			s := open(t, url)
			p.cut(word, false)
			runs, id := 0, ""
			err := s.Write(t.Context(), func(tx store.Tx) (err error) {
				runs++
				id, err = fileOne(tx)
				return err
			})
			if err != nil {
				t.Fatalf("Write: %v", err)
			}
			if p.armed() {
				t.Fatal("the connection was not cut")
			}
			if !exists(t, s, id) {
				t.Errorf("the job of the last of %d runs is missing", runs)
			}
			var n int
			err = s.Read(t.Context(), func(r store.Reader) error {
				list, err := r.Jobs(store.JobFilter{})
				n = len(list)
				return err
			})
			if err != nil || n != 1 {
				t.Errorf("got %d jobs (%v), want 1", n, err)
			}
		})
	}
}

func TestPostgresOutageEnds(t *testing.T) {
	p, url := through(t, newSchema(t))
	s := open(t, url)
	write := func() error {
		return s.Write(t.Context(), func(tx store.Tx) error {
			_, err := fileOne(tx)
			return err
		})
	}
	look := func() error {
		return s.Read(t.Context(), func(r store.Reader) error {
			_, err := r.Jobs(store.JobFilter{})
			return err
		})
	}
	if err := errors.Join(write(), look()); err != nil {
		t.Fatal(err)
	}
	p.setDown(true)
	for what, err := range map[string]error{"Write": write(), "Read": look()} {
		if got := hpcsera.CodeOf(err); got != hpcsera.Unavailable {
			t.Errorf("%s during an outage: got %q (%v), want %q", what, got, err, hpcsera.Unavailable)
		}
	}
	p.setDown(false)
	if err := errors.Join(write(), look()); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

// A replica that has heard nothing of the others' commits reads them before it
// publishes its own.
func TestPostgresFeedHasNoGap(t *testing.T) {
	url := newSchema(t)
	a, b := open(t, url), open(t, url)
	a.stop() // a neither polls nor listens any more
	sub := a.Feed().Subscribe(func(*store.Change) bool { return true })
	defer sub.Close()
	var want []string
	for _, s := range []*Store{b, b, a, b, a, a} {
		err := s.Write(t.Context(), func(tx store.Tx) error {
			id, err := fileOne(tx)
			want = append(want, id)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for len(got) < len(want) {
		changes, _ := sub.Wait(ctx)
		if len(changes) == 0 {
			break
		}
		for _, c := range changes {
			got = append(got, c.Job)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the feed has %v, want %v", got, want)
	}
}

// A commit wakes the other replicas.
func TestPostgresNotifiesOthers(t *testing.T) {
	url := newSchema(t)
	a, b := open(t, url), open(t, url)
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	life, cancel := context.WithCancel(context.Background())
	wake, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		listen(life, config, a.feed.self, wake, a.log)
	}()
	defer func() { cancel(); <-ended }()
	for heard := false; !heard; { // again, until the listener is there
		if err := b.Write(t.Context(), func(tx store.Tx) error { _, err := fileOne(tx); return err }); err != nil {
			t.Fatal(err)
		}
		select {
		case <-wake:
			heard = true
		case <-time.After(50 * time.Millisecond):
			if t.Context().Err() != nil {
				t.Fatal("no notification came")
			}
		}
	}
}

// Where no notification comes, polling finds the others' commits.
func TestPostgresPolls(t *testing.T) {
	url := newSchema(t)
	a, b := open(t, url), open(t, url)
	a.stop()
	sub := a.Feed().Subscribe(func(*store.Change) bool { return true })
	defer sub.Close()
	var want string
	if err := b.Write(t.Context(), func(tx store.Tx) (err error) { want, err = fileOne(tx); return err }); err != nil {
		t.Fatal(err)
	}
	life, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.poll(life, nil)
	}()
	defer func() { cancel(); <-ended }()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if changes, _ := sub.Wait(ctx); len(changes) != 1 || changes[0].Job != want {
		t.Errorf("the feed has %v, want the change of %s", changes, want)
	}
}

// A replica that dies in a transaction keeps the counter's lock, and the
// others from writing, for a bounded time.
func TestPostgresEndsForgottenTransactions(t *testing.T) {
	s := open(t, newSchema(t))
	err := s.Write(t.Context(), func(w store.Tx) error {
		var got string
		if err := w.(*tx).db.QueryRowContext(t.Context(), "SHOW idle_in_transaction_session_timeout").Scan(&got); err != nil || got != "30s" {
			t.Errorf("the server waits %q (%v) for a silent writer, want 30s", got, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An operator who ends the server's sessions costs nobody anything.
func TestPostgresSessionsEnded(t *testing.T) {
	s := open(t, with(t, newSchema(t), "application_name", "victim"))
	db := admin(t)
	for range 3 {
		err := s.Write(t.Context(), func(tx store.Tx) error {
			_, err := fileOne(tx)
			return err
		})
		if err != nil {
			t.Errorf("Write: %v", err)
		}
		if err := s.Read(t.Context(), func(r store.Reader) error { _, err := r.LastSeq(); return err }); err != nil {
			t.Errorf("Read: %v", err)
		}
		run(t, db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'")
	}
}

func TestPostgresReplicasStartTogether(t *testing.T) {
	url := newSchema(t)
	errs := make(chan error)
	for range 4 {
		go func() {
			s, err := Open(context.Background(), url, slog.New(slog.DiscardHandler))
			if err == nil {
				err = s.Write(context.Background(), func(tx store.Tx) error {
					_, err := fileOne(tx)
					return err
				})
				err = errors.Join(err, s.Close())
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	s := open(t, url)
	if err := s.Read(t.Context(), func(r store.Reader) error {
		last, err := r.LastSeq()
		if last != 4 {
			t.Errorf("LastSeq is %d, want 4", last)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

func TestPostgresNeedsUTF8(t *testing.T) {
	db := admin(t)
	name := hpcsera.NewID("test")
	run(t, db, "CREATE DATABASE "+name+" ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
	t.Cleanup(func() { run(t, db, "DROP DATABASE "+name+" WITH (FORCE)") })
	u, err := url.Parse(server(t))
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	s, err := Open(t.Context(), u.String(), slog.New(slog.DiscardHandler))
	if got := hpcsera.CodeOf(err); got != hpcsera.Conflict {
		t.Errorf("got %q (%v), want %q", got, err, hpcsera.Conflict)
	}
	if err == nil {
		s.Close()
	}
}
