package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
	"github.com/hpcsera/hpcsera/client"
)

func TestABlobIsUploadedInPartsAndVisibleOnlyWhenWhole(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	content := []byte("0123456789abcdef")
	path := "/api/v1/blobs/" + hpcsera.DigestOf(content)
	head := func(status int, header, want string) {
		t.Helper()
		a := d.call(token, "HEAD", path, nil)
		if a.status != status || a.header.Get(header) != want {
			t.Errorf("HEAD: got %d, %s %q, want %d, %q", a.status, header, a.header.Get(header), status, want)
		}
	}
	head(404, "Upload-Offset", "0")
	part := as[api.BlobUploaded](t, d.call(token, "PUT", path, content[:6], "Content-Range", "bytes 0-5/16"), 202)
	if part.Size != 6 || part.Complete {
		t.Errorf("after a part: got %+v, want 6 bytes of an unfinished upload", part)
	}
	head(404, "Upload-Offset", "6")
	d.call(token, "GET", path, nil).refused(t, 404, hpcsera.NotFound, "")
	a := d.call(token, "PUT", path, content[8:], "Content-Range", "bytes 8-15/16")
	if a.status != 409 || a.problem.Code != hpcsera.WrongOffset || a.problem.Expected == nil || *a.problem.Expected != 6 {
		t.Errorf("a gap: got %d %s, want 409 wrong_offset that expects 6", a.status, a.body)
	}
	whole := as[api.BlobUploaded](t, d.call(token, "PUT", path, content[6:], "Content-Range", "bytes 6-15/16"), 201)
	if whole.Size != 16 || !whole.Complete {
		t.Errorf("after the last part: got %+v, want 16 bytes, complete", whole)
	}
	head(200, "Content-Length", "16")
	got := d.call(token, "GET", path, nil)
	if got.status != 200 || !bytes.Equal(got.body, content) {
		t.Errorf("GET: got %d %q, want the bytes", got.status, got.body)
	}
	if a := d.call(token, "GET", path, nil, "Range", "bytes=4-7"); a.status != 206 || string(a.body) != "4567" {
		t.Errorf("GET by range: got %d %q, want 206 and 4567", a.status, a.body)
	}
	if a := d.call(token, "GET", path, nil, "If-None-Match", got.header.Get("ETag")); a.status != 304 {
		t.Errorf("GET of what the caller has: got %d, want 304", a.status)
	}
	if empty := as[api.BlobUploaded](t, d.call(token, "PUT", "/api/v1/blobs/"+hpcsera.DigestOf(nil), []byte{}), 201); !empty.Complete {
		t.Errorf("a blob without bytes: got %+v, want complete", empty)
	}
}

func TestWrongUploadsAreRefused(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	content := []byte("0123456789abcdef")
	path := "/api/v1/blobs/" + hpcsera.DigestOf(content)
	for _, c := range []struct {
		name, header string
		status       int
		code         hpcsera.Code
		field        string
	}{
		{"not a range", "bytes=0-15", 400, hpcsera.InvalidField, "Content-Range"},
		{"no total", "bytes 0-15/*", 400, hpcsera.InvalidField, "Content-Range"},
		{"outside of the blob", "bytes 0-15/10", 400, hpcsera.InvalidField, "Content-Range"},
		{"backwards", "bytes 9-3/16", 400, hpcsera.InvalidField, "Content-Range"},
		{"another length than the body's", "bytes 0-9/16", 400, hpcsera.InvalidField, "Content-Range"},
		{"a number that no int64 holds", "bytes 0-15/99999999999999999999", 400, hpcsera.InvalidField, "Content-Range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.call(token, "PUT", path, content, "Content-Range", c.header).refused(t, c.status, c.code, c.field)
		})
	}
	d.call(token, "PUT", path, io.MultiReader(bytes.NewReader(content))).refused(t, 400, hpcsera.MalformedRequest, "Content-Length")
	d.call(token, "PUT", path, []byte("something else!!")).refused(t, 422, hpcsera.DigestMismatch, "")
	d.call(token, "PUT", path, content, "Content-Range", "bytes 0-15/16")
	if a := d.call(token, "GET", path, nil); a.status != 200 || !bytes.Equal(a.body, content) {
		t.Errorf("after the refusals: got %d %q, want the upload to work", a.status, a.body)
	}
	d.call(d.token("1,5,7,8"), "PUT", path, content).refused(t, 403, hpcsera.Forbidden, "")
}

func TestAnUploadThatBreaksOffGoesOnWhereItBroke(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	path := "/api/v1/blobs/" + hpcsera.DigestOf(content)
	u, err := url.Parse(d.url)
	must(t, err)
	conn, err := net.Dial("tcp", u.Host)
	must(t, err)
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", path, token, len(content))
	_, err = conn.Write(content[:100_000])
	must(t, err)
	must(t, conn.Close())
	// The bytes that were sent before the end arrive; more never will.
	eventually(t, "what was sent to arrive", func() bool {
		return d.call(token, "HEAD", path, nil).header.Get("Upload-Offset") == "100000"
	})
	a := d.call(token, "PUT", path, content[100_000:], "Content-Range", fmt.Sprintf("bytes 100000-%d/%d", len(content)-1, len(content)))
	if a.status != 201 {
		t.Errorf("the rest: got %d %s, want 201", a.status, a.body)
	}
}

