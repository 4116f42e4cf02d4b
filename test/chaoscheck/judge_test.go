package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// honest is the evidence of three jobs: one that ran, one that was requeued
// after its wrapper was killed, one that was cancelled while held.
func honest() map[string]string {
	const at = `"at":"2026-11-26T10:00:`
	return map[string]string{
		"asked.json": `[{"job":"j_a"},{"job":"j_b","requeue":true},{"job":"j_c","endless":true,"cancelled":true,"held":true}]`,
		"hits.json":  `[{"kind":"wrapper killed","job":"j_b","from":"2026-11-26T10:00:02Z","to":"2026-11-26T10:00:02Z"}]`,
		"jobs.json": `[{"id":"j_a","state":"succeeded","attempt":1,"native":{"id":"1"}},
			{"id":"j_b","state":"succeeded","attempt":2,"native":{"id":"2"}},
			{"id":"j_c","state":"cancelled","reason":"cancelled_by_user","attempt":1}]`,
		"events.json": `[{"seq":1,` + at + `00Z","type":"job.state","job":"j_a","attempt":1,"state":"pending"},
			{"seq":2,` + at + `00Z","type":"job.state","job":"j_b","attempt":1,"state":"pending"},
			{"seq":3,` + at + `00Z","type":"job.state","job":"j_c","attempt":1,"state":"held"},
			{"seq":4,` + at + `01Z","type":"job.state","job":"j_a","attempt":1,"state":"running"},
			{"seq":5,` + at + `01Z","type":"job.state","job":"j_b","attempt":1,"state":"running"},
			{"seq":6,` + at + `04Z","type":"job.state","job":"j_b","attempt":2,"state":"queued"},
			{"seq":7,` + at + `09Z","type":"job.state","job":"j_a","attempt":1,"state":"succeeded"},
			{"seq":8,` + at + `09Z","type":"job.state","job":"j_b","attempt":2,"state":"succeeded"},
			{"seq":9,` + at + `09Z","type":"job.state","job":"j_c","attempt":1,"state":"cancelled","reason":"cancelled_by_user"}]`,
		"markers": `begin j_a 1 11 n1 1 1795687201.0
end j_a 1 11 n1 1 1795687203.0 0 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
begin j_b 1 12 n1 2 1795687201.0
begin j_b 2 13 n1 2 1795687205.0
end j_b 2 13 n1 2 1795687207.0 0 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824
`,
		"accounting.slurm": "1|1|s_a|COMPLETED|0:0\n2|2|s_b|REQUEUED|0:0\n2|2|s_b|COMPLETED|0:0\n",
		"artifacts/j_a":    "hello", "artifacts/j_b": "hello",
	}
}

func laid(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestHonestEvidencePasses(t *testing.T) {
	var out bytes.Buffer
	if err := check([]string{laid(t, honest())}, &out); err != nil {
		t.Fatalf("honest evidence: %v\n%s", err, &out)
	}
	for _, want := range []string{"jobs accepted                                3", "lost                                         0", "fault: wrapper killed                        1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no line %q:\n%s", want, &out)
		}
	}
}

