package pbs

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// enter is the program that PBS starts: it goes to the job's folder and becomes
// the wrapper. Both come as arguments, so no text of a user is the shell's.
const enter = `cd "$1" && exec "$2"`

// Submit builds the call of qsub. What follows an option is an argument of its
// own, which getopt takes whatever it begins with. The job gets none of the
// command's environment but what PBS copies as PBS_O_*.
//
// -f keeps qsub from leaving a process of its own behind, which would go on
// submitting after the command was killed. -m n: the agent tells of ends.
//
// PBS takes no array whose members must not be run again ("cannot submit
// non-rerunable Array Job"): there the start claim alone keeps a member from a
// second run.
//
// A user's own name for the job has no place in PBS: the name is the tag, and
// only operators set a comment.
func (Driver) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	refuse := func(err error) scheduler.Call[[]scheduler.Ref] {
		return scheduler.Call[[]scheduler.Ref]{Refusal: &scheduler.Refused{Message: err.Error()}}
	}
	if i := strings.IndexAny(s.Output, ":,\n"); i >= 0 {
		return refuse(fmt.Errorf("PBS takes %q in a path for something else: it cannot write to %s", s.Output[i], s.Output))
	}
	custom, chunk, err := customOptions(s.Custom)
	if err != nil {
		return refuse(err)
	}
	where, err := destination(s.Attributes)
	if err != nil {
		return refuse(err)
	}
	argv := []string{"qsub", "-f", "-N", s.Tag, "-m", "n", "-j", "oe", "-o", s.Output, "-r", yesNo(s.Requeue || s.Size > 1)}
	if s.Held {
		argv = append(argv, "-h")
	}
	argv = append(argv, where...)
	argv = append(argv, resources(s.Resources, chunk)...)
	if d := time.Duration(s.Attributes.Duration); d > 0 {
		seconds := int64((d + time.Second - 1) / time.Second)
		argv = append(argv, "-l", fmt.Sprintf("walltime=%02d:%02d:%02d", seconds/3600, seconds/60%60, seconds%60))
	}
	argv = append(argv, custom...)
	if s.Size > 1 {
		argv = append(argv, "-J", fmt.Sprintf("%d-%d", firstIndex, firstIndex+s.Size-1))
	}
	argv = append(argv, "--", "/bin/sh", "-c", enter, "sh", s.Directory, s.Script)
	return scheduler.Call[[]scheduler.Ref]{Argv: argv, Parse: func(out scheduler.Output) ([]scheduler.Ref, error) {
		return parseSubmit(out, max(s.Size, 1))
	}}
}

func yesNo(b bool) string {
	if b {
		return "y"
	}
	return "n"
}

var (
	printable     = regexp.MustCompile(`^[[:print:]]{1,200}$`)
	queueName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	reservationID = regexp.MustCompile(`^([RSM]\d+)(\.[A-Za-z0-9_.-]+)?$`)
)

// destination names queue and account. A reservation is a queue of its own.
func destination(a hpcsera.Attributes) ([]string, error) {
	var argv []string
	queue := a.QueueName
	if queue != "" && !queueName.MatchString(queue) {
		return nil, fmt.Errorf("attributes.queue_name: %q is no queue's name; name a queue of this site's server", queue)
	}
	if a.ReservationID != "" {
		m := reservationID.FindStringSubmatch(a.ReservationID)
		switch {
		case m == nil:
			return nil, fmt.Errorf("attributes.reservation_id: %q is no reservation of PBS; they look like R123", a.ReservationID)
		case queue != "":
			return nil, fmt.Errorf("attributes.queue_name: a reservation of PBS is a queue of its own; leave queue_name out, or reservation_id")
		}
		queue = m[1]
	}
	if queue != "" {
		argv = append(argv, "-q", queue)
	}
	if a.Account != "" {
		if !printable.MatchString(a.Account) {
			return nil, fmt.Errorf("attributes.account: %q is not printable", a.Account)
		}
		argv = append(argv, "-A", a.Account)
	}
	return argv, nil
}

