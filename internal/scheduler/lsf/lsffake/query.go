package lsffake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// known are the fields of bjobs -o that this LSF tells, by name and alias.
var known = map[string]func(c *command, u use, j *job) string{
	"jobid":                func(_ *command, _ use, j *job) string { return strconv.Itoa(j.ID) },
	"jobindex":             func(_ *command, _ use, j *job) string { return strconv.Itoa(j.Index) },
	"stat":                 func(_ *command, _ use, j *job) string { return j.State },
	"user":                 func(_ *command, _ use, j *job) string { return j.User },
	"queue":                func(_ *command, _ use, j *job) string { return j.Queue },
	"job_name":             func(_ *command, _ use, j *job) string { return j.fullName() },
	"job_description":      func(_ *command, _ use, j *job) string { return j.Text },
	"proj_name":            func(_ *command, _ use, j *job) string { return j.Project },
	"submit_time":          func(_ *command, _ use, j *job) string { return shown(j.Submitted) },
	"estimated_start_time": func(*command, use, *job) string { return "" },
	"exec_host": func(_ *command, _ use, j *job) string {
		return map[bool]string{true: "fake1"}[j.PID != 0]
	},
	"exit_code": func(_ *command, _ use, j *job) string {
		return map[bool]string{true: strconv.Itoa(j.Exit)}[j.Exit != 0]
	},
	"exit_reason": func(_ *command, _ use, j *job) string { return j.Term },
	"pend_reason": func(c *command, u use, j *job) string { return c.waits(u, j) },
}

// shown is a time as bjobs -o prints it.
func shown(t time.Time) string {
	if strings.EqualFold(os.Getenv("LSB_DISPLAY_YEAR"), "y") {
		return t.Local().Format("Jan _2 15:04 2006")
	}
	return t.Local().Format("Jan _2 15:04")
}

// selection are the options that pick jobs.
type selection struct {
	all     bool
	format  string
	json    bool
	pattern string
	ids     []string
}

func selected(args []string) (selection, bool) {
	var s selection
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch arg {
		case "-a":
			s.all = true
		case "-json":
			s.json = true
		case "-l":
		case "-o", "-J", "-n":
			if len(args) == 0 {
				return s, false
			}
			switch arg {
			case "-o":
				s.format = args[0]
			case "-J":
				s.pattern = args[0]
			}
			args = args[1:]
		default:
			if strings.HasPrefix(arg, "-") {
				return s, false
			}
			s.ids = append(s.ids, arg)
		}
	}
	return s, true
}

// pick returns the jobs that are meant, and the ids of none.
func (s selection) pick(jobs []*job) (found []*job, unknown []string) {
	if len(s.ids) == 0 {
		for _, j := range jobs {
			if matches(s.pattern, j) && (s.all || !j.ended()) {
				found = append(found, j)
			}
		}
		return found, nil
	}
	for _, id := range s.ids {
		n := len(found)
		for _, j := range jobs {
			if j.address() == id || strconv.Itoa(j.ID) == id {
				found = append(found, j)
			}
		}
		if len(found) == n {
			unknown = append(unknown, id)
		}
	}
	return found, unknown
}

// bjobs lists. Jobs that ended longer ago than the site's CLEAN_PERIOD are not
// there any more.
func (c *command) bjobs(args []string) int {
	sel, ok := selected(args)
	if !ok || sel.json && sel.format == "" {
		return c.fail("Usage: bjobs [options] [job_ID | \"job_ID[index_list]\" ... ]")
	}
	fields := strings.Fields(sel.format)
	for _, f := range fields {
		if known[strings.ToLower(f)] == nil {
			return c.fail("<%s> in the format string is not a valid field name.", strings.ToUpper(f))
		}
	}
	var records [][]string
	var unknown []string
	err := c.update(func(s *state) error {
		var recent, found []*job
		for _, j := range s.Jobs {
			if !j.ended() || time.Since(j.Ended) < c.CleanPeriod {
				recent = append(recent, j)
			}
		}
		found, unknown = sel.pick(recent)
		u := usage(s)
		for _, j := range found {
			var values []string
			for _, f := range fields {
				values = append(values, known[strings.ToLower(f)](c, u, j))
			}
			records = append(records, values)
		}
		return nil
	})
	if err != nil {
		return c.fail("System call failed: %v", err)
	}
	if len(records) == 0 && len(unknown) == 0 {
		fmt.Fprintln(c.stderr, map[bool]string{true: "No job found", false: "No unfinished job found"}[sel.all])
		return 0
	}
	c.printJSON(fields, records)
	for _, id := range unknown {
		fmt.Fprintf(c.stderr, "Job <%s> is not found\n", id)
	}
	if len(unknown) > 0 {
		return failure
	}
	return 0
}

