package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// TestARunningJobOutlivesTheServersDatabase puts the server back to a time when
// it did not know a job that runs now: by its own commands, and by hand, which
// nobody tells it.
func TestARunningJobOutlivesTheServersDatabase(t *testing.T) {
	t.Parallel()
	for name, replace := range map[string]func(*deployment) (restore func()){
		"by hpcserad restore": func(d *deployment) func() {
			folder := filepath.Join(d.dir, "backup")
			d.admin("backup", folder)
			return func() {
				d.admin("restore", folder, "--force")
			}
		},
		"by hand": func(d *deployment) func() {
			d.stopServer()
			older := map[string][]byte{}
			for _, file := range []string{"hpcsera.db", "auth.db"} {
				text, err := os.ReadFile(filepath.Join(d.data, file))
				if err != nil {
					d.t.Fatal(err)
				}
				older[file] = text
			}
			d.startServer("")
			return func() {
				for file, text := range older {
					for _, rest := range []string{"-wal", "-shm"} {
						_ = os.Remove(filepath.Join(d.data, file+rest))
					}
					if err := os.WriteFile(filepath.Join(d.data, file), text, 0o600); err != nil {
						d.t.Fatal(err)
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLogin(t, d, "slurm")
			l.startAgent(t, "")
			d.await(l.submit(t, l.approve(t, manifest("early", marking("exit 0")))), 60*time.Second)
			restore := replace(d)

			digest := l.approve(t, manifest("lasting", marking("echo first\nwhile [ ! -e go ]; do sleep 0.2; done\necho last")))
			id := l.submit(t, digest)
			ended := l.submit(t, l.approve(t, manifest("quick", marking("exit 3"))))
			d.await(id, 60*time.Second, hpcsera.Running)
			d.await(ended, 60*time.Second)
			d.stopServer()
			restore()
			d.startServer("")
			d.token = d.newToken("--roles", "1,2,4,5,6,7,8")
			// Within 90 s an instance of the old life might not know yet that it is over.
			known := func(job string) bool {
				res, _, err := d.try(http.MethodGet, "/jobs/"+job, nil, nil)
				return err == nil && res.StatusCode == http.StatusOK
			}
			eventually(t, 3*time.Minute, "the job is known again; the agent printed:\n"+l.agent.log.String(), func() bool { return known(id) && known(ended) })
			if j := d.job(ended); j.State != hpcsera.Failed || j.Exit == nil || j.Exit.Code != 3 {
				t.Errorf("the job that had ended is %s (%+v), want its end", j.State, j.Exit)
			}
			write(t, filepath.Join(l.jobDir(id), "go"), "", 0o644)
			j := d.await(id, 60*time.Second)
			if got := d.get("/jobs/" + id + "/logs/stdout"); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 || got != "first\nlast\n" || j.Code.Digest != digest {
				t.Errorf("job is %s (%s: %s), ran %d times and printed %q, want succeeded, once, first and last", j.State, j.Reason, j.Message, l.runs(t, id), got)
			}
			// What comes now is as ever, and what ran is not run again.
			next := l.submit(t, l.approve(t, manifest("next", marking("exit 0"))))
			if j := d.await(next, 60*time.Second); j.State != hpcsera.Succeeded || l.runs(t, ended) != 1 {
				t.Errorf("the next job is %s, and the ended one ran %d times", j.State, l.runs(t, ended))
			}
			if log := d.admin("audit", "export"); name == "by hand" && strings.Count(log, "database.older") != 1 {
				t.Errorf("the audit log says %d times that the database is an older one, want once", strings.Count(log, "database.older"))
			}
		})
	}
}
