package jobfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// convert reads a Slurm batch script: its directives become the fields of a
// job, its bytes are the job's script file, as they are.
func convert(path string, text []byte) (*File, error) {
	words, err := directiveWords(path, string(text))
	if err != nil {
		return nil, err
	}
	directives, err := parseDirectives(path, words)
	if err != nil {
		return nil, err
	}
	c := &conversion{file: path, lines: map[string]int{}}
	for _, d := range directives {
		if err := d.option.apply(c, d); err != nil {
			return nil, c.at(d, err)
		}
	}
	if err := c.finish(); err != nil {
		return nil, err
	}
	base := filepath.Base(path)
	c.spec.Name = c.jobsName(strings.TrimSuffix(base, filepath.Ext(base)))
	c.spec.ScriptFile, c.spec.Directives = base, "converted"
	c.note("The job runs in a directory of its own with this script alone: name other files it reads under files: in a job.yaml, " +
		"and files it writes under artifacts: to get them back (hpcsera convert prints the job.yaml).")
	f := &File{Path: path, Spec: c.spec, Notices: c.notices, locate: c.locate}
	if err := f.addFiles(nil); err != nil {
		return nil, c.locate(err)
	}
	if err := f.Spec.Validate(); err != nil {
		return nil, c.locate(err)
	}
	return f, nil
}

// conversion collects what directives mean.
type conversion struct {
	file    string
	spec    hpcsera.JobSpec
	lines   map[string]int // of the directive that set a field
	notices []string

	wanted          string    // --job-name
	perNode, perCPU directive // --mem, --mem-per-cpu
	gpus            directive // --gpus
}

func (c *conversion) note(format string, args ...any) {
	c.notices = append(c.notices, fmt.Sprintf(format, args...))
}

// at puts the directive's place before an error.
func (c *conversion) at(d directive, err error) error {
	var e *hpcsera.Error
	if errors.As(err, &e) {
		return e.At(fmt.Sprintf("%s:%d #SBATCH %s", c.file, d.line, d.given))
	}
	return err
}

// locate is File.Locate for fields that directives set.
func (c *conversion) locate(err error) error {
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Field == "" {
		return err
	}
	located := *e
	located.Field = c.file + " " + e.Field
	if line, ok := c.lines[e.Field]; ok {
		located.Field = fmt.Sprintf("%s:%d %s", c.file, line, e.Field)
	}
	return &located
}

func bad(format string, args ...any) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.InvalidField, format, args...)
}

// number returns the mapping of an option with a positive whole number.
func number(field string) func(*conversion, directive) error {
	return func(c *conversion, d directive) error {
		n, err := positive(d.value)
		if err != nil {
			return err
		}
		r := &c.spec.Resources
		*map[string]*int{
			"resources.process_count": &r.ProcessCount, "resources.processes_per_node": &r.ProcessesPerNode,
			"resources.cpu_cores_per_process": &r.CPUCoresPerProcess, "resources.gpu_cores_per_process": &r.GPUCoresPerProcess,
		}[field] = n
		c.lines[field] = d.line
		return nil
	}
}

func positive(s string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(s, "+"))
	if err != nil || n < 1 || n > 10_000_000 {
		return 0, bad("%q is not a positive whole number.", s)
	}
	return n, nil
}

// text returns the mapping of an option whose value is kept as it is.
func text(field string) func(*conversion, directive) error {
	return func(c *conversion, d directive) error {
		if d.value == "" {
			return bad("the value is empty.")
		}
		c.lines[field] = d.line
		switch a := &c.spec.Attributes; field {
		case "attributes.queue_name":
			if strings.Contains(d.value, ",") {
				return bad("%q names several partitions.", d.value).Hint("Name one.")
			}
			a.QueueName = d.value
		case "attributes.account":
			a.Account = d.value
		case "attributes.reservation_id":
			a.ReservationID = d.value
		case "annotations.comment":
			c.spec.Annotations = map[string]string{"comment": d.value}
		}
		return nil
	}
}

// flag returns the mapping of an option that is set or not.
func flag(field string, value bool) func(*conversion, directive) error {
	return func(c *conversion, d directive) error {
		c.lines[field] = d.line
		if field == "hold" {
			c.spec.Hold = value
		} else {
			c.spec.Requeue = value
		}
		return nil
	}
}

