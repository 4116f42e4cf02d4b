package pbsfake

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ask is what a qstat asks for.
type ask struct {
	full, members, history bool
	servers, queues, users bool
	format, delimiter      string
	operands               []string
}

func (c *command) qstat() int {
	options, rest, ok := getopt(c.args, "ainpqrstwxu:fGHJMQEBW:T1F:D:")
	a := ask{format: "default", delimiter: "|", operands: rest}
	for _, o := range options {
		switch o.letter {
		case 'f':
			a.full = true
		case 't':
			a.members = true
		case 'x':
			a.history = true
		case 'B':
			a.servers = true
		case 'Q':
			a.queues = true
		case 'u', 'a':
			a.users = true
		case 'F':
			a.format = strings.ToLower(o.value)
		case 'D':
			a.delimiter = o.value
			ok = ok && a.format == "dsv"
		}
	}
	if !ok || !a.full && a.format != "default" {
		fmt.Fprintln(c.stderr, "usage: \nqstat [-f] [-J] [-p] [-t] [-x] [-E] [-F format | -w] [-D delim] [ job_identifier... | destination... ]")
		return 2
	}
	return c.with(func(s *server) int {
		switch {
		case a.servers:
			document{{"Server", group(serverName, s.attributes())}}.print(c.stdout)
			return 0
		case a.queues:
			var list []attr
			for _, q := range s.queues() {
				list = append(list, attr{q, []attr{{"queue_type", "Execution"}, {"total_jobs", "0"}, {"enabled", "True"}, {"started", "True"}}})
			}
			document{{"Queue", list}}.print(c.stdout)
			return 0
		}
		return c.jobs(s, a)
	})
}

// jobs prints jobs: all, or those that are named.
func (c *command) jobs(s *server, a ask) int {
	var shown []attr // of the JSON document
	status := 0
	display := func(jobs []*job) {
		jobs = slices.DeleteFunc(jobs, func(j *job) bool { return s.Terse && j.Member && j.State == "Q" })
		if len(jobs) == 0 {
			return
		}
		switch {
		case a.users || !a.full:
			c.table(jobs)
		case a.format == "dsv":
			for _, j := range jobs {
				c.row(s, j, a.delimiter)
			}
		case a.format == "json" && shown == nil: // of a second operand nothing is printed
			for _, j := range jobs {
				shown = append(shown, attr{j.id(), j.attributes(s)})
			}
		}
	}
	switch {
	case a.history && !s.History: // and the exit status is 0
		c.fail(0, "PBS is not configured to maintain job history ")
	case len(a.operands) == 0:
		display(s.visible(a))
	}
	for _, id := range a.operands {
		j := s.find(id)
		switch {
		case a.history && !s.History:
		case j == nil:
			status = c.fail(unknownJob, "Unknown Job Id %s", full(id))
		case j.State == "F" && !a.history:
			status = c.fail(finishedJob, "%s Job has finished, use -x or -H to obtain historical job information", full(id))
		case j.Array && a.members:
			display(append([]*job{j}, s.members(j)...))
		default:
			display([]*job{j})
		}
	}
	if a.format == "json" {
		d := document{}
		if shown != nil {
			d = document{{"Jobs", shown}}
		}
		d.print(c.stdout)
	}
	return status
}

func (s *server) visible(a ask) []*job {
	var list []*job
	for _, j := range s.Jobs {
		if (a.history || j.State != "F") && (a.members || !j.Member) {
			list = append(list, j)
		}
	}
	return list
}

func (c *command) table(jobs []*job) {
	fmt.Fprintf(c.stdout, "%-18s%-17s%-18s%8s S Queue\n%s\n", "Job id", "Name", "User", "Time Use",
		"----------------  ---------------- ----------------  -------- - -----")
	for _, j := range jobs {
		fmt.Fprintf(c.stdout, "%-18s%-17.15s%-18s%8s %s %-16s\n", j.id(), j.Name, login(j.Owner), "00:00:00", j.State, j.Queue)
	}
}

func (c *command) pbsnodes() int {
	return c.with(func(s *server) int {
		document{{"nodes", group(serverName, []attr{
			{"Mom", serverName}, {"ntype", "PBS"}, {"state", "free"}, {"pcpus", "2"},
			{"resources_available", []attr{{"arch", "linux"}, {"host", serverName}, {"mem", "24683620kb"}, {"ncpus", fmt.Sprint(s.cores())}, {"vnode", serverName}}},
			{"resources_assigned", []attr{}}, {"resv_enable", "True"}, {"sharing", "default_shared"}, {"license", "l"},
		})}}.print(c.stdout)
		return 0
	})
}

func (s *server) attributes() []attr {
	history := "False"
	if s.History {
		history = "True"
	}
	return []attr{
		{"server_state", "Active"}, {"server_host", serverName}, {"scheduling", "True"}, {"total_jobs", fmt.Sprint(len(s.Jobs))},
		{"default_queue", s.queues()[0]}, {"query_other_jobs", "True"}, {"max_array_size", fmt.Sprint(cmp.Or(s.MaxArray, 10_000))},
		{"pbs_version", version}, {"job_history_enable", history}, {"max_job_sequence_id", fmt.Sprint(maxSequence)},
	}
}

func ansi(t time.Time) string { return t.Local().Format(time.ANSIC) }