// resources asks for chunks: one for each node where nodes or processes per node
// are given, else one for each process. Memory is the job's and is divided. extra
// is what a custom attribute adds to each chunk.
func resources(r hpcsera.Resources, extra string) []string {
	if r == (hpcsera.Resources{}) && extra == "" {
		return nil // the site's default
	}
	byNode := r.NodeCount > 0 || r.ProcessesPerNode > 0 || r.ExclusiveNodeUse
	chunks, processes := r.Processes(), r.Processes()
	if byNode {
		chunks = r.Nodes()
	}
	processes = max(processes, chunks)
	memory := (int64(r.Memory) + int64(chunks)<<10 - 1) / (int64(chunks) << 10) // kB of each chunk
	chunk := func(count, processes int) string {
		cores := max(r.CPUCoresPerProcess, 1)
		text := fmt.Sprintf("%d:ncpus=%d:mpiprocs=%d", count, processes*cores, processes)
		if r.CPUCoresPerProcess > 0 {
			text += ":ompthreads=" + strconv.Itoa(cores)
		}
		if r.GPUCoresPerProcess > 0 {
			text += ":ngpus=" + strconv.Itoa(processes*r.GPUCoresPerProcess)
		}
		if r.Memory > 0 {
			text += fmt.Sprintf(":mem=%dkb", memory)
		}
		if extra != "" {
			text += ":" + extra
		}
		return text
	}
	each, larger := processes/chunks, processes%chunks
	if full := r.ProcessesPerNode; r.NodeCount == 0 && full > 0 && processes > full && processes%full > 0 { // full nodes, and one with the rest
		return place(r, chunk(chunks-1, full)+"+"+chunk(1, processes%full))
	}
	if larger > 0 {
		return place(r, chunk(larger, each+1)+"+"+chunk(chunks-larger, each))
	}
	return place(r, chunk(chunks, each))
}

func place(r hpcsera.Resources, chunks string) []string {
	argv := []string{"-l", "select=" + chunks}
	switch {
	case r.ExclusiveNodeUse:
		return append(argv, "-l", "place=scatter:exclhost")
	case r.NodeCount > 0 || r.ProcessesPerNode > 0:
		return append(argv, "-l", "place=scatter")
	}
	return append(argv, "-l", "place=free")
}

// parseSubmit reads ID.SERVER or, of an array, ID[].SERVER, which stands on a
// line of its own; a site's hooks may print others. Nothing but one clear id is
// a success, and nothing is a refusal once there is an id.
func parseSubmit(out scheduler.Output, size int) ([]scheduler.Ref, error) {
	var found [][]string
	for line := range bytes.Lines(out.Stdout) {
		if m := jobID.FindStringSubmatch(string(bytes.TrimSpace(line))); m != nil && m[3] != "" {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 0 && out.Exit != 0:
		return nil, refusal(out)
	case out.Exit != 0:
		return nil, product.Failed(out)
	case len(found) != 1:
		return nil, product.Garbled(fmt.Sprintf("with %d job ids", len(found)), out.Stdout)
	}
	number, brackets, server := found[0][1], found[0][2], found[0][3]
	switch {
	case size == 1 && brackets == "":
		return []scheduler.Ref{{ID: number + server}}, nil
	case size == 1 || brackets != "[]":
		return nil, product.Garbled("with an id of another kind than asked for", out.Stdout)
	}
	refs := make([]scheduler.Ref, size)
	for i := range refs {
		refs[i] = scheduler.Ref{ID: fmt.Sprintf("%s[%d]%s", number, firstIndex+i, server)}
	}
	return refs, nil
}

var (
	// own is how every answer of qsub begins, its server's or its own.
	own = regexp.MustCompile(`(?m)^qsub: \S`)
	// unreached are the words of a qsub that has not got through to its server.
	unreached = regexp.MustCompile(`(?m)^qsub: cannot connect to server |^qsub: (No default server|Unable to (connect|reach))`)
	// unsure are the answers of which nobody knows whether the server has the job.
	unsure = regexp.MustCompile(`(?i)batch protocol error|end of file|premature end|communication (failure|error)|timed? ?out|connection (reset|closed)|broken pipe|` +
		`error \(\d+|system error|internal (server )?error|system call failure|failed to save|job(script)? (already exists|send)|error writing|interrupted`)
	// later are the refusals that can be another answer tomorrow.
	later = regexp.MustCompile(`(?i)maximum number of jobs|would exceed (limit|(complex|queue \S+|group \S+|user \S+|project \S+)'s|per-\w+ limit)|` +
		`server shutting down|queue is not enabled|server connection table full|no free connections|resources? (temporarily unavailable|busy)|try again|license unavailable`)
	// usage is what qsub prints after a mistake in its options.
	usage = regexp.MustCompile(`(?m)^usage: qsub`)
)

// refusal sorts a failed qsub. A refusal is certain when its server gave a
// reason, or when qsub found a mistake before it asked; else the job may be queued.
func refusal(out scheduler.Output) error {
	text := out.Stderr
	switch {
	case unreached.Match(text):
		return refused(text, true)
	case unsure.Match(text) || !own.Match(text) && !usage.Match(text):
		return product.Failed(out)
	}
	return refused(text, false)
}

// refused tells PBS's own sentences, without what precedes each line.
func refused(text []byte, unreached bool) *scheduler.Refused {
	message := scheduler.Sentences(text, func(line string) string { return strings.TrimPrefix(line, "qsub: ") })
	return &scheduler.Refused{Message: message, Throttled: unreached || later.Match(text), Unreached: unreached}
}
