package lsf

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// record is a job as bjobs -json tells it: every value is text.
type record struct {
	ID        string `json:"JOBID"`
	Index     string `json:"JOBINDEX"`
	State     string `json:"STAT"`
	Name      string `json:"JOB_NAME"`
	Hosts     string `json:"EXEC_HOST"`
	Submitted string `json:"SUBMIT_TIME"`
	Estimated string `json:"ESTIMATED_START_TIME"`
	Exit      string `json:"EXIT_CODE"`
	Ended     string `json:"EXIT_REASON"`
	Waits     string `json:"PEND_REASON"`
	Error     string `json:"ERROR"` // in place of the others
}

var (
	// head is where the listing begins, after whatever a site's wrapper prints.
	head = regexp.MustCompile(`(?m)^\s*\{`)
	// none is what bjobs prints, also with -json, when there is nothing to list.
	none = regexp.MustCompile(`^No (unfinished )?job found\.?$`)
)

// parseQueue reads bjobs -json. The number of jobs stands before the jobs.
func parseQueue(out scheduler.Output) ([]scheduler.Status, error) {
	if only(out, none) {
		return nil, nil
	}
	if out.Exit != 0 {
		return nil, product.Failed(out)
	}
	at := head.FindIndex(out.Stdout)
	if at == nil {
		return nil, product.Garbled("that is none", out.Stdout)
	}
	var listing struct {
		Command string          `json:"COMMAND"`
		Jobs    json.RawMessage `json:"JOBS"`
		Records []record        `json:"RECORDS"`
	}
	if err := json.Unmarshal(out.Stdout[at[0]:], &listing); err != nil { // so is anything after its end
		return nil, product.Garbled("that cannot be read ("+err.Error()+")", out.Stdout[at[0]:])
	}
	jobs, err := strconv.Atoi(strings.Trim(string(listing.Jobs), `"`))
	if listing.Command != "bjobs" || err != nil || jobs != len(listing.Records) || listing.Records == nil {
		return nil, product.Garbled("without all its jobs", out.Stdout)
	}
	list := make([]scheduler.Status, 0, jobs)
	for _, r := range listing.Records {
		ref, ok := reference(r.ID, r.Index, r.Name)
		if !ok || r.Error != "" {
			return nil, product.Garbled("with a record that is no job", []byte(r.ID+" "+r.Error+" "+r.Name))
		}
		st := scheduler.Status{Ref: ref, Native: r.State, Nodes: hosts(r.Hosts), Submitted: moment(r.Submitted)}
		queueMeaning(&st, r)
		if st.Phase == scheduler.PhaseQueued {
			st.Estimated = moment(r.Estimated)
		}
		list = append(list, st)
	}
	return list, nil
}

// reference makes the identity of a job: id 6, or 6[3] where the site has it
// so (LSB_BJOBS_DISPLAY_ENH); index 3, or 0 outside of arrays; name s_…, or
// s_…[3] for a member, which is all there is where the index is not told.
func reference(id, index, name string) (scheduler.Ref, bool) {
	if !address.MatchString(id) {
		return scheduler.Ref{}, false
	}
	id, own, _ := strings.Cut(strings.TrimSuffix(id, "]"), "[")
	if own != "" {
		index = own
	}
	if at := strings.LastIndexByte(name, '['); index == "" && at > 0 && strings.HasSuffix(name, "]") {
		if _, ok := place(name[at+1 : len(name)-1]); ok {
			index = name[at+1 : len(name)-1]
		}
	}
	n, ok := place(index)
	if !ok || n == 0 {
		return scheduler.Ref{ID: id, Tag: name}, ok
	}
	suffix := "[" + strconv.Itoa(n) + "]"
	return scheduler.Ref{ID: id + suffix, Tag: strings.TrimSuffix(name, suffix), Member: n - 1}, true
}

// place reads an index; none, "-" and 0 are 0: no array.
func place(text string) (int, bool) {
	if text == "" || text == "-" {
		return 0, true
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err == nil
}

// hosts turns 4*a:4*b or a:a:b into a,b.
func hosts(text string) string {
	if text = strings.TrimSpace(text); text == "-" {
		return ""
	}
	if !strings.ContainsAny(text, ":*") {
		return text
	}
	var list []string
	for host := range strings.SplitSeq(text, ":") {
		if _, after, ok := strings.Cut(host, "*"); ok {
			host = after
		}
		if !slices.Contains(list, host) {
			list = append(list, host)
		}
	}
	return strings.Join(list, ",")
}

// moment reads Nov 22 09:42 2026, with or without seconds. Without its year,
// where a site's LSF does not tell it, it is no time.
func moment(text string) time.Time {
	for _, layout := range []string{"Jan _2 15:04 2006", "Jan _2 15:04:05 2006"} {
		if len(text) >= len(layout) { // L, E and X after it mark estimates
			if t, err := time.Parse(layout, text[:len(layout)]); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}

// exitOf reads an exit status as LSF tells it: above 128 it was a signal.
func exitOf(text string) *hpcsera.Exit {
	code, err := strconv.ParseUint(text, 10, 8)
	switch {
	case err != nil:
		return nil
	case code > 128 && code <= 128+64:
		return &hpcsera.Exit{Signal: int(code - 128)}
	}
	return &hpcsera.Exit{Code: int(code)}
}
