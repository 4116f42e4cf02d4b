package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// patience is how long a campaign waits for what must come once everything is
// healed. Only what is broken waits that long.
const patience = 15 * time.Minute

// campaign is one deployment and one account under fire.
type campaign struct {
	t        *testing.T
	name     string // of the batch system's driver
	many     int    // jobs of the whole campaign
	plan     plan
	d        *deployment   // as its users see it: through the proxy
	servers  []*deployment // the replicas
	l        *login
	front    *faultProxy
	batch    *bed
	database *bed   // nil with SQLite
	open     string // a folder that everybody can read and no fault reaches
	markers  string
	codes    []string
	disk     string // with the account's home
	store    string // with the server's files
	programs string // of their own: with clocks that can be stepped, and for failpoints
	shim     string // says what the submit command does

	mu     sync.Mutex
	asked  []*asked
	made   []request // what was handed in
	owed   []request // what is handed in again
	hits   []*hit
	busy   map[string]bool       // faults that last
	living *process              // the agent
	ran    map[string][]*process // servers and agents that ever ran
}

// TestFaultCampaign lets users hand in, cancel, hold, release and retry jobs
// while all that can break breaks, heals everything, waits until every job has
// ended, and has test/chaoscheck judge what is left. `make chaos` runs it with
// SEED and N.
func TestFaultCampaign(t *testing.T) {
	t.Parallel()
	seed, jobs := number(t, "HPCSERA_CHAOS_SEED", 1), number(t, "HPCSERA_CHAOS_JOBS", 60)
	folder, err := filepath.Abs(fmt.Sprintf("../test/artifacts/chaos-%d", seed))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	var folders []string
	programs := build(t, int(jobs))
	t.Run("systems", func(t *testing.T) {
		for i, name := range []string{"slurm", "sge"} {
			own := filepath.Join(folder, name)
			folders = append(folders, own)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				// Which database stands behind which batch system, the seed says.
				c := newCampaign(t, seed, name, (int(seed)+i)%2 == 0, programs, int(jobs), (int(jobs)+1-i)/2)
				c.run()
				c.collect(own)
			})
		}
	})
	out, err := exec.Command("go", append([]string{"run", "../test/chaoscheck"}, folders...)...).CombinedOutput()
	fmt.Printf("| fault campaign, seed %d, %d jobs\n%s", seed, jobs, out)
	if err != nil {
		t.Errorf("the evidence in %s: %v\n%s", folder, err, out)
	}
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

func newCampaign(t *testing.T, seed uint64, name string, replicas bool, programs string, many, jobs int) *campaign {
	t.Helper()
	size := fmt.Sprintf("%dm", 128+jobs/2)
	c := &campaign{t: t, name: name, many: many, busy: map[string]bool{}, ran: map[string][]*process{}, disk: smallDisk(t, size), store: smallDisk(t, size)}
	c.open = openDir(t)
	c.markers = filepath.Join(c.open, "markers")
	write(t, c.markers, "", 0o666)
	if err := os.Chmod(c.markers, 0o666); err != nil {
		t.Fatal(err)
	}
	c.front = newFaultProxy(t, seed)
	c.programs = filepath.Join(c.open, "programs")
	if out, err := exec.Command("cp", "-a", programs, c.programs).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	c.serve(replicas)
	c.enrol()
	var kinds []fault
	for _, f := range faults {
		if f.fits == nil || f.fits(c) {
			kinds = append(kinds, f)
		}
	}
	c.plan = draw(seed, name, jobs, kinds)
	return c
}

// build makes the programs of a campaign, once for all systems. That of the
// server takes a minute more.
func build(t *testing.T, jobs int) string {
	t.Helper()
	dir := openDir(t)
	withClock(t, dir, "hpcsera-agent")
	if jobs >= manyJobs {
		withClock(t, dir, "hpcserad")
	}
	return dir
}

// serve starts the server: one on SQLite, or two replicas on PostgreSQL.
func (c *campaign) serve(replicas bool) {
	t, url := c.t, ""
	if replicas {
		c.database = newBed(t, "postgres")
		url = c.database.value("HPCSERA_TEST_POSTGRES")
	}
	addr := freeAddress(t)
	c.front.front(addr)
	c.d = deployAt(t, addr, c.front.url, filepath.Join(c.store, "data"), url, "")
	if large(c) {
		c.d.stopServer()
		c.d.program, c.d.extra = filepath.Join(c.programs, "hpcserad"), []string{"HPCSERA_CLOCK=" + c.clock("server")}
		c.d.startServer("")
	}
	c.servers = []*deployment{c.d}
	if replicas {
		c.servers = append(c.servers, c.d.replica(t))
		c.front.front(c.servers[1].addr)
	}
	for _, s := range c.servers {
		c.ran["server"] = append(c.ran["server"], s.process())
	}
}

