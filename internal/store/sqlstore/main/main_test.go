package sqlstore

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/storetest"
)

// victim is the environment variable that makes this test binary the process
// that the kill test kills.
const victim = "HPCSERA_STORETEST_VICTIM"

func TestMain(m *testing.M) {
	if url := os.Getenv(victim); url != "" {
		s, err := Open(context.Background(), url, slog.New(slog.DiscardHandler))
		if err == nil {
			err = storetest.WriteForever(s, os.Stdout)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func victimOf(url string) func(t *testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), victim+"="+url)
		return cmd
	}
}

func opener(url string) func(t *testing.T) store.Store {
	return func(t *testing.T) store.Store { return open(t, url) }
}

// open opens a store that the test closes.
func open(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(context.Background(), url, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}
