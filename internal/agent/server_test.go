package agent

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
)

// server behaves as the API server does towards an agent: terms, cursors,
// orders until they are acknowledged, reports judged by CanFollow.
type server struct {
	w  *world
	mu sync.Mutex

	jobs     map[string]*served
	list     []string
	requeue  map[string]bool // which jobs may be, also of those that it has forgotten
	epoch    int64
	restored time.Time
	replayed bool // since then
	seq      int64
	applied  int64
	term     int64
	holder   string
	host     string
	told     []hpcsera.Facts
	stopped  bool
	seen     time.Time
	free     int // as last told
	news     chan struct{}
	logs     map[string][]byte
	blobs    map[string][]byte
	requests map[string]int // by kind and instance
	faults   serverFaults
	// mostBytes bounds a request with reports; 0 does not.
	mostBytes int
	taken     func(*hpcsera.WorkAnswer) // changes what the server says, once somebody else has it
}

// serverFaults are one in so many requests; 0 is never.
type serverFaults struct {
	lostRequest int // never arrives
	lostAnswer  int // is done, and nobody learns of it
	refused     int // 503
	slow        int // takes up to ten seconds
	cutLog      int // a log arrives in part and its answer is lost
}

// served is a job as the server has it.
type served struct {
	id        string
	spec      hpcsera.OrderSpec
	desired   hpcsera.Desired
	revision  int64
	orderSeq  int64
	delivered int64
	reportSeq int64
	at        hpcsera.Position
	last      hpcsera.Report // the newest that was applied
	told      []hpcsera.Report
	cancelled time.Time // when the user asked for it
	calledOff bool      // it was over here when the agent told that it had it
}

func newServer(w *world) *server {
	return &server{
		w: w, epoch: 1, jobs: map[string]*served{}, requeue: map[string]bool{}, news: make(chan struct{}), logs: map[string][]byte{}, blobs: map[string][]byte{}, requests: map[string]int{},
	}
}

// lastFacts is what the agent told last.
func (s *server) lastFacts() hpcsera.Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.told) == 0 {
		return hpcsera.Facts{}
	}
	return s.told[len(s.told)-1]
}

// changed wakes the polls. The caller holds mu.
func (s *server) changed() {
	close(s.news)
	s.news = make(chan struct{})
}

// backup returns what puts the server back to how it is now, in a new epoch.
func (s *server) backup() (restore func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs, list := map[string]served{}, slices.Clone(s.list)
	for id, j := range s.jobs {
		jobs[id] = *j
	}
	applied, term, holder, host, stopped := s.applied, s.term, s.holder, s.host, s.stopped
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.w.say("the server is restored")
		s.jobs, s.list = map[string]*served{}, slices.Clone(list)
		for id, j := range jobs {
			s.jobs[id] = &j
		}
		s.applied, s.term, s.holder, s.host, s.stopped, s.seen = applied, term, holder, host, stopped, time.Now()
		s.epoch++
		s.restored, s.replayed = time.Now(), false
		s.seq += 1_000_000_000
		s.changed()
	}
}

func (s *server) tune(change func(*serverFaults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
}

// submit accepts a job.
func (s *server) submit(c code, requeue bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &served{id: hpcsera.NewID("j"), spec: c.spec, desired: hpcsera.DesiredRun, revision: 1, at: hpcsera.Position{State: hpcsera.Pending, Attempt: 1}}
	j.spec.Run.Requeue = requeue
	s.jobs[j.id], s.list, s.requeue[j.id] = j, append(s.list, j.id), requeue
	s.w.say("job %s is accepted, requeue %v", j.id, requeue)
	s.changed()
	return j.id
}

// want changes what the user wants of a job.
func (s *server) want(id string, d hpcsera.Desired) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	if j == nil || j.at.State.Final() || j.desired == hpcsera.DesiredCancel {
		return
	}
	s.w.say("job %s: the user wants %s", id, d)
	if d == hpcsera.DesiredCancel {
		j.cancelled = time.Now()
	}
	j.desired = d
	if j.delivered == 0 {
		if d == hpcsera.DesiredCancel {
			j.at.State = hpcsera.Cancelled
			j.last = hpcsera.Report{State: hpcsera.Cancelled, Reason: hpcsera.CancelledByUser, Attempt: 1}
		}
		return
	}
	j.revision++
	s.seq++
	j.orderSeq = s.seq
	s.changed()
}

