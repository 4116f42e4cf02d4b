package agent

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// TestEveryJobEndsOnceWhateverHappens lets an agent live through storms: its
// processes are killed, stopped, cut off and replaced at any moment; server and
// batch system lose requests, answers and jobs; the server is put back from a
// backup; users cancel, hold and release.
// Each seed is another storm. HPCSERA_STORMS runs more of them, from
// HPCSERA_STORM on.
func TestEveryJobEndsOnceWhateverHappens(t *testing.T) {
	storms, first := 24, 1
	if n, err := strconv.Atoi(os.Getenv("HPCSERA_STORMS")); err == nil {
		storms = n
	}
	if n, err := strconv.Atoi(os.Getenv("HPCSERA_STORM")); err == nil {
		first = n
	}
	for seed := first; seed < first+storms; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, uint64(seed), func(t *testing.T, w *world) { (&storm{w: w}).blow() })
		})
	}
}

type storm struct {
	w      *world
	codes  []code
	runs   int // that each approval allows
	jobs   []string
	of     map[string]code
	cron   bool
	living *instance
	backup func() // restores it; nil while there is none
}

// weather draws how bad it will be.
func (s *storm) weather() {
	w := s.w
	rate := func(most int) int { return []int{0, 4, most, most * 4}[w.roll(4)] }
	w.server.faults = serverFaults{lostRequest: rate(10), lostAnswer: rate(10), refused: rate(10), slow: rate(5), cutLog: rate(5)}
	for _, c := range []*cluster{w.batch, w.login} {
		c.tune(func(f *clusterFaults) {
			*f = clusterFaults{
				hang: rate(5), queueError: rate(5), error: rate(5), throttle: rate(5), refuse: rate(30), status: rate(5), act: rate(5), bell: rate(3), kill: rate(20),
				requeue: rate(4), lose: rate(30), lag: []time.Duration{0, time.Second, 5 * time.Second}[w.roll(3)],
				queue: []time.Duration{time.Second, time.Minute, 5 * time.Minute}[w.roll(3)], run: []time.Duration{0, 5 * time.Second, time.Minute, 5 * time.Minute}[w.roll(4)],
				memory: []time.Duration{0, 20 * time.Second, time.Hour}[w.roll(3)],
			}
		})
	}
	w.login.tune(func(f *clusterFaults) { f.requeue = 0 })
	s.cron = w.chance(5)
	s.runs = []int{3, 1000}[w.roll(2)]
}

func (s *storm) blow() {
	w := s.w
	s.weather()
	const b, l = hpcsera.BatchStep, hpcsera.LoginStep
	for _, plan := range [][]hpcsera.StepType{{b}, {l}, {l, b}, {b, b}, {l, b, l}, {b, l, b, b}} {
		s.codes = append(s.codes, w.sign(s.runs, plan...))
	}
	s.of = map[string]code{}
	calm := time.Now().Add(15*time.Minute + w.within(15*time.Minute))
	for time.Now().Before(calm) && !w.t.Failed() {
		s.event()
		time.Sleep(w.within(40 * time.Second))
	}
	s.clear()
	for limit := time.Now().Add(time.Hour); (len(w.server.unfinished()) > 0 || !w.server.heard()) && time.Now().Before(limit) && !w.t.Failed(); {
		s.keepAlive()
		s.release() // an agent may know of a hold that the server has forgotten
		time.Sleep(time.Second)
	}
	for _, job := range w.server.unfinished() {
		w.broken("job %s never ended: %+v", job, w.server.job(job).last)
		s.describe()
	}
	time.Sleep(10 * time.Second) // for a program that would still begin
	for _, job := range s.jobs {
		s.judge(job)
	}
	s.judgeRuns()
}

// describe notes what the instances think.
func (s *storm) describe() {
	for _, i := range s.w.instances {
		if i.dead.Load() || i.agent == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		e := i.agent.engine
		err := e.read(ctx, func() {
			s.w.say("instance %d: granted %v, heard %v, cut %v, failing %v, %d entries, %d acts, touched %v", i.number, e.granted, e.heard, e.cut, e.failing, len(e.entries), len(e.acts), e.touched)
			for _, j := range e.jobs {
				s.w.say("instance %d: %+v start %+v status %+v", i.number, *j, j.start, j.status)
			}
		})
		s.w.say("instance %d: %v", i.number, err)
		cancel()
	}
	buf := make([]byte, 1<<20)
	s.w.say("%s", buf[:runtime.Stack(buf, true)])
}