// eventually polls what happens on the server's side.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// run takes a job to the agent, as if it ran.
type run struct {
	*client.Agent
	instance string
	term     int64
	epoch    int64
	seq      int64
}

func (r *run) take(t *testing.T) hpcsera.Order {
	t.Helper()
	answer, err := r.Work(t.Context(), hpcsera.WorkRequest{Instance: r.instance, Term: r.term, Free: 10, Wait: 10})
	must(t, err)
	r.term, r.epoch = answer.Term, answer.Epoch
	if len(answer.Orders) != 1 || answer.Orders[0].Spec == nil {
		t.Fatalf("orders: got %+v, want one with a spec", answer.Orders)
	}
	return answer.Orders[0]
}

func (r *run) report(t *testing.T, f hpcsera.Report) {
	t.Helper()
	r.seq++
	f.Seq, f.Attempt, f.At = r.seq, 1, time.Now().UTC()
	answer, err := r.Report(t.Context(), hpcsera.ReportRequest{Instance: r.instance, Term: r.term, Epoch: r.epoch, Reports: []hpcsera.Report{f}})
	must(t, err)
	if answer.Outcomes[0] != hpcsera.Applied {
		t.Fatalf("report %s: got %s, want applied", f.State, answer.Outcomes[0])
	}
}

// running makes an approved job that alice's agent runs.
func (d *deployment) running(token string) (hpcsera.Job, *run) {
	d.t.Helper()
	return d.runningAt(token, d.agent())
}

// runningAt is the same for an agent that is enrolled already.
func (d *deployment) runningAt(token string, agent *client.Agent) (hpcsera.Job, *run) {
	d.t.Helper()
	r := &run{Agent: agent, instance: hpcsera.NewID("i")}
	job := d.approved(token)
	if o := r.take(d.t.(*testing.T)); o.JobID != job.ID {
		d.t.Fatalf("the agent was given %s, want %s", o.JobID, job.ID)
	}
	r.report(d.t.(*testing.T), hpcsera.Report{JobID: job.ID, State: hpcsera.Running})
	return job, r
}