func (s *server) requeueable(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requeue[id]
}

func (s *server) isFinal(id string) bool { return s.state(id).Final() }

// toldOver says whether the server told its users that a job had ended, having
// known that an agent had it. A restored one may have forgotten that, until the
// agent tells it again and hears that the job is called off.
func (s *server) toldOver(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[id]
	forgotten := j != nil && j.delivered == 0 && s.epoch > 1 && !s.replayed
	return j != nil && j.at.State.Final() && !j.calledOff && !forgotten
}

func (s *server) state(id string) hpcsera.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[id]; j != nil {
		return j.at.State
	}
	return ""
}

// job returns a copy.
func (s *server) job(id string) served {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.jobs[id]
}

// heard says that an agent has told all that a restored server cannot know.
func (s *server) heard() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replayed
}

// unfinished lists the jobs that have not ended.
func (s *server) unfinished() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.list {
		if !s.jobs[id].at.State.Final() {
			list = append(list, id)
		}
	}
	return list
}

// grant decides who has the term.
func (s *server) grant(r hpcsera.WorkRequest) *hpcsera.Error {
	holder := r.Instance == s.holder
	silent := time.Since(s.seen) >= 90*time.Second
	takeover := r.Takeover != "" && r.Takeover == s.holder && r.Facts != nil && r.Facts.Host == s.host
	switch {
	case r.Term > s.term && s.epoch > 1:
		return hpcsera.Errorf(hpcsera.Conflict, "the term %d was never given by this database", r.Term).At("term")
	case r.Term > s.term || r.Term != 0 && (!holder || r.Term != s.term):
		return hpcsera.Errorf(hpcsera.StaleTerm, "the term %d is over; %d is the present one", r.Term, s.term)
	case r.Term == 0 && r.Epoch != 0 && r.Epoch != s.epoch && r.Takeover == "" && !r.Stopping && time.Since(s.restored) < 90*time.Second:
		return hpcsera.Errorf(hpcsera.AgentActive, "another instance of this agent may not know yet")
	case !holder && s.holder != "" && !s.stopped && !silent && !takeover:
		return hpcsera.Errorf(hpcsera.AgentActive, "the agent runs already")
	case !holder:
		s.term++
		s.holder = r.Instance
	}
	s.stopped, s.seen = r.Stopping, time.Now()
	if r.Facts != nil {
		s.told = append(s.told, *r.Facts)
		s.host = r.Facts.Host
	}
	return nil
}

func (s *server) work(req *http.Request, i *instance, r hpcsera.WorkRequest) (hpcsera.WorkAnswer, *hpcsera.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Term != 0 && r.Epoch != 0 && r.Epoch != s.epoch {
		return hpcsera.WorkAnswer{}, hpcsera.Errorf(hpcsera.Conflict, "the agent is in epoch %d, the server in %d", r.Epoch, s.epoch).At("epoch")
	}
	if err := s.grant(r); err != nil {
		return hpcsera.WorkAnswer{}, err
	}
	term, epoch := s.term, s.epoch
	if r.Epoch != 0 && r.Epoch != epoch {
		return hpcsera.WorkAnswer{Epoch: epoch, Term: term, AppliedSeq: s.applied, Replay: true, Orders: []hpcsera.Order{}, Reads: []hpcsera.Read{}}, nil
	}
	s.replayed = true
	acked, _ := strconv.ParseInt(r.Acked, 10, 64)
	if acked > s.seq {
		s.w.broken("instance %d acknowledged %d, which was never given", i.number, acked)
	}
	if s.free = r.Free; r.Stopping {
		r.Wait, r.Free = 0, 0
	}
	for end := time.Now().Add(time.Duration(r.Wait) * time.Second); ; {
		answer := s.look(acked, r.Free)
		left := time.Until(end)
		if len(answer.Orders) > 0 || left <= 0 || i.dead.Load() || i.cut.Load() {
			return answer, nil
		}
		news := s.news
		s.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-news:
		case <-timer.C:
		case <-req.Context().Done():
		}
		timer.Stop()
		s.mu.Lock()
		if s.epoch != epoch {
			return hpcsera.WorkAnswer{}, hpcsera.Errorf(hpcsera.Unavailable, "the server stops")
		}
		if s.term != term {
			return hpcsera.WorkAnswer{}, hpcsera.Errorf(hpcsera.StaleTerm, "the term %d is over", term)
		}
		if s.seen = time.Now(); req.Context().Err() != nil {
			return answer, nil
		}
	}
}