// enrol makes the account.
func (c *campaign) enrol() {
	t := c.t
	command := "sbatch"
	if c.name == "slurm" {
		c.batch = newBed(t, "slurm", "--dbd", "--nodes", "2", "--min-job-age", "5")
	} else {
		command, c.batch = "qsub", newBed(t, "gridengine")
	}
	c.shim = filepath.Join(c.open, "shim")
	path := filepath.Join(c.open, command)
	write(t, path, shim(c.shim, command), 0o755)
	as := aliceOf(t)
	c.l = newLoginAs(t, c.d, "lab", c.name, c.disk, as, c.batch.env, "submit_timeout: 5s", "query_timeout: 10s",
		fmt.Sprintf("commands: {%s: %s}", command, path))
	c.signCodes()
}

// run lets the users and the storm loose, and heals.
func (c *campaign) run() {
	c.startAgent()
	var both sync.WaitGroup
	both.Go(func() {
		for n, w := range c.plan.wishes {
			time.Sleep(w.after)
			c.fulfil(n, w)
		}
	})
	both.Go(c.storm)
	both.Wait()
	c.wait()
}

// storm strikes blow by blow; each is healed after its time, whatever else goes on.
func (c *campaign) storm() {
	var healers sync.WaitGroup
	for _, b := range c.plan.blows {
		time.Sleep(b.after)
		if !c.begin(b.kind) {
			continue // it lasts still
		}
		h := &hit{Kind: b.kind, From: time.Now()}
		mend := faultOf(b.kind).strike(c, b, h)
		if mend == nil {
			c.end(b.kind)
			continue // nothing was there to be hit
		}
		c.mu.Lock()
		c.hits = append(c.hits, h)
		c.mu.Unlock()
		healers.Go(func() {
			time.Sleep(b.lasts)
			mend()
			c.mu.Lock()
			h.To = time.Now()
			c.mu.Unlock()
			c.end(b.kind)
		})
	}
	healers.Wait()
}

// begin reports whether nothing of the same thing is broken: two faults of it
// would mend each other.
func (c *campaign) begin(kind string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[thing(kind)] {
		return false
	}
	c.busy[thing(kind)] = true
	return true
}

// thing is what a kind of fault breaks: its first word. Controller and nodes
// are one, since neither comes up without the other.
func thing(kind string) string {
	word, _, _ := strings.Cut(kind, " ")
	if word == "node" {
		return "controller"
	}
	return word
}

func (c *campaign) end(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.busy, thing(kind))
}

// heal leaves nothing broken but what was lost.
func (c *campaign) heal() {
	c.front.change(func(w *weather) { *w = weather{} })
	for _, s := range c.servers {
		c.revive(s)
	}
	c.batch.resume()
	c.keepAgent()
}

// wait lets everything come to its end: what is held is released, and what
// never ends by itself is cancelled.
func (c *campaign) wait() {
	begun, told := time.Now(), time.Now()
	for time.Since(begun) < patience {
		time.Sleep(2 * time.Second)
		c.heal()
		c.repeat()
		open, tell := 0, time.Since(told) > 2*time.Minute
		if tell {
			told = time.Now()
		}
		for _, j := range c.jobs() {
			if j.State.Final() {
				continue
			}
			open++
			if tell {
				c.t.Logf("after %v still open: %+v", time.Since(begun).Round(time.Second), j)
			}
			a := c.known(j.ID)
			switch {
			case a == nil:
			case a.Endless && !a.Cancelled:
				c.want("cancel", a)
			case j.Desired == hpcsera.DesiredHold && !a.Cancelled:
				c.want("release", a)
			}
		}
		if open == 0 {
			return
		}
	}
	c.t.Logf("not all jobs have ended after %v; the agent:\n%s", patience, c.living.log)
}

func (c *campaign) known(id string) *asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.asked {
		if a.Job == id {
			return a
		}
	}
	return nil
}

// startAgent starts the agent's daemon.
func (c *campaign) startAgent() *process {
	p := startCommand(c.t, c.l.as, append(c.l.env, "HPCSERA_CLOCK="+c.clock("agent")), filepath.Join(c.programs, "hpcsera-agent"), "run")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.living = p
	c.ran["agent"] = append(c.ran["agent"], p)
	return p
}

// keepAgent starts the agent where none lives, as its user does.
func (c *campaign) keepAgent() {
	c.mu.Lock()
	dead := c.living == nil || c.living.dead()
	c.mu.Unlock()
	if dead {
		c.startAgent()
	}
}

func (c *campaign) current() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.living
}
