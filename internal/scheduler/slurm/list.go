package slurm

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// separator follows every field, the last one too: the ASCII unit separator,
// which nobody types.
const separator = "\x1f"

// jobID matches 12, 7_4, 7_[0-5%2] and 9+1: the user's own arrays and
// heterogeneous jobs stand in the same listing.
var jobID = regexp.MustCompile(`^\d+[0-9_+\[\]%:,.-]*$`)

// table reads a listing: anything before the header (what a site's wrapper or
// a warning prints), the header, and rows of n fields, each row ended by
// separator and newline. The last field may hold any text. A listing without
// header, one that breaks off, and one with a row that is none are errors: to
// skip a row would make its job vanish.
func table(out scheduler.Output, header string, n int) ([][]string, error) {
	if out.Exit != 0 {
		return nil, product.Failed(out)
	}
	text := out.Stdout
	at := bytes.Index(text, []byte(header+separator))
	if at < 0 || at > 0 && text[at-1] != '\n' {
		return nil, product.Garbled("without its header", text)
	}
	rows := strings.Split(string(text[at:]), separator+"\n")
	if rest := rows[len(rows)-1]; rest != "" {
		return nil, product.Garbled("that breaks off", []byte(rest))
	}
	if strings.Count(rows[0], separator) != n-1 {
		return nil, product.Garbled("with other columns than asked for", []byte(rows[0]))
	}
	var result [][]string
	for _, row := range rows[1 : len(rows)-1] {
		fields := strings.SplitN(row, separator, n)
		if len(fields) != n || !jobID.MatchString(fields[0]) {
			return nil, product.Garbled("with a line that is no job", []byte(row))
		}
		result = append(result, fields)
	}
	return result, nil
}

func parseQueue(out scheduler.Output) ([]scheduler.Status, error) {
	rows, err := table(out, "JOBID", len(queueFields))
	if err != nil {
		return nil, err
	}
	var list []scheduler.Status
	for _, f := range rows {
		st := scheduler.Status{
			Ref:    scheduler.Ref{ID: f[0], Cluster: known(f[1]), Tag: f[9], Member: member(f[0])},
			Native: f[2], Nodes: known(f[8]), Submitted: moment(f[6]),
		}
		st.Restarts, _ = strconv.Atoi(f[4])
		if f[3] != "None" {
			st.Message = known(f[3])
		}
		queueMeaning(&st, f[5])
		if st.Phase == scheduler.PhaseQueued {
			st.Estimated = moment(f[7])
		}
		// An array that was cancelled before any of it started has one row, of the
		// array's own id, and in the accounting not even its name.
		st.All = st.Phase == scheduler.PhaseEnded && !strings.Contains(st.ID, "_")
		list = append(list, members(st)...)
	}
	return list, nil
}

func parseHistory(out scheduler.Output) ([]scheduler.Status, error) {
	if out.Exit != 0 && bytes.Contains(out.Stderr, []byte("Slurm accounting storage is disabled")) {
		return nil, scheduler.ErrNoHistory
	}
	rows, err := table(out, "JobID", len(historyFields))
	if err != nil {
		return nil, err
	}
	var list []scheduler.Status
	for _, f := range rows {
		st := scheduler.Status{
			Ref:    scheduler.Ref{ID: f[0], Cluster: known(f[1]), Tag: f[7], Member: member(f[0])},
			Native: f[2], Nodes: known(f[6]), Submitted: moment(f[4]),
		}
		historyMeaning(&st, f[3], f[5])
		list = append(list, members(st)...)
	}
	return list, nil
}

// several matches the row of an array that was cancelled while it waited: sacct
// and squeue, whatever its options say, have one for all members that never
// started.
var several = regexp.MustCompile(`^(\d+)_\[([0-9,:-]+)(?:%\d+)?\]$`)

// mostMembers is far above what a site allows in one array.
const mostMembers = 1 << 20

// members returns a row for each member that a row stands for.
func members(st scheduler.Status) []scheduler.Status {
	m := several.FindStringSubmatch(st.ID)
	if m == nil {
		return []scheduler.Status{st}
	}
	indices, ok := scheduler.Indices(m[2], mostMembers)
	if !ok {
		return []scheduler.Status{st} // nobody's
	}
	list := make([]scheduler.Status, len(indices))
	for i, index := range indices {
		list[i] = st
		list[i].ID, list[i].Member = m[1]+"_"+strconv.Itoa(index), index
	}
	return list
}

// member reads the place in an array off an id such as 7_4. A row that stands
// for several members, 7_[3-5], is none of them.
func member(id string) int {
	_, index, array := strings.Cut(id, "_")
	if !array {
		return 0
	}
	n, err := strconv.Atoi(index)
	if err != nil {
		return -1
	}
	return n
}

// known drops Slurm's words for "nothing".
func known(s string) string {
	switch s {
	case "N/A", "(null)", "None assigned", "Unknown", "None":
		return ""
	}
	return s
}

// moment reads a time since the epoch; N/A, Unknown and None are no time.
func moment(s string) time.Time {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