// look delivers new jobs and lists what is not acknowledged.
func (s *server) look(acked int64, free int) hpcsera.WorkAnswer {
	var open []*served
	for _, id := range s.list {
		j := s.jobs[id]
		if j.delivered > acked && !j.at.State.Final() {
			free--
		}
	}
	for _, id := range s.list {
		j := s.jobs[id]
		if j.delivered == 0 && !j.at.State.Final() && free > 0 {
			free--
			s.seq++
			j.delivered, j.orderSeq = s.seq, s.seq
			s.w.say("job %s is delivered", id)
		}
		if j.orderSeq > acked && !j.at.State.Final() {
			open = append(open, j)
		}
	}
	slices.SortFunc(open, func(a, b *served) int { return int(a.orderSeq - b.orderSeq) })
	answer := hpcsera.WorkAnswer{Epoch: s.epoch, Term: s.term, AppliedSeq: s.applied, Orders: []hpcsera.Order{}, Reads: []hpcsera.Read{}}
	upto := acked
	for _, j := range open {
		o := hpcsera.Order{JobID: j.id, Attempt: j.at.Attempt, Revision: j.revision, Desired: j.desired}
		if j.delivered > acked {
			spec := j.spec
			o.Spec = &spec
		}
		answer.Orders, upto = append(answer.Orders, o), j.orderSeq
	}
	answer.Cursor = strconv.FormatInt(upto, 10)
	return answer
}

func (s *server) reports(r hpcsera.ReportRequest) (hpcsera.ReportAnswer, *hpcsera.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Epoch != s.epoch {
		return hpcsera.ReportAnswer{}, hpcsera.Errorf(hpcsera.Conflict, "the agent is in epoch %d, the server in %d", r.Epoch, s.epoch).At("epoch")
	}
	if r.Instance != s.holder || r.Term != s.term {
		return hpcsera.ReportAnswer{}, hpcsera.Errorf(hpcsera.StaleTerm, "the term %d is over", r.Term)
	}
	s.seen = time.Now()
	var answer hpcsera.ReportAnswer
	for _, report := range r.Reports {
		outcome := s.adopt(report)
		if outcome == "" {
			outcome = s.judge(report)
		}
		s.applied = max(s.applied, report.Seq)
		s.w.say("report %d: job %s step %d attempt %d %s %s %q: %s", report.Seq, report.JobID, report.Step, report.Attempt, report.State, report.Reason, report.Message, outcome)
		answer.Outcomes = append(answer.Outcomes, outcome)
	}
	return answer, nil
}

// unfit refuses what the contract does not have.
func (s *server) unfit(body []byte, r hpcsera.ReportRequest) *hpcsera.Error {
	if len(body) > s.mostBytes && s.mostBytes > 0 {
		return hpcsera.Errorf(hpcsera.BodyTooLarge, "the body has %d bytes", len(body))
	}
	for i, report := range r.Reports {
		field := fmt.Sprintf("reports[%d].", i)
		switch {
		case len(report.Message) > 65536:
			return hpcsera.Errorf(hpcsera.InvalidField, "it is too long").At(field + "message")
		case report.Spec != nil && report.Spec.RunFault != "":
			return hpcsera.Errorf(hpcsera.UnknownField, "%q is not a known field", "run_fault").At(field + "spec")
		}
		for _, a := range report.Artifacts {
			if len(a.Path) > 1024 {
				return hpcsera.Errorf(hpcsera.InvalidField, "it is too long").At(field + "artifacts")
			}
		}
	}
	return nil
}

