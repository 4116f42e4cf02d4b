package pbs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

// sane checks what must hold of any listing, however it came about.
func sane(t *testing.T, list []scheduler.Status, err error, out scheduler.Output) {
	t.Helper()
	if err != nil && list != nil {
		t.Errorf("a listing beside the error %v", err)
	}
	if err == nil && len(out.Stdout) == 0 && len(out.Stderr) == 0 {
		t.Error("silence was read as a listing")
	}
	for _, st := range list {
		if !jobID.MatchString(st.ID) || strings.Contains(st.ID, "[]") {
			t.Errorf("%q was read as an id", st.ID)
		}
		if (st.Phase == scheduler.PhaseEnded) != (phases[st.Native] == scheduler.PhaseEnded) {
			t.Errorf("%q was read as %s", st.Native, st.Phase)
		}
		if st.Exit != nil && st.Phase != scheduler.PhaseEnded {
			t.Errorf("%+v has an exit", st)
		}
	}
}

// FuzzListing: no JSON makes the parser panic or gives a job a phase that its
// native state does not have, and what a decoder reads the scanner reads too.
func FuzzListing(f *testing.F) {
	for _, name := range []string{"live.json", "history.json", "empty.json", "several.json"} {
		f.Add(recorded(f, name), 0)
	}
	f.Add([]byte(`{"pbs_version":"23","Jobs":{"1.vm":{"Job_Name":005,"Job_Owner":"a\'\,@b","job_state":"F","Variable_List":{"A":[1,{"b":null}]}}}}`), 0)
	f.Add([]byte("warning\n{\n}"), 153)
	f.Fuzz(func(t *testing.T, stdout []byte, exit int) {
		out := scheduler.Output{Stdout: stdout, Exit: exit}
		list, err := Driver{}.parseListing(out)
		if exit != 0 && err == nil {
			t.Error("a failed command was read")
		}
		sane(t, list, err, out)
		var doc struct {
			Jobs map[string]struct {
				Name  any `json:"Job_Name"`
				Array any `json:"array"`
			}
		}
		if err != nil || json.Unmarshal(stdout, &doc) != nil {
			return
		}
		arrays := 0
		for _, j := range doc.Jobs {
			if j.Array == "True" {
				arrays++
			}
		}
		if len(list) < len(doc.Jobs)-arrays {
			t.Errorf("got %d jobs of %d, %d of them arrays", len(list), len(doc.Jobs), arrays)
		}
	})
}

// FuzzNamed: every job that was asked for is told, or called unknown.
func FuzzNamed(f *testing.F) {
	f.Add(dsv(f), []byte(nil), 0)
	f.Add(dsv(f), []byte("qstat: Unknown Job Id 999999.vm\n"), 153)
	f.Add([]byte(nil), []byte("qstat: 21.vm Job has finished, use -x or -H to obtain historical job information\n"), 35)
	f.Add([]byte(job("21[].vm", "array=True", "job_state=B", "array_indices_remaining=1-3:2,7")+job("21[2].vm", "job_state=X")), []byte(nil), 0)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit int) {
		out := scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit}
		list, err := Driver{}.parseNamed(out, []string{"21.vm"}, []scheduler.Ref{{ID: "21.vm"}})
		if errors.Is(err, scheduler.ErrNoHistory) {
			return
		}
		sane(t, list, err, out)
		told := bytes.Contains(stderr, []byte("21"))
		for _, st := range list {
			told = told || key(st.ID) == "21"
		}
		if err == nil && !told && !bytes.Contains(stdout, []byte("Job Id: 21")) {
			t.Errorf("job 21 is neither told nor unknown: %+v", list)
		}
	})
}

// FuzzSubmit: whatever qsub prints, a success has an id for each job, and a
// failure that names no reason is never taken for a refusal.
func FuzzSubmit(f *testing.F) {
	f.Add([]byte("18.vm\n"), []byte(""), 0, 1)
	f.Add([]byte("24[].vm\n"), []byte(""), 0, 6)
	f.Add([]byte(""), []byte("qsub: Unknown queue\n"), 170, 1)
	f.Add([]byte(""), []byte("Connection refused\nqsub: cannot connect to server vm (errno=15010)\n"), 162, 1)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit, size int) {
		size = max(1, size%50)
		refs, err := parseSubmit(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit}, size)
		if err == nil && (exit != 0 || len(refs) != size) {
			t.Errorf("exit %d: got %d ids for %d jobs", exit, len(refs), size)
		}
		for _, ref := range refs {
			if !jobID.MatchString(ref.ID) {
				t.Errorf("got the id %q", ref.ID)
			}
		}
		r, ok := errors.AsType[*scheduler.Refused](err)
		if ok && (exit == 0 || r.Message == "" || !bytes.Contains(stderr, []byte("qsub: "))) && !usage.Match(stderr) {
			t.Errorf("exit %d, %q was taken for the refusal %q", exit, stderr, r.Message)
		}
	})
}

// FuzzProbe: no document makes a parser panic.
func FuzzProbe(f *testing.F) {
	for _, name := range []string{"server.json", "nodes.json", "queues.json"} {
		f.Add(recorded(f, name))
	}
	f.Fuzz(func(t *testing.T, stdout []byte) {
		for i, call := range (Driver{}).Probe() {
			got, err := call.Parse(scheduler.Output{Stdout: stdout})
			if i == 0 && err == nil && got.Version == "" {
				t.Errorf("got %+v", got)
			}
		}
	})
}

// large is a listing of n jobs, each as the recorded ones are, in both formats.
func large(t testing.TB, n int) (text, rows []byte) {
	t.Helper()
	whole := recorded(t, "live.json")
	start := bytes.Index(whole, []byte("\t\t\"21.vm\""))
	end := bytes.Index(whole, []byte(",\n\t\t\"22.vm\""))
	row, _, _ := bytes.Cut(dsv(t), []byte("\n"))
	var b, r bytes.Buffer
	b.Write(whole[:start])
	for i := range n {
		if i > 0 {
			b.WriteString(",\n")
		}
		id := fmt.Sprintf("%d.vm", i+1)
		b.Write(bytes.Replace(bytes.Replace(whole[start:end], []byte("21.vm"), []byte(id), 1), []byte("run1"), []byte(tag(i)), 1))
		r.Write(bytes.Replace(bytes.Replace(row, []byte("21.vm"), []byte(id), 1), []byte("run1"), []byte(tag(i)), 1))
		r.WriteByte('\n')
	}
	b.WriteString("\n\t}\n}\n")
	return b.Bytes(), r.Bytes()
}

func BenchmarkListingOf10000Jobs(b *testing.B) {
	text, _ := large(b, 10000)
	parsetest.MeasureListing(b, text, Driver{User: "alice"}.parseListing)
}

func BenchmarkNamed10000(b *testing.B) {
	_, rows := large(b, 10000)
	b.SetBytes(int64(len(rows)))
	for b.Loop() {
		list, err := Driver{}.parseNamed(scheduler.Output{Stdout: rows}, []string{"10000.vm"}, nil)
		if err != nil || len(list) != 10000 {
			b.Fatalf("got %d jobs, %v", len(list), err)
		}
	}
}
