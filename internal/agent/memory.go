package agent

import (
	"cmp"
	"slices"
	"time"
	"unique"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// memory is what the journal folds into.
type memory struct {
	jobs     map[string]*job
	newest   *job
	ended    map[string]ended // final and reported; their directories may still stand
	gone     map[string]ended // those whose directories were removed, where remember is set
	runs     map[string]int   // counted starts per approval
	leftover map[place]leftover
	searchAt time.Time // no left-over is due before
	seq      int64     // of the newest fact
	sent     int64     // every fact up to here was answered
	unsent   []hpcsera.Report
	cursor   string
	epoch    int64
	term     int64
	first    int64 // the oldest epoch that the journal knows
	remember bool  // the server was put back from a backup, and may order what ended before
	retell   bool  // it is to be told what came after the fact numbered heard
	heard    int64
}

func newMemory() memory {
	return memory{jobs: map[string]*job{}, ended: map[string]ended{}, gone: map[string]ended{}, runs: map[string]int{}, leftover: map[place]leftover{}}
}

// ended is what is kept of a job whose end was reported.
type ended struct {
	was     unique.Handle[course]
	created time.Time
	tags    []string // of its submissions
	at      time.Time
	epoch   int64           // in which the server was last told
	unheard *hpcsera.Report // for a server that has forgotten it: its end, and what it was
}

// course is how a job went, kept once for all that went alike: some hundred
// thousand may have ended within the days for which their folders stand.
type course struct {
	digest string // of its code
	run    string // digest of its run part
	keep   hpcsera.Keep

	state         hpcsera.State
	reason        hpcsera.Reason
	exited        bool
	exit          hpcsera.Exit
	step, attempt int
}

// fold applies an entry to the memory, at the replay and when it is written.
func (m *memory) fold(entry journal.Entry) {
	j := m.jobs[entry.About()]
	switch entry.Kind {
	case journal.KindTerm:
		m.foldLate(entry.Seq)
		if entry.Epoch != m.epoch {
			m.cursor = "" // it counted in another epoch
		}
		m.term, m.epoch, m.seq = entry.Term, entry.Epoch, max(m.seq, entry.Seq)
		m.first = cmp.Or(m.first, m.epoch)
	case journal.KindCursor:
		m.cursor = entry.Cursor
	case journal.KindRun:
		// Two instances may have counted the same job.
		if j == nil || !j.counted {
			m.runs[entry.Approval]++
		}
	case journal.KindBlocked:
		m.leave(place{entry.Tag, entry.Member}, leftover{since: entry.At, login: j != nil && j.current().Type == hpcsera.LoginStep})
	case journal.KindSent:
		m.foldSent(entry.Seq)
	case journal.KindForgotten:
		if o, known := m.ended[entry.Job]; known && m.remember {
			o.tags = nil
			m.gone[entry.Job] = o
		}
		delete(m.ended, entry.Job)
	case journal.KindFact:
		m.seq = max(m.seq, entry.Fact.Seq)
		m.unsent = append(m.unsent, *entry.Fact)
		m.told(entry.Fact.JobID, entry.Created)
	}
	past, over := m.past(entry.About())
	if over && entry.Kind == journal.KindOrder && past.another(*entry.Order, m.epoch) {
		over = false
		delete(m.ended, entry.About())
		delete(m.gone, entry.About())
	}
	if j == nil && !over && entry.Kind == journal.KindOrder && entry.Order.Spec != nil {
		j = newJob(*entry.Order, m.newest)
		m.jobs[j.id], m.newest = j, j
	}
	if j != nil {
		j.fold(entry)
	}
}

// foldLate takes out the facts that an instance wrote down after the one whose
// term begins here had read its journal, which ended with seq. The new one gave
// their seqs to facts of its own, so they were not reported and will not be.
// Where such a fact stays a job's newest, it is told again (see take).
func (m *memory) foldLate(seq int64) {
	m.unsent = slices.DeleteFunc(m.unsent, func(r hpcsera.Report) bool {
		if r.Seq <= seq {
			return false
		}
		if j := m.jobs[r.JobID]; j != nil && j.last.Seq == r.Seq {
			j.late = true
		}
		return true
	})
}

// foldSent drops the facts that were answered and lets go of jobs whose end
// was among them.
func (m *memory) foldSent(seq int64) {
	m.sent = max(m.sent, seq)
	kept := m.unsent[:0]
	for _, r := range m.unsent {
		if r.Seq > m.sent {
			kept = append(kept, r)
			continue
		}
		if j := m.jobs[r.JobID]; j != nil && j.final && j.last.Seq == r.Seq {
			m.ended[j.id] = m.over(j, r)
			delete(m.jobs, j.id)
		}
	}
	clear(m.unsent[len(kept):])
	m.unsent = kept
	if len(kept) == 0 {
		m.unsent = nil // the ends of ten thousand jobs take some MiB
	}
}
