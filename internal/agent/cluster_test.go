package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// cluster behaves as a batch system does: a queue, jobs that run the wrapper,
// answers that may be late, old or missing. Its jobs take claims and write
// records with the same spool that the real wrapper uses.
type cluster struct {
	w      *world
	system string
	ctx    context.Context
	cancel context.CancelFunc
	lives  sync.WaitGroup

	mu       sync.Mutex
	jobs     []*batchJob
	ids      int
	out      bool // the controller is down
	acts     int
	calls    int // of the submit command
	queries  int
	probes   int // that asked what the site offers
	largest  int // array; 0 is not told
	faults   clusterFaults
	programs map[string]program // by job; what is missing is drawn
}

// clusterFaults are one in so many; 0 is never.
type clusterFaults struct {
	hang       int    // submit: no answer until its deadline; the job is queued later, or never
	queueError int    // submit: queued, and an error is said
	error      int    // submit: an error, and nothing is queued
	throttle   int    // submit: certainly not now
	refuse     int    // submit: never
	words      string // with it
	status     int    // an answer fails, whole or in part
	act        int    // an action fails
	bell       int    // a doorbell is lost
	kill       int    // the wrapper is killed at one of its steps
	requeue    int    // a running job is queued again
	lose       int    // the controller forgets a queued job
	lag        time.Duration
	queue      time.Duration // how long jobs wait at most
	run        time.Duration // how long programs run at most
	memory     time.Duration // how long ended jobs are known
}

func newCluster(w *world, system string) *cluster {
	c := &cluster{
		w: w, system: system, programs: map[string]program{}, ids: 100,
		faults: clusterFaults{queue: 5 * time.Second, run: 10 * time.Second, memory: 10 * time.Minute},
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *cluster) close() {
	c.cancel()
	c.lives.Wait()
}

// tuned returns the faults as they are now; tune changes them.
func (c *cluster) tuned() clusterFaults {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults
}

func (c *cluster) tune(change func(*clusterFaults)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.faults)
}

// fail takes the controller down, or up again.
func (c *cluster) fail(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w.say("%s: down %v", c.system, down)
	c.out = down
}

// pause lets time pass; false when the world ends.
func (c *cluster) pause(d time.Duration) bool {
	sleep(c.ctx, d)
	return c.ctx.Err() == nil
}

// handle is the cluster as one instance uses it.
type handle struct {
	*cluster
	i *instance
}

func (c *cluster) System() string { return c.system }

func (c *cluster) SubmitDelay() time.Duration { return 0 }

func (c *cluster) Environment() scheduler.Environment {
	return scheduler.Environment{ID: []string{"JOB_ID"}, Index: "INDEX"}
}

func (c *cluster) Probe(context.Context) (hpcsera.Facts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probes++
	return hpcsera.Facts{System: c.system, Version: "22.05", LargestArray: c.largest}, nil
}

var errClient = errors.New("killed")

// Submit is a call of the submit command. A call of a dead process never
// happened; one that a process made before it died may go on without it.
func (h *handle) Submit(_ context.Context, sub scheduler.Submission) ([]scheduler.Ref, error) {
	c, w := h.cluster, h.w
	if h.i.dead.Load() {
		return nil, errClient
	}
	if since := time.Since(time.Unix(0, h.i.answered.Load())); since > trusted+2*time.Second {
		w.broken("instance %d submits %s, and the server answered it %v ago", h.i.number, sub.Tag, since)
	}
	read, err := w.spool.Submission(sub.Tag)
	if err != nil || len(read.Members) != sub.Size {
		w.broken("submission %s: %v", sub.Tag, err)
		return nil, err
	}
	c.mu.Lock()
	c.calls++
	f := c.faults
	out := c.out
	c.mu.Unlock()
	for _, m := range read.Members {
		w.say("submit %s: job %s step %d start %d", sub.Tag, m.Job, m.Step, m.N)
	}
	late := func(d time.Duration) {
		orphan := w.chance(2) // the command outlives the agent that started it
		time.AfterFunc(d, func() {
			if !h.i.dead.Load() || orphan {
				c.enqueue(sub)
			}
		})
	}
	switch {
	case out || w.chance(f.error):
		c.pause(w.within(5 * time.Second))
		return nil, errors.New("socket timed out")
	case w.chance(f.hang):
		if w.chance(2) {
			late(55*time.Second + w.within(40*time.Second))
		}
		c.pause(time.Minute)
		return nil, errors.New("no answer within 1m0s")
	case w.chance(f.queueError):
		late(w.within(10 * time.Second))
		c.pause(w.within(5 * time.Second))
		return nil, errors.New("socket timed out")
	case w.chance(f.throttle):
		return nil, &scheduler.Refused{Message: "QOSMaxSubmitJobPerUserLimit", Throttled: true}
	case w.chance(f.refuse):
		w.say("submit %s is refused", sub.Tag)
		return nil, &scheduler.Refused{Message: "invalid partition" + f.words}
	}
	c.pause(w.within(300 * time.Millisecond))
	if h.i.dead.Load() && w.chance(2) {
		return nil, errClient
	}
	refs := c.enqueue(sub)
	c.pause(w.within(2 * time.Second))
	return refs, nil
}

