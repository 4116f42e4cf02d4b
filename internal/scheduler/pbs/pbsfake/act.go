package pbsfake

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// each does something to the jobs on a command line. The exit status is that of
// the last failure.
func (c *command) each(spec string, do func(*server, *job) int) int {
	_, ids, ok := getopt(c.args, spec)
	if !ok || len(ids) == 0 {
		fmt.Fprintf(c.stderr, "usage: %s job_identifier...\n", c.name)
		return 2
	}
	return c.with(func(s *server) int {
		status := 0
		for _, id := range ids {
			j := s.find(id)
			var failed int
			switch {
			case j == nil:
				failed = c.fail(unknownJob, "Unknown Job Id %s", full(id))
			case j.State == "F":
				failed = c.fail(finishedJob, "Job has finished %s", full(id))
			case j.State == "X":
				failed = c.fail(finishedMember, "Request invalid for finished array subjob %s", full(id))
			default:
				failed = do(s, j)
			}
			if failed != 0 {
				status = failed
			}
		}
		return status
	})
}

// qdel has no -x: whoever deletes the history has no record of the end.
func (c *command) qdel() int {
	return c.each("W:", func(s *server, j *job) int {
		s.delete(j, "")
		return 0
	})
}

// delete ends a job that waits at once, and asks one that runs to end.
func (s *server) delete(j *job, why string) {
	if j.Array {
		j.DeletedBy = j.Owner
		s.changed = true
		for _, m := range s.members(j) {
			if m.State != "X" {
				s.delete(m, why)
			}
		}
		return
	}
	if j.State == "R" {
		j.DeletedBy, s.changed = j.Owner, true
		_ = syscall.Kill(j.Supervisor, syscall.SIGTERM) // or it has just ended
		return
	}
	s.end(j, 91, nil, "terminated")
}

func (c *command) qhold() int {
	return c.each("h:", func(s *server, j *job) int {
		if j.Member {
			return c.fail(badState, "Request invalid for state of job %s", j.id())
		}
		j.Holds = "u"
		s.changed = true
		if j.State == "Q" || j.State == "W" {
			s.set(j, "H", 20)
			j.Comment = "Job held by " + login(j.Owner) + " on " + ansi(j.Modified)
		}
		return 0
	})
}

func (c *command) qrls() int {
	return c.each("h:", func(s *server, j *job) int {
		if j.Member {
			return c.fail(badState, "Request invalid for state of job %s", j.id())
		}
		if j.State != "H" {
			return 0
		}
		j.Holds, j.Comment = "n", ""
		if j.Begin.After(j.Created) {
			s.set(j, "W", 30)
		} else {
			s.set(j, "Q", 10)
		}
		return 0
	})
}

// qrerun is for operators, which whoever sets PBSFAKE_OPERATOR is.
func (c *command) qrerun() int {
	return c.each("W:", func(s *server, j *job) int {
		switch {
		case os.Getenv("PBSFAKE_OPERATOR") == "":
			return c.fail(noPermission, "Unauthorized Request  %s", j.id())
		case !j.Rerunnable:
			return c.fail(notRerunnable, "Job is not rerunnable %s", j.id())
		case j.State != "R":
			return c.fail(badState, "Request invalid for state of job %s", j.id())
		}
		j.Rerun, s.changed = true, true
		_ = syscall.Kill(j.Supervisor, syscall.SIGTERM)
		return 0
	})
}

func (c *command) qselect() int {
	options, _, ok := getopt(c.args, "xTN:u:s:A:P:")
	if !ok {
		fmt.Fprintln(c.stderr, "usage: qselect …")
		return 2
	}
	return c.with(func(s *server) int {
		for _, j := range s.Jobs {
			history, members := false, false
			match := true
			for _, o := range options {
				switch o.letter {
				case 'x':
					history = true
				case 'T':
					members = true
				case 'N':
					match = match && j.Name == o.value
				case 'u':
					match = match && login(j.Owner) == login(o.value)
				case 's':
					match = match && strings.Contains(o.value, j.State)
				case 'A':
					match = match && j.Account == o.value
				case 'P':
					match = match && j.Project == o.value
				}
			}
			if match && (history || j.State != "F") && (members || !j.Member) {
				fmt.Fprintln(c.stdout, j.id())
			}
		}
		return 0
	})
}