// adopt takes a job of a replay; "" says that its fact is to be judged.
func (s *server) adopt(r hpcsera.Report) hpcsera.Outcome {
	if r.Spec == nil {
		return ""
	}
	j := s.jobs[r.JobID]
	if j == nil {
		s.w.say("job %s is adopted", r.JobID)
		j = &served{id: r.JobID, spec: *r.Spec, desired: r.Desired, revision: r.Revision, at: hpcsera.Position{State: hpcsera.Pending, Attempt: 1}}
		s.jobs[j.id], s.list = j, append(s.list, j.id)
	}
	switch {
	case j.at.State == hpcsera.Cancelled && !r.State.Final():
		j.calledOff = true
		return hpcsera.CalledOff
	case j.at.State.Final():
		j.calledOff = j.delivered == 0
		return hpcsera.Stale
	case j.spec.Digest != r.Spec.Digest:
		if j.delivered != 0 {
			s.w.broken("job %s is told as another one", r.JobID)
		}
		j.at.State, j.calledOff = hpcsera.Failed, true
		j.last = hpcsera.Report{State: hpcsera.Failed, Reason: hpcsera.RejectedByPolicy, Message: "with a new key"}
		return hpcsera.Illegal
	}
	j.spec = *r.Spec
	if r.Desired == hpcsera.DesiredCancel && j.cancelled.IsZero() {
		j.cancelled = time.Now()
	}
	if j.desired != hpcsera.DesiredCancel && (j.delivered == 0 || r.Revision >= j.revision) {
		j.desired = r.Desired
	}
	if j.revision = max(j.revision, r.Revision); j.desired != r.Desired {
		j.revision++
	}
	s.seq++
	if j.orderSeq = s.seq; j.delivered == 0 {
		j.delivered = s.seq
	}
	if r.Seq == 0 {
		return hpcsera.Applied
	}
	return ""
}

func (s *server) judge(r hpcsera.Report) hpcsera.Outcome {
	j := s.jobs[r.JobID]
	if j == nil {
		s.w.broken("a report about %s, which never was", r.JobID)
		return hpcsera.UnknownJob
	}
	to := hpcsera.Position{State: r.State, Step: r.Step, Attempt: r.Attempt}
	switch {
	case j.calledOff:
		return hpcsera.Illegal
	case j.delivered == 0:
		s.w.broken("a report about %s, which was never delivered", r.JobID)
		return hpcsera.Illegal
	case r.Seq == j.reportSeq && r.Attempt == j.at.Attempt:
		return hpcsera.Duplicate
	case r.Attempt < j.at.Attempt || r.Attempt == j.at.Attempt && r.Seq < j.reportSeq:
		return hpcsera.Stale
	case !hpcsera.CanFollow(j.at, to, j.spec.Run.Requeue):
		s.w.broken("job %s: from %+v to %+v (report %d) is illegal", r.JobID, j.at, to, r.Seq)
		return hpcsera.Illegal
	}
	j.at, j.reportSeq, j.last, j.told = to, r.Seq, r, append(j.told, r)
	return hpcsera.Applied
}

func (s *server) appendLog(req *http.Request, body []byte) *hpcsera.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := req.URL.Query()
	parts := strings.Split(req.URL.Path, "/")
	name := fmt.Sprintf("%s/%s/%s", parts[len(parts)-3], q.Get("attempt"), parts[len(parts)-1])
	offset, _ := strconv.Atoi(q.Get("offset"))
	if have := len(s.logs[name]); offset != have {
		e := hpcsera.Errorf(hpcsera.WrongOffset, "the output goes on at byte %d", have)
		e.Expected = int64(have)
		return e
	}
	s.logs[name] = append(s.logs[name], body...)
	return nil
}

func (s *server) log(job string, attempt int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.logs[fmt.Sprintf("%s/%d/stdout", job, attempt)])
}

func (s *server) blob(req *http.Request) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blobs[req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]]
}

func (s *server) putBlob(req *http.Request, body []byte) *hpcsera.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
	if got := hpcsera.DigestOf(body); got != digest {
		return hpcsera.Errorf(hpcsera.DigestMismatch, "the bytes have the digest %s", got)
	}
	s.blobs[digest] = body
	return nil
}
