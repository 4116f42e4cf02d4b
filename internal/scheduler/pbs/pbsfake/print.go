package pbsfake

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// attr is a name and a string, or a name and more of them.
type attr struct {
	name  string
	value any // string or []attr
}

func group(name string, list []attr) []attr { return []attr{{name, list}} }

// attributes are those of a job in the order in which PBS prints them.
func (j *job) attributes(s *server) []attr {
	var list []attr
	add := func(name, value string) { list = append(list, attr{name, value}) }
	add("Job_Name", j.Name)
	add("Job_Owner", j.Owner)
	if j.Runs > 0 {
		list = append(list, attr{"resources_used", []attr{{"cpupercent", "0"}, {"cput", "00:00:00"}, {"mem", "0kb"},
			{"ncpus", strconv.Itoa(j.Cores)}, {"vmem", "0kb"}, {"walltime", "00:00:00"}}})
	}
	add("job_state", j.State)
	add("queue", j.Queue)
	add("server", serverName)
	if j.Account != "" {
		add("Account_Name", j.Account)
	}
	add("Checkpoint", "u")
	add("ctime", ansi(j.Created))
	add("Error_Path", j.Error)
	if j.Runs > 0 && j.State != "Q" {
		add("exec_host", serverName+"/0")
		add("exec_vnode", j.vnode())
	}
	if !j.Begin.IsZero() {
		add("Execution_Time", ansi(j.Begin))
	}
	if !j.Member {
		add("Hold_Types", j.Holds)
	}
	add("Join_Path", j.Join)
	add("Keep_Files", "n")
	add("Mail_Points", "a")
	add("mtime", ansi(j.Modified))
	add("Output_Path", j.Output)
	add("Priority", j.Priority)
	add("qtime", ansi(j.Created))
	add("Rerunable", map[bool]string{true: "True", false: "False"}[j.Rerunnable])
	var resources []attr
	for _, name := range slices.Sorted(maps.Keys(j.Resources)) {
		resources = append(resources, attr{name, j.Resources[name]})
	}
	list = append(list, attr{"Resource_List", resources})
	return append(list, j.history(s)...)
}

// history is the second half: what came of the job.
func (j *job) history(s *server) []attr {
	var list []attr
	add := func(name, value string) { list = append(list, attr{name, value}) }
	moment := func(name string, t time.Time) {
		if !t.IsZero() {
			add(name, ansi(t))
		}
	}
	moment("stime", j.Started)
	moment("obittime", j.Ended)
	if j.Session > 0 {
		add("session_id", strconv.Itoa(j.Session))
	}
	if j.Runs > 0 {
		add("jobdir", j.Home)
	}
	add("substate", strconv.Itoa(j.Substate))
	var variables []attr
	for _, v := range j.Variables {
		variables = append(variables, attr{v[0], v[1]})
	}
	list = append(list, attr{"Variable_List", variables})
	if j.Comment != "" {
		add("comment", j.Comment)
	}
	if j.State != "H" && j.State != "W" {
		add("etime", ansi(j.Created))
	}
	if j.Runs > 0 {
		add("run_count", strconv.Itoa(j.Runs))
	}
	if j.Exit != nil {
		add("Stageout_status", "1")
		add("Exit_status", strconv.Itoa(*j.Exit))
	}
	switch {
	case j.Member:
		add("array_id", fmt.Sprintf("%d[].%s", j.Number, serverName))
		add("array_index", strconv.Itoa(j.Index))
	default:
		add("Submit_arguments", j.Arguments)
		if !j.Script {
			add("executable", "<jsdl-hpcpa:Executable>"+j.Argv[0]+"</jsdl-hpcpa:Executable>")
			add("argument_list", "<jsdl-hpcpa:Argument>"+strings.Join(j.Argv[1:], "</jsdl-hpcpa:Argument><jsdl-hpcpa:Argument>")+"</jsdl-hpcpa:Argument>")
		}
	}
	if j.Array {
		list = append(list, s.counts(j)...)
	}
	if j.State == "F" {
		add("history_timestamp", strconv.FormatInt(j.Ended.Unix(), 10))
	}
	add("project", j.Project)
	add("Submit_Host", serverName)
	return list
}

func (s *server) counts(j *job) []attr {
	count := map[string]int{}
	var spans [][2]int // of members that wait
	for _, m := range s.members(j) {
		count[m.State]++
		switch last := len(spans) - 1; {
		case m.State != "Q":
		case last >= 0 && spans[last][1] == m.Index-1:
			spans[last][1] = m.Index
		default:
			spans = append(spans, [2]int{m.Index, m.Index})
		}
	}
	left := "-"
	if len(spans) > 0 {
		var parts []string
		for _, span := range spans {
			part := strconv.Itoa(span[0])
			if span[1] > span[0] {
				part += "-" + strconv.Itoa(span[1])
			}
			parts = append(parts, part)
		}
		left = strings.Join(parts, ",")
	}
	return []attr{
		{"array", "True"},
		{"array_state_count", fmt.Sprintf("Queued:%d Running:%d Exiting:0 Expired:%d", count["Q"], count["R"], count["X"])},
		{"array_indices_submitted", fmt.Sprintf("%d-%d", j.First, j.Last)},
		{"array_indices_remaining", left},
	}
}

// document is a JSON document as cJSON_Print writes it, after PBS's three first
// members.
type document []attr

func (d document) print(w io.Writer) {
	all := append([]attr{{"timestamp", strconv.FormatInt(time.Now().Unix(), 10)}, {"pbs_version", version}, {"pbs_server", serverName}}, d...)
	var b strings.Builder
	object(&b, all, 0)
	fmt.Fprintln(w, b.String())
}

func object(b *strings.Builder, list []attr, depth int) {
	tabs := strings.Repeat("\t", depth)
	b.WriteString("{\n")
	for i, a := range list {
		b.WriteString(tabs + "\t" + quote(a.name) + ":\t")
		switch v := a.value.(type) {
		case []attr:
			object(b, v, depth+1)
		case string:
			// What looks like JSON is printed as such: a name of 123 is a number.
			if json.Valid([]byte(v)) {
				b.WriteString(v)
			} else {
				b.WriteString(quote(v))
			}
		}
		if i+1 < len(list) {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString(tabs + "}")
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b.Write([]byte{'\\', c})
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < 0x20:
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// row prints a job on one line. What cannot be printed is written ^X, so the
// delimiter of a program can be a character that no value has.
func (c *command) row(s *server, j *job, delimiter string) {
	fields := []string{"Job Id: " + j.id()}
	escape := func(v string) string {
		var b strings.Builder
		for _, r := range strings.ReplaceAll(v, delimiter, `\`+delimiter) {
			switch {
			case r == '\n':
				b.WriteString(`\n`)
			case r < 0x20:
				b.WriteString("^" + string(r+'@'))
			default:
				b.WriteRune(r)
			}
		}
		return b.String()
	}
	for _, a := range j.attributes(s) {
		switch v := a.value.(type) {
		case string:
			fields = append(fields, a.name+"="+escape(v))
		case []attr:
			var variables []string
			for _, inner := range v {
				text, _ := inner.value.(string)
				if a.name == "Variable_List" {
					variables = append(variables, inner.name+"="+strings.ReplaceAll(text, ",", `\,`))
				} else {
					fields = append(fields, a.name+"."+inner.name+"="+escape(text))
				}
			}
			if a.name == "Variable_List" {
				fields = append(fields, "Variable_List="+escape(strings.Join(variables, ",")))
			}
		}
	}
	fmt.Fprintln(c.stdout, strings.Join(fields, delimiter))
}
