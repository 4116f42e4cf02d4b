package lsffake

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// queue is one of the cluster's.
type queue struct {
	name  string
	limit int // minutes
	text  string
}

var queues = []queue{
	{"short", 10, "short jobs"},
	{"normal", 0, "For normal low priority jobs, running only if hosts are lightly loaded.  This is the default queue."},
}

// options of bsub: those that have a value, and those that have none.
var (
	valued = strings.Fields("-J -Jd -q -P -G -g -U -o -e -i -cwd -n -W -We -M -R -gpu -b -t -app -sla -sp -m -c -C -D -F -S -T -p -v -env -w -u -ptl -eptl -Lp -network -core_isolation -smt")
	bare   = strings.Fields("-H -x -r -rn -N -B")
)

// errRefused carries bsub's words.
type errRefused string

func (e errRefused) Error() string { return string(e) }

// bsub submits. What it refuses, it refuses with LSF's words.
func (c *command) bsub(args []string) int {
	opts := map[string][]string{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name := args[0]
		switch {
		case slices.Contains(bare, name):
			opts[name], args = append(opts[name], ""), args[1:]
		case !slices.Contains(valued, name):
			return c.fail("bsub: illegal option %s\nUsage: bsub [options] command [arguments]. Job not submitted.", name)
		case len(args) < 2 || strings.HasPrefix(args[1], "-"):
			return c.fail("bsub: option %s needs a value. Job not submitted.", name)
		default:
			opts[name], args = append(opts[name], args[1]), args[2:]
		}
	}
	line := strings.Join(args, " ")
	if line == "" {
		text, err := io.ReadAll(c.stdin)
		if err != nil {
			return c.fail("%v. Job not submitted.", err)
		}
		line = strings.TrimSpace(string(text))
	}
	if line == "" {
		return c.fail("No command is specified. Job not submitted.")
	}
	first, size, err := c.prepare(opts, line)
	if err == nil {
		err = c.update(func(s *state) error { return c.enter(s, first, size) })
	}
	var refused errRefused
	if errors.As(err, &refused) {
		return c.fail("%s. Job not submitted.", refused)
	}
	if err != nil {
		return c.fail("System call failed: %v. Job not submitted.", err)
	}
	which := ""
	if len(opts["-q"]) == 0 {
		which = "default "
	}
	fmt.Fprintf(c.stdout, "Job <%d> is submitted to %squeue <%s>.\n", first.ID, which, first.Queue)
	return 0
}

var arraySpec = regexp.MustCompile(`^([A-Za-z0-9._-]+)\[1-(\d+)\](?:%(\d+))?$`)

// prepare makes the job of the options, and returns how many members it has, 0
// for no array.
func (c *command) prepare(opts map[string][]string, line string) (*job, int, error) {
	one := func(name, usual string) string {
		if v := opts[name]; len(v) > 0 {
			return v[len(v)-1]
		}
		return usual
	}
	me, err := user.Current()
	if err != nil {
		return nil, 0, err
	}
	cwd, err := os.Getwd()
	if err != nil {
		return nil, 0, err
	}
	j := &job{
		Name: one("-J", line), User: me.Username, Queue: one("-q", "normal"), Project: one("-P", "default"), Text: one("-Jd", ""),
		Command: line, Directory: one("-cwd", cwd), Output: one("-o", ""), Env: os.Environ(), State: "PEND", Submitted: time.Now(),
	}
	if len(opts["-H"]) > 0 {
		j.State = "PSUSP"
	}
	size := 0
	if m := arraySpec.FindStringSubmatch(j.Name); m != nil {
		j.Name = m[1]
		size, _ = strconv.Atoi(m[2])
		j.Most, _ = strconv.Atoi(m[3])
	} else if strings.ContainsAny(j.Name, "[]") {
		return nil, 0, errRefused("Bad job name")
	}
	at := slices.IndexFunc(queues, func(q queue) bool { return q.name == j.Queue })
	if at < 0 {
		return nil, 0, errRefused(j.Queue + ": No such queue")
	}
	if j.Slots, err = strconv.Atoi(one("-n", "1")); err != nil || j.Slots < 1 {
		return nil, 0, errRefused("Bad argument for option -n")
	}
	if j.Limit, err = limit(one("-W", "0")); err != nil {
		return nil, 0, errRefused("Bad RUNLIMIT specification")
	}
	if j.Begin, err = begin(one("-b", "")); err != nil {
		return nil, 0, errRefused("Bad time specification")
	}
	switch {
	case size > c.ArraySize:
		return nil, 0, errRefused("Job array index too large")
	case j.Slots > c.Slots:
		return nil, 0, errRefused("Too many processors requested")
	case queues[at].limit > 0 && j.Limit > queues[at].limit:
		return nil, 0, errRefused("RUNLIMIT: Cannot exceed queue's hard limit(s)")
	}
	return j, size, nil
}

// enter queues the job, or its members.
func (c *command) enter(s *state, j *job, size int) error {
	pending := 0
	for _, other := range s.Jobs {
		if other.State == "PEND" || other.State == "PSUSP" {
			pending++
		}
	}
	if c.MaxPending > 0 && pending+max(size, 1) > c.MaxPending {
		return errRefused("User <" + j.User + ">: Pending job threshold reached")
	}
	s.Last++
	j.ID = s.Last
	for i := range max(size, 1) {
		member := *j
		member.Token, member.Index = token(), min(size, i+1)
		member.say("Submitted from host <fake1>, to Queue <%s>, CWD <%s>, Output File <%s>;", j.Queue, j.Directory, j.Output)
		s.Jobs = append(s.Jobs, &member)
	}
	return nil
}

// limit reads [hour:]minute.
func limit(text string) (int, error) {
	hours, minutes, ok := strings.Cut(text, ":")
	if !ok {
		hours, minutes = "0", text
	}
	h, err1 := strconv.Atoi(hours)
	m, err2 := strconv.Atoi(minutes)
	return h*60 + m, errors.Join(err1, err2)
}

// begin reads year:month:day:hour:minute; the fields before the last two may
// be missing.
func begin(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	now := time.Now()
	fields := []int{now.Year(), int(now.Month()), now.Day(), 0, 0}
	words := strings.Split(text, ":")
	if len(words) < 2 || len(words) > 5 {
		return time.Time{}, errors.New("2 to 5 fields")
	}
	for i, w := range words {
		n, err := strconv.Atoi(w)
		if err != nil {
			return time.Time{}, err
		}
		fields[5-len(words)+i] = n
	}
	return time.Date(fields[0], time.Month(fields[1]), fields[2], fields[3], fields[4], 0, 0, time.Local), nil
}