// TestFalsifiedEvidenceIsFound: each lie that the product could tell, and each
// failure that it could hide.
func TestFalsifiedEvidenceIsFound(t *testing.T) {
	for _, c := range []struct{ name, file, old, new, breach string }{
		{"an attempt runs twice", "markers", "begin j_b 2 13", "begin j_b 1 14 n1 2 1795687204.0\nbegin j_b 2 13", "attempt 1 ran twice"},
		{"a second attempt without requeue", "asked.json", `"requeue":true`, `"requeue":false`, "2 attempts without requeue"},
		{"two attempts at once", "markers", "begin j_a 1 11 n1 1 1795687201.0\n", "begin j_a 1 11 n1 1 1795687201.0\nbegin j_a 2 15 n1 1 1795687202.0\n", "attempt 2 began while attempt 1 ran"},
		{"an attempt that the API does not know", "jobs.json", `"attempt":2`, `"attempt":1`, "attempt 2 ran, of which the API does not know"},
		{"a job is gone", "jobs.json", `{"id":"j_a"`, `{"id":"j_x"`, "an accepted job is not there any more"},
		{"a job is made twice", "jobs.json", `[{`, `[{"id":"j_d","state":"succeeded","attempt":1},{`, "a job that nobody handed in"},
		{"a job never ends", "jobs.json", `"succeeded","attempt":1`, `"running","attempt":1`, "the job never ended"},
		{"success without a run", "markers", "end j_a 1 11 n1 1 1795687203.0 0", "end j_a 1 11 n1 1 1795687203.0 3", "it succeeded, says the API"},
		{"a failure that was a success", "jobs.json", `"succeeded","attempt":1`, `"failed","reason":"exit_nonzero","exit":{"code":1},"attempt":1`, "another exit code"},
		{"unknown though it is known", "jobs.json", `"succeeded","attempt":1`, `"failed","reason":"outcome_unknown","attempt":1`, "its outcome is known"},
		{"lost though it ran", "jobs.json", `"succeeded","attempt":1`, `"failed","reason":"lost_by_scheduler","attempt":1`, "did not lose it"},
		{"cancelled though nobody asked", "asked.json", `"cancelled":true`, `"cancelled":false`, "its user did not cancel it"},
		{"cancelled by a site that did not", "jobs.json", "cancelled_by_user", "cancelled_by_site", "the site did not cancel it"},
		{"refused for its approval", "jobs.json", `"cancelled","reason":"cancelled_by_user"`, `"failed","reason":"approval_expired"`, "its approval held"},
		{"a cancel is lost", "jobs.json", `"cancelled","reason":"cancelled_by_user"`, `"failed","reason":"agent_removed"`, "its cancel was lost"},
		{"an end that nothing explains", "jobs.json", `"cancelled","reason":"cancelled_by_user"`, `"failed","reason":"timeout"`, "nothing that was done explains"},
		{"a held job runs", "markers", "begin j_a", "begin j_c 1 19 n1 3 1795687201.0\nbegin j_a", "it ran although it was held"},
		{"it begins after its end", "markers", "begin j_a 1 11 n1 1 1795687201.0", "begin j_a 1 11 n1 1 1795687299.0", "it began after its end had been told"},
		{"it goes on after its end", "markers", "end j_a 1 11 n1 1 1795687203.0", "end j_a 1 11 n1 1 1795687299.0", "it ran on after its end"},
		{"an artifact is cut", "artifacts/j_a", "hello", "hel", "its artifact is not whole"},
		{"an event after the end", "events.json", `"type":"job.state","job":"j_b","attempt":1,"state":"running"`, `"type":"job.state","job":"j_b","attempt":1,"state":"failed"`, "queued follows the end failed"},
		{"an event that cannot follow", "events.json", `"attempt":2,"state":"queued"`, `"attempt":1,"state":"queued"`, "queued follows running"},
		{"events out of order", "events.json", `"seq":7`, `"seq":3`, "out of order"},
		{"the last event is another end", "events.json", `"job":"j_a","attempt":1,"state":"succeeded"`, `"job":"j_a","attempt":1,"state":"failed"`, "its last event is failed"},
		{"the batch system knows nothing of it", "accounting.slurm", "1|1|s_a", "7|7|s_a", "the accounting does not know"},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := honest()
			changed := strings.Replace(files[c.file], c.old, c.new, 1)
			if changed == files[c.file] {
				t.Fatalf("%s has no %q", c.file, c.old)
			}
			files[c.file] = changed
			var out bytes.Buffer
			if err := check([]string{laid(t, files)}, &out); err == nil || !strings.Contains(out.String(), c.breach) {
				t.Errorf("got %v and\n%s\nwant a breach %q", err, &out, c.breach)
			}
		})
	}
}

// TestBrokenEvidenceIsNoEvidence: what cannot be read does not pass.
func TestBrokenEvidenceIsNoEvidence(t *testing.T) {
	for name, change := range map[string]func(map[string]string){
		"no jobs":             func(f map[string]string) { delete(f, "jobs.json") },
		"no accounting":       func(f map[string]string) { delete(f, "accounting.slurm") },
		"a torn marker":       func(f map[string]string) { f["markers"] += "end j_a 1" },
		"an end out of place": func(f map[string]string) { f["markers"] += "end j_a 1 99 n1 1 1795687203.0 0 x\n" },
		"a torn answer":       func(f map[string]string) { f["events.json"] = f["events.json"][:40] },
	} {
		t.Run(name, func(t *testing.T) {
			files := honest()
			change(files)
			if err := check([]string{laid(t, files)}, new(bytes.Buffer)); err == nil {
				t.Error("it passed")
			}
		})
	}
}
