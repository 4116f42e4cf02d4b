package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// hit is a fault that struck: see test/chaoscheck.
type hit struct {
	Kind string    `json:"kind"`
	Job  string    `json:"job"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// jobs lists all jobs as the API tells them.
func (c *campaign) jobs() []hpcsera.Job {
	var all []hpcsera.Job
	for cursor := ""; ; {
		var page struct {
			Jobs []hpcsera.Job
			Next string
		}
		c.get("/jobs?limit=200&cursor="+cursor, &page)
		all = append(all, page.Jobs...)
		if cursor = page.Next; cursor == "" {
			return all
		}
	}
}

func (c *campaign) get(path string, into any) {
	status, text := c.ask("GET", path, nil)
	if status != http.StatusOK {
		c.t.Errorf("GET %s: %d %s", path, status, text)
		return
	}
	if err := json.Unmarshal(text, into); err != nil {
		c.t.Errorf("GET %s: %v in %s", path, err, text)
	}
}

// collect writes down what there is to know, in the words of those who know it.
func (c *campaign) collect(folder string) {
	if err := os.MkdirAll(filepath.Join(folder, "artifacts"), 0o755); err != nil {
		c.t.Fatal(err)
	}
	put := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			c.t.Error(err)
		}
	}
	whole := func(name string, content any) {
		text, err := json.MarshalIndent(content, "", " ")
		if err != nil {
			c.t.Error(err)
		}
		put(name, text)
	}
	c.quiet()
	whole("jobs.json", c.artifacts(put))
	whole("events.json", c.events())
	whole("asked.json", c.asked)
	for name, n := range c.front.injured {
		for range n {
			c.hits = append(c.hits, &hit{Kind: name})
		}
	}
	whole("hits.json", c.hits)
	markers := read(c.t, c.markers)
	put("markers", []byte(markers))
	name, accounting := c.recorded(markers)
	put(name, accounting)
	for program, list := range c.ran {
		for i, p := range list {
			put(fmt.Sprintf("%s-%02d.log", program, i), []byte(p.log.String()))
		}
	}
}

// artifacts fetches every artifact and returns the jobs.
func (c *campaign) artifacts(put func(string, []byte)) []json.RawMessage {
	var raw []json.RawMessage
	for _, j := range c.jobs() {
		status, text := c.ask("GET", "/jobs/"+j.ID, nil)
		if status != http.StatusOK {
			c.t.Errorf("GET job %s: %d %s", j.ID, status, text)
		}
		raw = append(raw, text)
		if j.State != hpcsera.Succeeded {
			continue
		}
		status, text = c.ask("GET", "/jobs/"+j.ID+"/artifacts/result.txt", nil)
		if status == http.StatusOK {
			put("artifacts/"+j.ID, text)
		}
	}
	return raw
}

func (c *campaign) events() []json.RawMessage {
	var all []json.RawMessage
	for after := int64(0); ; {
		var page struct{ Events []json.RawMessage }
		c.get(fmt.Sprintf("/events?limit=1000&after=%d", after), &page)
		if len(page.Events) == 0 {
			return all
		}
		all = append(all, page.Events...)
		var last struct{ Seq int64 }
		if err := json.Unmarshal(page.Events[len(page.Events)-1], &last); err != nil || last.Seq <= after {
			c.t.Errorf("events after %d end with %s: %v", after, page.Events[len(page.Events)-1], err)
			return all
		}
		after = last.Seq
	}
}

// quiet waits until nothing stands in the batch system that could still run.
func (c *campaign) quiet() {
	var left string
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		if left = c.queue(); left == "" {
			return
		}
	}
	c.t.Logf("left in the queue:\n%s", left)
}

// recorded waits until the accounting knows all that ran.
func (c *campaign) recorded(markers string) (name string, text []byte) {
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		if name, text, err = c.batch.accounting(); err == nil && knowsAll(string(text), markers, name) {
			break
		}
	}
	if err != nil {
		c.t.Error(err)
	}
	return name, text
}

func knowsAll(accounting, markers, name string) bool {
	separator := map[string]string{"accounting.slurm": "|", "accounting.sge": ":"}[name]
	for _, line := range strings.Split(markers, "\n") {
		if f := strings.Fields(line); len(f) > 6 && !strings.Contains(accounting, separator+f[5]+separator) {
			return false
		}
	}
	return true
}

// queue is what stands in the batch system.
func (c *campaign) queue() string {
	argv := []string{"squeue", "--noheader", "--array", "--format=%i %j %T %r"}
	if c.name == "sge" {
		argv = []string{"/usr/lib/gridengine/qstat", "-u", "*"}
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), c.batch.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}
