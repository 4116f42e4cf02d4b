package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

// The forms of --output.
var outputForms = []string{"table", "json", "yaml"}

// outputFlag adds -o to a command. The table is for people and may change;
// JSON and YAML have the API's names and are for programs.
func outputFlag(cmd *cobra.Command) *string {
	return formFlag(cmd, "table, json or yaml", outputForms)
}

// formFlag adds -o with these forms; the first is the default.
func formFlag(cmd *cobra.Command, usage string, forms []string) *string {
	form := new(string)
	cmd.Flags().StringVarP(form, "output", "o", forms[0], usage)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that does not exist
	check := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(forms, *form) {
			last := len(forms) - 1
			return usageError{fmt.Errorf("--output is %s or %s, not %q", strings.Join(forms[:last], ", "), forms[last], *form)}
		}
		if check != nil {
			return check(cmd, args)
		}
		return nil
	}
	return form
}

// show writes v in the form asked for; table writes the form for people.
func (a *app) show(form string, v any, table func(io.Writer)) error {
	a.screen.mu.Lock()
	defer a.screen.mu.Unlock()
	switch form {
	case "json":
		text, err := jsonText(v)
		if err != nil {
			return err
		}
		_, err = a.screen.out.Write(append(text, '\n'))
		return err
	case "yaml":
		text, err := yamlText(v)
		if err != nil {
			return err
		}
		_, err = a.screen.out.Write(text)
		return err
	}
	table(a.screen.out)
	return nil
}

// jsonText returns indented JSON in which dangerous characters are escaped,
// so that it can be looked at as well as parsed.
func jsonText(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		switch {
		case r == '\n' || !dangerous(r): // JSON's own line ends; others are escaped already
			out.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		}
	}
	return out.Bytes(), nil
}

// showLine writes v as JSON in one line.
func (a *app) showLine(v any) error {
	line, err := jsonLine(v)
	if err != nil {
		return err
	}
	a.screen.mu.Lock()
	defer a.screen.mu.Unlock()
	_, err = a.screen.out.Write(append(line, '\n'))
	return err
}

// columns writes rows as a table without lines; the first row is the heading.
// Cells must be clean.
func columns(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // nobody to tell
}

// facts writes label and text pairs; texts of several lines stay in their
// column, empty ones are left out.
func facts(w io.Writer, pairs ...string) {
	var rows [][]string
	for i := 0; i+1 < len(pairs); i += 2 {
		label := pairs[i]
		for line := range strings.SplitSeq(strings.TrimSpace(pairs[i+1]), "\n") {
			if line != "" {
				rows = append(rows, []string{label, line})
			}
			label = ""
		}
	}
	columns(w, rows)
}

// short returns a time as people read it, in their own zone.
func short(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// ago returns how long ago a moment was, roughly.
func ago(t, now time.Time) string {
	d := now.Sub(t)
	switch {
	case d < 0:
		return "just now"
	case d < 2*time.Minute:
		return plural(int(d/time.Second), "second") + " ago"
	case d < 2*time.Hour:
		return plural(int(d/time.Minute), "minute") + " ago"
	case d < 48*time.Hour:
		return plural(int(d/time.Hour), "hour") + " ago"
	}
	return plural(int(d/(24*time.Hour)), "day") + " ago"
}

// size returns an amount of bytes as people read it.
func size(n int64) string {
	if n < 1024 {
		return plural(int(n), "byte")
	}
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB"}
	power := min(int(math.Log2(float64(n))/10), len(units))
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/math.Pow(1024, float64(power))), ".0") + " " + units[power-1]
}

// cell returns text for one cell of a table: clean, and cut to width.
func cell(text string, width int) string {
	text = clean(text)
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// pairsText returns a map as KEY=VALUE words in order.
func pairsText(set map[string]string) string {
	var words []string
	for k, v := range set {
		words = append(words, clean(k)+"="+clean(v))
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// resourcesText returns what a job asks for in the words of job.yaml.
func resourcesText(r hpcsera.Resources, a hpcsera.Attributes) string {
	var words []string
	add := func(name string, value any, given bool) {
		if given {
			words = append(words, fmt.Sprintf("%s=%v", name, value))
		}
	}
	add("node_count", r.NodeCount, r.NodeCount > 0)
	add("process_count", r.ProcessCount, r.ProcessCount > 0)
	add("processes_per_node", r.ProcessesPerNode, r.ProcessesPerNode > 0)
	add("cpu_cores_per_process", r.CPUCoresPerProcess, r.CPUCoresPerProcess > 0)
	add("gpu_cores_per_process", r.GPUCoresPerProcess, r.GPUCoresPerProcess > 0)
	add("memory", r.Memory, r.Memory > 0)
	add("exclusive_node_use", r.ExclusiveNodeUse, r.ExclusiveNodeUse)
	add("duration", a.Duration, a.Duration > 0)
	add("queue_name", clean(a.QueueName), a.QueueName != "")
	add("account", clean(a.Account), a.Account != "")
	add("reservation_id", clean(a.ReservationID), a.ReservationID != "")
	return strings.Join(words, " ")
}

// jsonLine is jsonText in one line.
func jsonLine(v any) ([]byte, error) {
	text, err := jsonText(v)
	if err != nil {
		return nil, err
	}
	var line bytes.Buffer
	err = json.Compact(&line, text)
	return line.Bytes(), err
}