func TestLogsAreReadByRangeAndServedAsNothingToRun(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	job, agent := d.running(token)
	path := jobPath(job, "/logs/stdout")
	if a := d.call(token, "GET", path, nil); a.status != 200 || len(a.body) != 0 {
		t.Errorf("before the first byte: got %d %q, want an empty log", a.status, a.body)
	}
	must(t, agent.PutLog(t.Context(), job.ID, "stdout", 1, 0, []byte("<script>0123</script>\n")))
	err := agent.PutLog(t.Context(), job.ID, "stdout", 1, 5, []byte("x"))
	if hpcsera.CodeOf(err) != hpcsera.WrongOffset {
		t.Errorf("a wrong offset: got %v, want wrong_offset", err)
	}
	a := d.call(token, "GET", path, nil)
	for header, want := range map[string]string{
		"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'",
		"Content-Disposition": "attachment; filename=" + job.ID + ".stdout",
	} {
		if got := a.header.Get(header); got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
	for _, c := range []struct {
		header, want, contentRange string
		status                     int
	}{
		{"bytes=8-11", "0123", "bytes 8-11/22", 206},
		{"bytes=12-", "</script>\n", "bytes 12-21/22", 206},
		{"bytes=-1", "\n", "bytes 21-21/22", 206},
		{"lines=1-2", "<script>0123</script>\n", "", 416},
		{"bytes=22-", "", "bytes */22", 416},
	} {
		a := d.call(token, "GET", path, nil, "Range", c.header)
		if a.status != c.status {
			t.Errorf("Range %s: got %d, want %d", c.header, a.status, c.status)
			continue
		}
		if got := a.header.Get("Content-Range"); c.contentRange != "" && got != c.contentRange {
			t.Errorf("Range %s: Content-Range %q, want %q", c.header, got, c.contentRange)
		}
		if c.status == 206 && string(a.body) != c.want {
			t.Errorf("Range %s: got %q, want %q", c.header, a.body, c.want)
		}
		if c.status == 416 {
			a.refused(t, 416, hpcsera.InvalidField, "Range")
		}
	}
	// A client cannot write what an agent writes.
	d.call(token, "PUT", path+"?attempt=1&offset=22", []byte("forged")).refused(t, 404, hpcsera.NotFound, "")
}

func TestAFollowedLogGoesOnUntilTheJobHasEnded(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	job, agent := d.running(token)
	must(t, agent.PutLog(t.Context(), job.ID, "stdout", 1, 0, []byte("one\n")))
	r, err := http.NewRequestWithContext(t.Context(), "GET", d.url+jobPath(job, "/logs/stdout?follow=true"), nil)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := d.web.Do(r)
	must(t, err)
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	for i, want := range []string{"one", "two", "three"} {
		if !in.Scan() || in.Text() != want {
			t.Fatalf("line %d: got %q, %v, want %q", i, in.Text(), in.Err(), want)
		}
		switch want {
		case "one":
			must(t, agent.PutLog(t.Context(), job.ID, "stdout", 1, 4, []byte("two\n")))
		case "two":
			must(t, agent.PutLog(t.Context(), job.ID, "stdout", 1, 8, []byte("three\n")))
			agent.report(t, hpcsera.Report{JobID: job.ID, State: hpcsera.Succeeded, Exit: &hpcsera.Exit{}})
		}
	}
	if in.Scan() || in.Err() != nil {
		t.Errorf("after the job's end: got %q, %v, want the end", in.Text(), in.Err())
	}
	a := d.call(token, "GET", jobPath(job, "/logs/stdout?follow=true"), nil, "Range", "bytes=8-")
	if a.status != 206 || string(a.body) != "three\n" {
		t.Errorf("followed from an offset: got %d %q, want 206 and the rest", a.status, a.body)
	}
	d.call(token, "GET", jobPath(job, "/logs/stdout?follow=true"), nil, "Range", "bytes=0-3").refused(t, 400, hpcsera.InvalidField, "Range")
}

func TestAnArtifactsPathMayHaveSlashes(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	job, agent := d.running(token)
	content := "a,b\n1,2\n"
	artifact := hpcsera.Artifact{Path: "out/día 1/summary.csv", Size: int64(len(content)), Digest: hpcsera.DigestOf([]byte(content))}
	must(t, agent.PutBlob(t.Context(), job.ID, artifact.Digest, artifact.Size, strings.NewReader(content)))
	agent.report(t, hpcsera.Report{JobID: job.ID, State: hpcsera.Succeeded, Exit: &hpcsera.Exit{}, Artifacts: []hpcsera.Artifact{artifact}})
	list := as[hpcsera.ArtifactList](t, d.call(token, "GET", jobPath(job, "/artifacts"), nil), 200)
	if len(list.Artifacts) != 1 || list.Artifacts[0] != artifact {
		t.Fatalf("artifacts: got %+v, want %+v", list.Artifacts, artifact)
	}
	for _, path := range []string{"out/d%C3%ADa%201/summary.csv", "out%2Fd%C3%ADa%201%2Fsummary.csv"} {
		a := d.call(token, "GET", jobPath(job, "/artifacts/"+path), nil)
		if a.status != 200 || string(a.body) != content {
			t.Errorf("%s: got %d %q, want the bytes", path, a.status, a.body)
		}
		if got := a.header.Get("Content-Disposition"); got != "attachment; filename=summary.csv" {
			t.Errorf("%s: Content-Disposition %q, want the file's name", path, got)
		}
	}
	for _, path := range []string{"out", "out/summary.csv", "..%2F..%2Fserver.key", "%2e%2e/x", "out%2f%00"} {
		if a := d.call(token, "GET", jobPath(job, "/artifacts/"+path), nil); a.status != 404 && a.status != 400 {
			t.Errorf("%s: got %d, want 404 or 400", path, a.status)
		}
	}
}

func TestAnArtifactIsServedAsNothingToRun(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	job, agent := d.running(token)
	content := "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
	var artifacts []hpcsera.Artifact
	for _, name := range []string{"index.html", "plot.svg", "a.js", "a.pdf", "a\"; filename=b.html"} {
		artifacts = append(artifacts, hpcsera.Artifact{Path: name, Size: int64(len(content)), Digest: hpcsera.DigestOf([]byte(content))})
	}
	must(t, agent.PutBlob(t.Context(), job.ID, artifacts[0].Digest, artifacts[0].Size, strings.NewReader(content)))
	agent.report(t, hpcsera.Report{JobID: job.ID, State: hpcsera.Succeeded, Exit: &hpcsera.Exit{}, Artifacts: artifacts})
	for _, artifact := range artifacts {
		a := d.call(token, "GET", jobPath(job, "/artifacts/"+url.PathEscape(artifact.Path)), nil)
		kind, parameters, err := mime.ParseMediaType(a.header.Get("Content-Disposition"))
		if a.status != 200 || err != nil || kind != "attachment" || parameters["filename"] != artifact.Path {
			t.Errorf("%s: got %d, Content-Disposition %q (%v), want an attachment of that name", artifact.Path, a.status, a.header.Get("Content-Disposition"), err)
		}
		for name, want := range map[string]string{
			"Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s %q, want %q", artifact.Path, name, got, want)
			}
		}
	}
}