// custom keeps an option for Slurm's driver.
func custom(c *conversion, d directive) error {
	if d.value == "" {
		return bad("the value is empty.")
	}
	if c.spec.CustomAttributes == nil {
		c.spec.CustomAttributes = map[string]string{}
	}
	key := "slurm." + d.option.name
	c.spec.CustomAttributes[key] = d.value
	c.lines["custom_attributes."+key] = d.line
	return nil
}

func nice(c *conversion, d directive) error {
	if d.value == "" {
		d.value = "100" // what Slurm takes
	}
	return custom(c, d)
}

func nodeNames(c *conversion, d directive) error {
	if strings.Contains(d.value, "/") {
		return bad("%q is the name of a file, which the site cannot see.", d.value).Hint("Name the nodes.")
	}
	return custom(c, d)
}

func noEffect(*conversion, directive) error { return nil }

func later(*conversion, directive) error {
	return hpcsera.Errorf(hpcsera.NotSupportedYet, "this is not supported by this version.").Hint("Leave it out; nothing was submitted.")
}

func never(instead string) func(*conversion, directive) error {
	return func(*conversion, directive) error {
		if instead == "" {
			return bad("this cannot be mapped.").Hint("Leave it out; nothing was submitted.")
		}
		return bad("this cannot be mapped: %s.", instead)
	}
}

func (c *conversion) jobName(d directive) error {
	c.wanted = d.value
	c.lines["name"] = d.line
	return nil
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// jobsName makes a name of what the script or its file is called.
func (c *conversion) jobsName(file string) string {
	wanted := c.wanted
	if wanted == "" {
		wanted = file
	}
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(wanted), "-"), "-")
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-")
	}
	if name == "" {
		name = "job"
	}
	if c.wanted != "" && name != c.wanted {
		c.note("The job is called %s here; names have a-z, 0-9 and the hyphen.", name)
	}
	return name
}

func (c *conversion) nodes(d directive) error {
	low, high, isRange := strings.Cut(d.value, "-")
	n, err := positive(low)
	if err != nil {
		return err
	}
	if isRange && low != high {
		return bad("%q is a range.", d.value).Hint("Say how many nodes: -N %s.", low)
	}
	c.spec.Resources.NodeCount = n
	c.lines["resources.node_count"] = d.line
	return nil
}

func (c *conversion) exclusive(d directive) error {
	if d.has {
		return bad("%q cannot be mapped; nodes are had alone or shared.", d.value).Hint("Write --exclusive, or leave it out.")
	}
	c.spec.Resources.ExclusiveNodeUse = true
	c.lines["resources.exclusive_node_use"] = d.line
	return nil
}

// timeForms are Slurm's: minutes, minutes:seconds, hours:minutes:seconds,
// days-hours, days-hours:minutes, days-hours:minutes:seconds.
var timeForms = []struct {
	form  *regexp.Regexp
	units []time.Duration
}{
	{regexp.MustCompile(`^(\d{1,9})$`), []time.Duration{time.Minute}},
	{regexp.MustCompile(`^(\d{1,9}):(\d{1,9})$`), []time.Duration{time.Minute, time.Second}},
	{regexp.MustCompile(`^(\d{1,9}):(\d{1,9}):(\d{1,9})$`), []time.Duration{time.Hour, time.Minute, time.Second}},
	{regexp.MustCompile(`^(\d{1,5})-(\d{0,9})$`), []time.Duration{24 * time.Hour, time.Hour}},
	{regexp.MustCompile(`^(\d{1,5})-(\d{1,9}):(\d{1,9})$`), []time.Duration{24 * time.Hour, time.Hour, time.Minute}},
	{regexp.MustCompile(`^(\d{1,5})-(\d{1,9}):(\d{1,9}):(\d{1,9})$`), []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second}},
}

