package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

// restoreFaults put the server back to what it was some seconds ago: with the
// command for it, and by hand, which nobody tells it.
var restoreFaults = []fault{
	{"server restored from a backup", 8, restorable, func(c *campaign, _ blow, _ *hit) func() {
		folder := c.backup()
		if folder == "" {
			return nil
		}
		return func() {
			c.d.kill()
			if err := c.operator("restore", folder, "--force"); err != nil {
				c.t.Error(err)
			}
			c.revive(c.d)
			c.renewToken()
			c.again()
		}
	}},
	{"server put back by hand", 8, restorable, func(c *campaign, _ blow, _ *hit) func() {
		folder := c.backup()
		if folder == "" {
			return nil
		}
		return func() {
			c.d.kill()
			database := filepath.Join(c.d.data, "hpcsera.db")
			script := `rm -f "$2-wal" "$2-shm"; cp "$1/hpcsera.db" "$2"`
			if out, err := exec.Command("sh", "-ec", script, "sh", folder, database).CombinedOutput(); err != nil {
				c.t.Errorf("%s: %v %s", script, err, out)
			}
			c.revive(c.d)
			c.again()
		}
	}},
}

// restorable: PostgreSQL is put back by its own programs.
func restorable(c *campaign) bool { return c.database == nil }

// operator runs an operator's command.
func (c *campaign) operator(args ...string) error {
	out, err := exec.Command(c.d.hpcserad(), append(args, "--config", c.d.config)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("hpcserad %v: %w: %s", args, err, out)
	}
	return nil
}

// backup makes a backup of the running server; "" where it does not answer.
func (c *campaign) backup() string {
	folder := filepath.Join(c.store, fmt.Sprintf("backup-%d", time.Now().UnixNano()))
	if err := c.operator("backup", folder); err != nil {
		c.t.Log(err)
		return ""
	}
	return folder
}

// renewToken makes the users another token: a restore revokes all.
func (c *campaign) renewToken() {
	var token string
	for deadline := time.Now().Add(patience); token == "" && time.Now().Before(deadline); time.Sleep(time.Second) {
		out, err := exec.Command(c.d.hpcserad(), "token", "create", "--user", "alice", "--project", "cfd", "--client", "ci",
			"--roles", "1,2,4,5,6,7,8", "--config", c.d.config).Output()
		if err == nil { // it may be starting, or its disk be full
			token = secretIn(c.t, string(out))
		}
	}
	c.d.setToken(token)
}

// again has the users do again what they did: what they handed in may be gone,
// and so may a cancel.
func (c *campaign) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.owed = append([]request(nil), c.made...)
	for _, a := range c.asked {
		if a.Cancelled {
			c.owed = append(c.owed, request{"DELETE", "/jobs/" + a.Job, nil, ""})
		}
	}
}

// request is one that a user makes again after a restore.
type request struct {
	method, path string
	in           any
	key          string
}

// repeat makes the requests again that are owed. A retry waits until the server
// knows again that the job has ended.
func (c *campaign) repeat() {
	c.mu.Lock()
	owed := c.owed
	c.owed = nil
	c.mu.Unlock()
	for _, r := range owed {
		var header []string
		if r.key != "" {
			header = []string{"Idempotency-Key", r.key}
		}
		if status, _ := c.ask(r.method, r.path, r.in, header...); status/100 != 2 {
			c.mu.Lock()
			c.owed = append(c.owed, r)
			c.mu.Unlock()
		}
	}
}