func (c *cluster) enqueue(sub scheduler.Submission) (refs []scheduler.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil
	}
	c.ids++
	for i := range sub.Size {
		id := strconv.Itoa(c.ids)
		if sub.Size > 1 {
			id = fmt.Sprintf("%d_%d", c.ids, i)
		}
		j := &batchJob{id: id, tag: sub.Tag, member: i, requeue: sub.Requeue, submitted: time.Now(), cluster: c, poke: make(chan struct{}, 1)}
		c.w.say("submission %s is queued as %s", sub.Tag, j.id)
		j.set(scheduler.PhaseQueued, "PENDING", "", nil)
		c.jobs = append(c.jobs, j)
		c.lives.Go(func() { j.live() })
		refs = append(refs, scheduler.Ref{ID: j.id, Tag: sub.Tag, Member: i})
	}
	return refs
}

func (h *handle) Statuses(ctx context.Context, refs []scheduler.Ref) (map[scheduler.Ref]scheduler.Status, error) {
	c, w := h.cluster, h.w
	found := map[scheduler.Ref]scheduler.Status{}
	if h.i.dead.Load() {
		return nil, errClient
	}
	c.mu.Lock()
	c.queries++
	f, out := c.faults, c.out
	c.mu.Unlock()
	if out {
		return nil, errors.New("unable to contact the controller")
	}
	at := time.Now().Add(-w.within(f.lag))
	fails := w.chance(f.status)
	if fails && w.chance(3) {
		sleep(ctx, 30*time.Second)
		return nil, errors.New("no answer within 30s")
	}
	c.mu.Lock()
	for _, ref := range refs {
		for _, j := range c.jobs {
			if status, known := j.as(at); known && !j.lost && ref.Is(status.Ref) && !(fails && len(found)%2 == 0) {
				found[ref] = status
			}
		}
	}
	c.mu.Unlock()
	sleep(ctx, w.within(time.Second))
	switch {
	case fails && w.chance(2):
		return found, errors.New("the history does not answer")
	case fails:
		return nil, errors.New("socket timed out")
	}
	return found, nil
}

func (h *handle) Act(ctx context.Context, action scheduler.Action, refs []scheduler.Ref) error {
	c, w := h.cluster, h.w
	if h.i.dead.Load() {
		return errClient
	}
	sleep(ctx, w.within(time.Second))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acts++
	if c.out || w.chance(c.faults.act) {
		return errors.New("socket timed out")
	}
	for _, ref := range refs {
		for _, j := range c.jobs {
			if j.lost || !ref.Is(j.now.Ref) || j.now.Phase == scheduler.PhaseEnded {
				continue
			}
			w.say("%s batch job %s", action, j.id)
			switch {
			case action == scheduler.Cancel:
				j.cancelled = true
			case action == scheduler.Hold && j.now.Phase == scheduler.PhaseQueued:
				j.held = true
				j.set(scheduler.PhaseHeld, "PENDING", "", nil)
			case action == scheduler.Release && j.now.Phase == scheduler.PhaseHeld:
				j.held = false
				j.set(scheduler.PhaseQueued, "PENDING", "", nil)
			}
			j.wake()
		}
	}
	return nil
}
