package pbsfake

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const qsubOptions = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:q:r:R:S:u:v:VW:XzP:"

var knownResources = []string{"select", "place", "walltime", "ncpus", "mem", "filesystems"}

var (
	jobName    = regexp.MustCompile(`^[A-Za-z0-9_+.-]{1,236}$`)
	arrayRange = regexp.MustCompile(`^(\d+)-(\d+)$`)
	chunkCores = regexp.MustCompile(`^(\d+)(?::|$)`)
)

func (c *command) qsub() int {
	options, rest, ok := getopt(c.args, qsubOptions)
	if !ok {
		return c.usage()
	}
	j := &job{State: "Q", Substate: 10, Holds: "n", Rerunnable: true, Join: "n", Priority: "0", Project: "_pbs_project_default", Resources: map[string]string{}}
	j.Arguments = strings.Join(c.args, " ")
	var script []byte
	switch {
	case slices.Contains(c.args, "--") && len(rest) > 0:
		j.Argv = rest
		j.Name = filepath.Base(rest[0])
	default:
		var err error
		if script, err = c.script(rest); err != nil {
			return c.fail(1, "script file %v", err)
		}
		j.Script, j.Name = true, "STDIN"
		if len(rest) > 0 {
			j.Name = filepath.Base(rest[0])
		}
		options = append(directives(script), options...)
	}
	for _, o := range options {
		if status := c.apply(j, o); status != 0 {
			return status
		}
	}
	if j.Array && !j.Rerunnable {
		return c.fail(2, "cannot submit non-rerunable Array Job")
	}
	c.owner(j)
	return c.with(func(s *server) int { return c.queue(s, j, script) })
}

func (c *command) usage() int {
	fmt.Fprintln(c.stderr, "usage: qsub [-a date_time] [-A account_string] [-c interval] …")
	return 2
}

func (c *command) script(operands []string) ([]byte, error) {
	if len(operands) > 0 {
		return os.ReadFile(operands[0])
	}
	return io.ReadAll(c.stdin)
}

// directives are the #PBS lines before the first command.
func directives(script []byte) []option {
	var options []option
	for line := range strings.Lines(string(script)) {
		rest, ok := strings.CutPrefix(line, "#PBS ")
		if !ok {
			if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
				continue
			}
			break
		}
		more, _, _ := getopt(strings.Fields(rest), qsubOptions)
		options = append(options, more...)
	}
	return options
}

// apply sets what one option says. The result is an exit status.
func (c *command) apply(j *job, o option) int {
	illegal := func() int { c.fail(2, "illegal -%c value", o.letter); return c.usage() }
	switch o.letter {
	case 'a':
		at, err := time.ParseInLocation("200601021504.05", o.value, time.Local)
		if err != nil {
			at, err = time.ParseInLocation("200601021504", o.value, time.Local)
		}
		if err != nil {
			return illegal()
		}
		j.Begin = at
	case 'A':
		j.Account = o.value
	case 'h':
		j.State, j.Substate, j.Holds = "H", 20, "u"
	case 'j':
		j.Join = o.value
	case 'J':
		m := arrayRange.FindStringSubmatch(o.value)
		if m == nil {
			return illegal()
		}
		j.Array = true
		j.First, _ = strconv.Atoi(m[1])
		j.Last, _ = strconv.Atoi(m[2])
		if j.First >= j.Last {
			return illegal()
		}
	case 'l':
		return c.resources(j, o.value)
	case 'N':
		if !jobName.MatchString(o.value) {
			return illegal()
		}
		j.Name = o.value
	case 'o':
		j.Output = o.value
	case 'e':
		j.Error = o.value
	case 'p':
		j.Priority = o.value
	case 'P':
		j.Project = o.value
	case 'q':
		j.Queue = o.value
	case 'r':
		if o.value != "y" && o.value != "n" {
			return illegal()
		}
		j.Rerunnable = o.value == "y"
	}
	return 0
}

func (c *command) resources(j *job, list string) int {
	for part := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(part, "=")
		if !slices.Contains(knownResources, name) {
			return c.fail(unknownResc, "Unknown resource Resource_List.%s", name)
		}
		j.Resources[name] = value
	}
	if text, ok := j.Resources["walltime"]; ok {
		for part := range strings.SplitSeq(text, ":") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return c.fail(15014, "Illegal attribute or resource value Resource_List.walltime")
			}
			j.Walltime = j.Walltime*60 + time.Duration(n)*time.Second
		}
	}
	return 0
}

