package e2e

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// postgres makes an empty database on the test bed's PostgreSQL and returns
// its URL. Without that PostgreSQL the test fails.
func postgres(t *testing.T) string {
	t.Helper()
	server := os.Getenv("HPCSERA_TEST_POSTGRES")
	if server == "" {
		t.Fatal("HPCSERA_TEST_POSTGRES is not set: start the test bed and take over what it prints, as `make test` does: eval \"$(test/testbed/postgres up)\"")
	}
	name := fmt.Sprintf("e2e_%d_%s", os.Getpid(), strings.ReplaceAll(hpcsera.NewID("db"), "_", ""))
	psql := func(statement string) error {
		out, err := exec.Command("psql", server, "--quiet", "--command", statement).CombinedOutput()
		if err != nil {
			return fmt.Errorf("psql: %w: %s", err, out)
		}
		return nil
	}
	if err := psql("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := psql("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

// TestMainJobOnPostgreSQL shows the main job, a lost commit answer and a
// restart on the other database.
func TestMainJobOnPostgreSQL(t *testing.T) {
	t.Parallel()
	t.Run("undisturbed", func(t *testing.T) {
		t.Parallel()
		d := newDeployment(t, postgres(t), "")
		l := newLogin(t, d, "slurm")
		l.startAgent(t, "")
		id := l.submit(t, l.approve(t, manifest("pg", marking("echo hello"))))
		j := d.await(id, 60*time.Second)
		if got := d.get("/jobs/" + id + "/logs/stdout"); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 || got != "hello\n" {
			t.Errorf("job is %s (%s: %s), ran %d times and printed %q, want succeeded, once, hello", j.State, j.Reason, j.Message, l.runs(t, id), got)
		}
	})
	for _, p := range postgresCommits {
		for _, when := range []string{"before", "after"} {
			at := "server." + when + "-commit." + p.at
			t.Run(at, func(t *testing.T) {
				t.Parallel()
				d := newDeployment(t, postgres(t), "")
				killServerDuring(t, d, newLogin(t, d, "slurm"), killPoint{onPostgres(commitName(when, p.name)), at, p.later})
			})
		}
	}
}
