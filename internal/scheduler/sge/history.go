package sge

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

var (
	rule = strings.Repeat("=", 62)
	// nothing is how qacct says that the accounting file knows no such job.
	nothing = regexp.MustCompile(`(?m)^error: job (name|id) \S+ not found$`)
	// noFile: there is none before the first job has ended, and after a site has
	// put the old one aside.
	noFile = regexp.MustCompile(`(?m)^no jobs running since startup$`)
	absent = regexp.MustCompile(`(?m): No such file or directory$`)
	secret = regexp.MustCompile(`(?m)^error: unable to open |: Permission denied$`)
)

// parseHistory reads qacct -j: for each run of a job a line of equals signs and
// lines of KEY VALUE.
func parseHistory(out scheduler.Output) ([]scheduler.Status, error) {
	if out.Exit != 0 {
		switch {
		case len(bytes.TrimSpace(out.Stdout)) > 0 && !noFile.Match(out.Stdout):
			return nil, product.Failed(out)
		case nothing.Match(out.Stderr):
			return nil, nil
		case noFile.Match(out.Stdout) || noFile.Match(out.Stderr):
			if absent.Match(out.Stdout) || absent.Match(out.Stderr) {
				return nil, nil
			}
			if secret.Match(out.Stdout) || secret.Match(out.Stderr) {
				return nil, scheduler.ErrNoHistory // only the site's own people may read it
			}
		}
		return nil, product.Failed(out)
	}
	text := string(out.Stdout)
	at := strings.Index(text, rule+"\n")
	if at < 0 || at > 0 && text[at-1] != '\n' {
		return nil, product.Garbled("without a record", out.Stdout)
	}
	if !strings.HasSuffix(text, "\n") {
		return nil, product.Garbled("that breaks off", out.Stdout[bytes.LastIndexByte(out.Stdout, '\n')+1:])
	}
	var list []scheduler.Status
	for record := range strings.SplitSeq(text[at+len(rule)+1:], rule+"\n") {
		st, ok := readRecord(record)
		if !ok {
			return nil, product.Garbled("with a record that cannot be read", []byte(record))
		}
		list = append(list, st)
	}
	return list, nil
}

// record is one run of a job, as far as it matters.
type record struct {
	name, number, task, host, submitted, failed, exit, slots, memory, category string
}

// field returns where a value goes; nil for one that does not matter.
func (r *record) field(key string) *string {
	switch key {
	case "jobname":
		return &r.name
	case "jobnumber":
		return &r.number
	case "taskid":
		return &r.task
	case "hostname":
		return &r.host
	case "qsub_time":
		return &r.submitted
	case "failed":
		return &r.failed
	case "exit_status":
		return &r.exit
	case "slots":
		return &r.slots
	case "maxvmem": // of those that must be there the last
		return &r.memory
	case "category":
		return &r.category
	}
	return nil
}

func readRecord(text string) (scheduler.Status, bool) {
	var r record
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, " \r\n"), " ")
		if p := r.field(key); p != nil {
			*p = strings.TrimSpace(value)
		}
	}
	if !jobID.MatchString(r.number) || r.name == "" || r.memory == "" || r.task == "" {
		return scheduler.Status{}, false
	}
	st := scheduler.Status{Ref: scheduler.Ref{ID: r.number, Tag: r.name}, Nodes: r.host, Submitted: moment("Mon Jan _2 15:04:05 2006", r.submitted)}
	if r.task != "undefined" {
		n, err := strconv.Atoi(r.task)
		if err != nil || n < 1 {
			return scheduler.Status{}, false
		}
		st.ID, st.Member = st.ID+"."+strconv.Itoa(n), n-1
	}
	return st, r.meaning(&st)
}

// meaning fills in phase, reason and exit: "37  : qmaster enforced h_rt, h_cpu,
// or h_vmem limit" and "137   (Killed)".
func (r *record) meaning(st *scheduler.Status) bool {
	number, words, _ := strings.Cut(r.failed, ":")
	failure, err1 := strconv.Atoi(strings.TrimSpace(number))
	text, _, _ := strings.Cut(r.exit, " ")
	status, err2 := strconv.Atoi(text)
	if err1 != nil || err2 != nil || failure < 0 || status < 0 {
		return false
	}
	st.Native, st.Message = "failed "+strconv.Itoa(failure)+", exit_status "+text, strings.TrimSpace(words)
	if failure == 0 || failure == 100 {
		st.Phase, st.Exit = scheduler.PhaseEnded, exitOf(status)
		return true
	}
	m, known := failures[failure]
	switch {
	case known:
	case failure <= lastFailure:
		m = meaning{scheduler.PhaseEnded, hpcsera.NodeFailure}
	default:
		m = meaning{scheduler.PhaseUnknown, ""}
	}
	st.Phase, st.Reason = m.phase, m.reason
	if m.phase == scheduler.PhaseEnded && m.reason == "" {
		st.Exit = exitOf(status)
	}
	if m.reason == hpcsera.Timeout && r.overMemory() {
		st.Reason = hpcsera.OutOfMemory
	}
	return true
}

var memoryLimit = regexp.MustCompile(`\bh_vmem=([0-9.]+)([kKmMgGtT]?)\b`)

// overMemory reports whether it was the limit of memory that ended the job,
// which the record does not say, but shows: 273.355MB and -l h_vmem=150M.
func (r *record) overMemory() bool {
	m := memoryLimit.FindStringSubmatch(r.category)
	used, ok := bytesOf(strings.TrimSuffix(r.memory, "B"))
	if m == nil || !ok {
		return false
	}
	limit, ok := bytesOf(m[1] + m[2])
	slots, err := strconv.Atoi(r.slots)
	return ok && err == nil && used >= limit*float64(slots)
}

// bytesOf reads 150M and 1.527M. A small letter is a power of ten.
func bytesOf(text string) (float64, bool) {
	unit := 1.0
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kKmMgGtT", text[n-1]); i >= 0 {
			base := []float64{1000, 1024}[i%2]
			for range i/2 + 1 {
				unit *= base
			}
			text = text[:n-1]
		}
	}
	value, err := strconv.ParseFloat(text, 64)
	return value * unit, err == nil && value >= 0
}