// owner fills in who submits and from where.
func (c *command) owner(j *job) {
	name := "nobody"
	if me, err := user.Current(); err == nil {
		name, j.Home = me.Username, me.HomeDir
	}
	if home := os.Getenv("HOME"); home != "" {
		j.Home = home
	}
	j.Owner = name + "@" + serverName
	j.WorkDir, _ = os.Getwd()
	j.Variables = [][2]string{
		{"PBS_O_HOME", j.Home}, {"PBS_O_LOGNAME", name}, {"PBS_O_PATH", os.Getenv("PATH")}, {"PBS_O_SHELL", "/bin/bash"},
		{"PBS_O_INTERACTIVE_AUTH_METHOD", "resvport"}, {"PBS_O_INTERACTIVE_ENCRYPT_METHOD", ""},
		{"PBS_O_WORKDIR", j.WorkDir}, {"PBS_O_SYSTEM", "Linux"},
	}
}

// queue is the server's part: it refuses, or the job is queued.
func (c *command) queue(s *server, j *job, script []byte) int {
	queues := s.queues()
	if j.Queue == "" {
		j.Queue = queues[0]
	}
	waiting := 0
	for _, o := range s.Jobs {
		if o.Owner == j.Owner && !o.Member && o.State != "F" {
			waiting++
		}
	}
	maxArray := s.MaxArray
	if maxArray == 0 {
		maxArray = 10000
	}
	switch {
	case !slices.Contains(queues, j.Queue):
		return c.fail(unknownQueue, "Unknown queue")
	case j.Array && j.Last-j.First+1 > maxArray:
		return c.fail(arrayTooLarge, "Array job exceeds server or queue size limit")
	case j.Resources["place"] != "" && j.Resources["select"] == "":
		return c.fail(placeNoSelect, `Cannot have "place" without "select"`)
	case s.MaxQueued > 0 && waiting >= s.MaxQueued:
		return c.fail(tooManyQueued, "would exceed complex's per-user limit")
	}
	j.Number = s.Next % maxSequence
	s.Next++
	j.Created, j.Modified = time.Now(), time.Now()
	j.Variables = append(j.Variables, [2]string{"PBS_O_QUEUE", j.Queue}, [2]string{"PBS_O_HOST", serverName})
	j.chunks()
	if j.Begin.After(time.Now()) && j.State == "Q" {
		j.State, j.Substate = "W", 30
	}
	if j.Output == "" {
		j.Output = filepath.Join(j.WorkDir, fmt.Sprintf("%s.o%d", j.Name, j.Number))
	}
	if j.Error == "" {
		j.Error = filepath.Join(j.WorkDir, fmt.Sprintf("%s.e%d", j.Name, j.Number))
	}
	j.Output, j.Error = serverName+":"+j.Output, serverName+":"+j.Error
	if j.Script {
		path := filepath.Join(s.dir, "spool", fmt.Sprintf("%d.SC", j.Number))
		if err := os.WriteFile(path, script, 0o700); err != nil {
			return c.fail(1, "%v", err)
		}
		j.Argv = []string{path}
	}
	s.Jobs, s.changed = append(s.Jobs, j), true
	for i := j.First; j.Array && i <= j.Last; i++ {
		m := *j
		m.Array, m.Member, m.Index, m.State, m.Substate = false, true, i, "Q", 10
		s.Jobs = append(s.Jobs, &m)
	}
	fmt.Fprintln(c.stdout, j.id())
	return 0
}

func (s *server) queues() []string {
	if len(s.Queues) == 0 {
		return []string{"workq", "batchq"}
	}
	return s.Queues
}

// chunks adds up what the chunks of the selection ask for.
func (j *job) chunks() {
	if j.Resources["select"] == "" {
		j.Resources["select"], j.Resources["place"] = "1:ncpus=1", "pack"
	}
	if j.Resources["place"] == "" {
		j.Resources["place"] = "free"
	}
	nodes := 0
	for chunk := range strings.SplitSeq(j.Resources["select"], "+") {
		count := 1
		if m := chunkCores.FindStringSubmatch(chunk); m != nil {
			count, _ = strconv.Atoi(m[1])
		}
		cores := 1
		for part := range strings.SplitSeq(chunk, ":") {
			if n, ok := strings.CutPrefix(part, "ncpus="); ok {
				cores, _ = strconv.Atoi(n)
			}
		}
		nodes += count
		j.Cores += count * cores
	}
	j.Resources["ncpus"], j.Resources["nodect"] = strconv.Itoa(j.Cores), strconv.Itoa(nodes)
}