// event lets one thing happen.
func (s *storm) event() {
	w := s.w
	switch w.roll(12) {
	case 0, 1, 2:
		// Like jobs that come together go as one array.
		c, requeue := s.codes[w.roll(len(s.codes))], w.chance(2)
		for n := w.roll(5); n >= 0 && len(s.jobs) < 14; n-- {
			job := w.server.submit(c, requeue)
			s.jobs, s.of[job] = append(s.jobs, job), c
		}
	case 3:
		s.user(hpcsera.DesiredCancel)
	case 4:
		s.user(hpcsera.DesiredHold)
	case 5:
		s.user(hpcsera.DesiredRun)
	case 6:
		if s.living != nil && !s.cron {
			s.living.kill(w.chance(2))
			s.living = nil
		}
	case 7:
		if s.living != nil && !s.cron {
			s.living.cut.Store(!s.living.cut.Load())
			w.say("instance %d is cut off: %v", s.living.number, s.living.cut.Load())
		}
	case 8:
		w.batch.fail(w.chance(2))
	case 9:
		if !s.cron && w.chance(2) {
			// The old one, if any, lives on: cut off, stopped later, or in charge.
			s.leave(s.living)
			s.living = w.start()
		}
	case 10:
		if s.living != nil && !s.cron {
			s.living.stop()
			s.living = nil
		}
	case 11:
		if s.backup == nil {
			s.backup = w.server.backup()
		} else if w.chance(3) {
			s.backup()
			s.backup = nil
		}
	}
	s.keepAlive()
}

// leave lets an instance live on for a while beside the next one.
func (s *storm) leave(i *instance) {
	if i == nil {
		return
	}
	i.cut.Store(s.w.chance(2))
	time.AfterFunc(s.w.within(10*time.Minute), func() {
		if s.w.chance(2) {
			i.cut.Store(false)
			return
		}
		if i.dead.Load() {
			return
		}
		if s.w.chance(2) {
			i.kill(true)
			return
		}
		i.cancel()
	})
}

// keepAlive starts an instance where none lives, as a user or cron does.
func (s *storm) keepAlive() {
	w := s.w
	if s.living != nil {
		select {
		case <-s.living.done:
			s.living = nil
		default:
			if !s.cron || !w.chance(60) {
				return
			}
		}
	}
	if s.cron {
		if w.chance(20) {
			s.living = w.start(func(c *Config, _ *instance) { *c = c.Once() })
		}
		return
	}
	if w.chance(3) {
		s.living = w.start()
	}
}

func (s *storm) user(d hpcsera.Desired) {
	if len(s.jobs) > 0 {
		s.w.server.want(s.jobs[s.w.roll(len(s.jobs))], d)
	}
}

// clear ends the storm: all that was lost stays lost, but from now on things
// work, and what is held is released.
func (s *storm) clear() {
	w := s.w
	w.say("the storm is over")
	w.server.mu.Lock()
	w.server.faults = serverFaults{}
	w.server.mu.Unlock()
	for _, c := range []*cluster{w.batch, w.login} {
		c.tune(func(f *clusterFaults) {
			*f = clusterFaults{lag: f.lag, queue: f.queue, run: f.run, memory: f.memory}
		})
		c.fail(false)
	}
	if s.living != nil {
		s.living.cut.Store(false)
	}
	s.release()
}

func (s *storm) release() {
	for _, job := range s.w.server.unfinished() {
		if s.w.server.job(job).desired == hpcsera.DesiredHold {
			s.w.server.want(job, hpcsera.DesiredRun)
		}
	}
}