// printJSON prints as LSF does: slashes are escaped, every value is text.
func (c *command) printJSON(fields []string, records [][]string) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n  \"COMMAND\":\"bjobs\",\n  \"JOBS\":%d,\n  \"RECORDS\":[\n", len(records))
	for i, values := range records {
		b.WriteString("    {\n")
		for k, v := range values {
			text, err := json.Marshal(v)
			if err != nil {
				text = []byte(`""`)
			}
			fmt.Fprintf(&b, "      %q:%s%s\n", strings.ToUpper(fields[k]), bytes.ReplaceAll(text, []byte("/"), []byte(`\/`)), map[bool]string{true: ","}[k < len(values)-1])
		}
		fmt.Fprintf(&b, "    }%s\n", map[bool]string{true: ","}[i < len(records)-1])
	}
	b.WriteString("  ]\n}\n")
	_, _ = b.WriteTo(c.stdout)
}

// bhist tells the events of jobs in the long format, with broken lines.
func (c *command) bhist(args []string) int {
	sel, ok := selected(args)
	if !ok {
		return c.fail("Usage: bhist [options] [job_ID | \"job_ID[index]\" ...]")
	}
	var found []*job
	err := c.update(func(s *state) error {
		found, _ = sel.pick(s.Jobs)
		return nil
	})
	if err != nil {
		return c.fail("System call failed: %v", err)
	}
	if len(found) == 0 {
		fmt.Fprintln(c.stdout, "No matching job found")
		return failure
	}
	var b strings.Builder
	layout := "Mon Jan _2 15:04:05"
	if strings.EqualFold(os.Getenv("LSB_DISPLAY_YEAR"), "y") {
		layout += " 2006"
	}
	for i, j := range found {
		if i > 0 {
			b.WriteString(strings.Repeat("-", 78) + "\n")
		}
		text := ""
		if j.Text != "" {
			text = ", Job Description <" + j.Text + ">"
		}
		broken(&b, fmt.Sprintf("\nJob <%s>, Job Name <%s>, User <%s>, Project <%s>, Command <%s>%s", j.address(), j.fullName(), j.User, j.Project, j.Command, text))
		for n, e := range j.Events {
			at, what, _ := strings.Cut(e, " ")
			sec, _ := strconv.ParseInt(at, 10, 64)
			broken(&b, time.Unix(sec, 0).Local().Format(layout)+": "+what)
			if n == 0 && j.Limit > 0 {
				fmt.Fprintf(&b, "\n RUNLIMIT                \n %d.0 min                 \n", j.Limit)
			}
		}
		fmt.Fprintf(&b, "\nSummary of time in seconds spent in various states by  %s\n", time.Now().Format(layout))
		b.WriteString("  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL\n  0        0        1        0        0        0        1           \n")
	}
	fmt.Fprintln(c.stdout, b.String())
	return 0
}

// broken writes a line as LSF does: no more than 80 columns, and 21 blanks
// before what is left of it.
func broken(b *strings.Builder, line string) {
	const width, indent = 80, "                     "
	for len(line) > width {
		b.WriteString(line[:width] + "\n")
		line = indent + line[width:]
	}
	b.WriteString(line + "\n")
}