func (c *conversion) time(d directive) error {
	for _, f := range timeForms {
		m := f.form.FindStringSubmatch(d.value)
		if m == nil {
			continue
		}
		var sum time.Duration
		for i, unit := range f.units {
			n, _ := strconv.Atoi("0" + m[i+1]) // digits, few enough
			if n > int(10*365*24*time.Hour/unit) {
				return bad("%q is more than ten years.", d.value)
			}
			sum += time.Duration(n) * unit
		}
		if sum == 0 {
			return bad("%q asks for no limit, which cannot be asked for.", d.value).Hint("Give one, or leave it out for the queue's own.")
		}
		c.spec.Attributes.Duration = hpcsera.Duration(sum)
		c.lines["attributes.duration"] = d.line
		return nil
	}
	switch strings.ToLower(d.value) {
	case "unlimited", "infinite":
		return bad("%q asks for no limit, which cannot be asked for.", d.value).Hint("Give one, or leave it out for the queue's own.")
	}
	return bad("%q is not one of Slurm's forms of a time.", d.value).Hint("Write minutes, HH:MM:SS or DAYS-HH:MM:SS.")
}

var memoryForm = regexp.MustCompile(`^(\d{1,12})(?:([KMGT])B?)?$`)

// memory keeps --mem and --mem-per-cpu until all else is known.
func (c *conversion) memory(d directive) error {
	if _, err := megabytes(d.value); err != nil {
		return err
	}
	if d.option.name == "mem" {
		c.perNode = d
	} else {
		c.perCPU = d
	}
	c.lines["resources.memory"] = d.line
	return nil
}

// megabytes reads Slurm's amounts: MiB where no unit stands, whole MiB always.
func megabytes(s string) (int64, error) {
	m := memoryForm.FindStringSubmatch(strings.ToUpper(s))
	if m == nil {
		return 0, bad("%q is not one of Slurm's forms of an amount of memory.", s).Hint("Write a whole number with K, M, G or T, such as 32G.")
	}
	n, _ := strconv.ParseInt(m[1], 10, 64) // digits, few enough
	switch m[2] {
	case "K":
		n = (n + 1023) / 1024
	case "G":
		n <<= 10
	case "T":
		n <<= 20
	}
	if n == 0 {
		return 0, bad("%q asks for all memory of a node, which has no other name here.", s).Hint("Say how much, or leave it out with --exclusive.")
	}
	if n > 1<<40 {
		return 0, bad("%q is too much.", s)
	}
	return n, nil
}

func (c *conversion) allGPUs(d directive) error {
	if _, err := positive(d.value); err != nil {
		return bad("%q is not a number of GPUs.", d.value).Hint("For a type of GPU use --gres=gpu:TYPE:COUNT.")
	}
	c.gpus = d
	return nil
}

// streamFile says where output goes instead of into a file.
func (c *conversion) streamFile(d directive) error {
	between := "="
	if !strings.HasPrefix(d.given, "--") {
		between = " "
	}
	c.note("%s:%d: %s%s%s makes no file here; the server keeps the job's output (hpcsera logs JOB).", c.file, d.line, d.given, between, d.value)
	return nil
}

func (c *conversion) export(d directive) error {
	if value := strings.ToUpper(d.value); value == "NONE" || value == "NIL" {
		return nil // nothing of the submitting environment reaches a job here
	}
	return bad("this environment is not passed to the job.").Hint("Write --export=NONE, and what the job needs under environment: in a job.yaml, or into the script.")
}

// finish maps what depends on several directives.
func (c *conversion) finish() error {
	r := &c.spec.Resources
	if c.gpus.option != nil {
		n, _ := positive(c.gpus.value) // was checked
		if r.GPUCoresPerProcess > 0 || n%r.Processes() != 0 {
			return c.at(c.gpus, bad("%d GPUs for %d processes cannot be mapped.", n, r.Processes()).Hint("Use --gpus-per-task or --gpus-per-node."))
		}
		r.GPUCoresPerProcess = n / r.Processes()
		c.lines["resources.gpu_cores_per_process"] = c.gpus.line
	}
	times, d := int64(r.Nodes()), c.perNode
	if c.perCPU.option != nil {
		if c.perNode.option != nil {
			return c.at(c.perCPU, bad("--mem and --mem-per-cpu exclude each other."))
		}
		times, d = int64(r.Processes())*int64(max(r.CPUCoresPerProcess, 1)), c.perCPU
	}
	if d.option == nil {
		return nil
	}
	n, _ := megabytes(d.value) // was checked
	if n > (1<<40)/times {
		return c.at(d, bad("%q is too much.", d.value))
	}
	r.Memory = hpcsera.Bytes(n*times) << 20
	return nil
}