// judge compares what was told of a job with what happened.
func (s *storm) judge(id string) {
	w := s.w
	if w.server.state(id) == "" {
		// It was lost with the hours before a restore, and no agent had taken it.
		if ran := w.ran(id); len(ran) > 0 {
			w.broken("job %s is not known, and ran: %s", id, show(ran))
		}
		return
	}
	j := w.server.job(id)
	if j.calledOff {
		return // its end was told before it came
	}
	steps := len(planOf(w.t, j.spec))
	runs := w.ran(id)
	var last *run
	if len(runs) > 0 {
		last = runs[len(runs)-1]
	}
	say := func(format string, args ...any) {
		w.broken("job %s ended as %s %s (%s), but %s; its runs: %s", id, j.last.State, j.last.Reason, j.last.Message, fmt.Sprintf(format, args...), show(runs))
	}
	// A later attempt may have ended before its program began.
	recorded := last != nil && last.recorded && last.step == j.at.Step && last.attempt == j.last.Attempt
	zero := last != nil && last.recorded && last.exit == (hpcsera.Exit{})
	success := zero && last.step == steps-1
	told := zero && last.told // the batch system's word decides, and what it did since
	if success != (j.last.State == hpcsera.Succeeded) && !told && !(success && w.forgot(j)) {
		say("the last step's success is %v", success)
	}
	if last != nil && last.ended.IsZero() && j.last.Reason != hpcsera.OutcomeUnknown {
		say("a program of it still runs")
	}
	switch j.last.Reason {
	case hpcsera.CancelledByUser:
		if j.cancelled.IsZero() {
			say("the user never cancelled it")
		}
	case hpcsera.ExitNonzero, hpcsera.Signalled:
		// Without a record the batch system's word counts, of a wrapper that
		// may have been killed before its program.
		if s.claimed(id, j.at.Step) == 0 {
			say("nobody claimed its step")
		} else if recorded && !told && (j.last.Exit == nil || *j.last.Exit != last.exit) {
			say("the exit told is %+v", j.last.Exit)
		}
	case hpcsera.LostByScheduler, hpcsera.RejectedByScheduler, hpcsera.RunsExhausted, hpcsera.StageInFailed, hpcsera.ApprovalInvalid:
		if last != nil && last.step == j.at.Step && j.last.Attempt == 1 {
			say("its step ran")
		}
	case hpcsera.OutcomeUnknown:
		if s.claimed(id, j.at.Step) == 0 {
			say("nobody claimed its step")
		}
		if recorded && !w.forgot(j) {
			say("its end was recorded")
		}
	}
	s.judgeAttempts(j, steps)
	if j.last.State == hpcsera.Succeeded {
		s.judgeResults(j, runs, say)
	}
}

// forgot reports whether the batch system may have forgotten the job while it
// ran, so that its end came after it had been given up.
func (w *world) forgot(j served) bool { return j.last.Reason == hpcsera.OutcomeUnknown }

func (s *storm) claimed(id string, step int) int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.claims[fmt.Sprintf("%s/%d", id, step)]
}

// judgeAttempts: the attempt counts the claims won by wrappers, and at most one
// requeue that nobody claimed any more.
func (s *storm) judgeAttempts(j served, steps int) {
	want := 1
	for step := range steps {
		want += max(0, s.claimed(j.id, step)-1)
	}
	if got := j.at.Attempt; got != want && got != want+1 {
		s.w.broken("job %s: got attempt %d, want %d (or one more that never began)", j.id, got, want)
	}
}

// judgeResults: what a job that succeeded printed and left is at the server.
func (s *storm) judgeResults(j served, runs []*run, say func(string, ...any)) {
	w := s.w
	logs := map[int]string{}
	for _, r := range runs {
		logs[r.attempt] += r.output
	}
	last := runs[len(runs)-1]
	if got := w.server.log(j.id, last.attempt); got != logs[last.attempt] {
		say("the log of attempt %d is %q, not %q", last.attempt, got, logs[last.attempt])
	}
	if got, want := string(j.last.Result), fmt.Sprintf(`{"attempt":%d}`, last.attempt); got != want {
		say("its result is %s, not %s", got, want)
	}
	for _, a := range j.last.Artifacts {
		if _, ok := w.server.blobs[a.Digest]; !ok {
			say("the server does not have %s", a.Path)
		}
	}
}

// judgeRuns: each job whose code ran is counted against its approval, once, and
// no approval is used more often than it allows.
func (s *storm) judgeRuns() {
	w := s.w
	counted := newMemory()
	if _, err := journal.Replay(w.real+"/state/journal", counted.fold); err != nil {
		w.broken("journal: %v", err)
		return
	}
	ran := map[string]int{}
	for _, job := range s.jobs {
		if len(w.ran(job)) > 0 {
			ran[s.of[job].approval]++
		}
	}
	jobs := map[string]int{}
	for _, job := range s.jobs {
		if w.server.state(job) != "" && (w.server.job(job).delivered > 0 || w.server.job(job).calledOff) {
			jobs[s.of[job].approval]++
		}
	}
	for _, c := range s.codes {
		if n := counted.runs[c.approval]; n > s.runs || n < ran[c.approval] || n > jobs[c.approval] {
			w.broken("approval %s: got %d counted runs, want at least the %d jobs that ran, at most the %d jobs there were and the %d that it allows",
				c.approval, n, ran[c.approval], jobs[c.approval], s.runs)
		}
	}
}

func planOf(t *testing.T, spec hpcsera.OrderSpec) []hpcsera.Step {
	t.Helper()
	var m hpcsera.Manifest
	if err := hpcsera.Decode(spec.Manifest, &m); err != nil {
		t.Fatal(err)
	}
	return m.Plan()
}

func show(runs []*run) (text string) {
	for _, r := range runs {
		text += fmt.Sprintf(" [step %d start %d attempt %d exit %+v recorded %v]", r.step, r.n, r.attempt, r.exit, r.recorded)
	}
	return text
}
