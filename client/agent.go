package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Agent speaks the agent's half of the API: work, reports, logs and blobs,
// each request proven by the agent's key. It does not retry, apart from the
// one retry that a new DPoP nonce asks for: when to try again is decided by
// the agent's loops. Methods can be called concurrently.
type Agent struct {
	server     string // public URL, without a slash at its end
	id         string
	credential string
	key        *Key
	http       *http.Client
	mu         sync.Mutex
	nonce      string
}

// NewAgent returns the agent with that credential, whose text names its id.
func NewAgent(server, credential string, key *Key, transport http.RoundTripper) (*Agent, error) {
	id, _, ok := hpcsera.ParseSecret(credential)
	if !ok || !strings.HasPrefix(id, "ag_") {
		return nil, errors.New("the credential is not an agent's: it must be the text that `hpcserad agent create` printed")
	}
	return &Agent{
		server: strings.TrimRight(server, "/"), id: id, credential: credential, key: key,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// ID returns the agent's id.
func (a *Agent) ID() string { return a.id }

// Work polls for orders. It blocks up to w.Wait seconds.
func (a *Agent) Work(ctx context.Context, w hpcsera.WorkRequest) (hpcsera.WorkAnswer, error) {
	var answer hpcsera.WorkAnswer
	err := a.post(ctx, "/agents/"+a.id+"/work", w, &answer)
	if err == nil {
		err = answer.Complete()
	}
	return answer, err
}

// Report sends facts.
func (a *Agent) Report(ctx context.Context, r hpcsera.ReportRequest) (hpcsera.ReportAnswer, error) {
	var answer hpcsera.ReportAnswer
	err := a.post(ctx, "/agents/"+a.id+"/reports", r, &answer)
	if err == nil && len(answer.Outcomes) != len(r.Reports) {
		err = fmt.Errorf("the server answered %d of %d reports", len(answer.Outcomes), len(r.Reports))
	}
	return answer, err
}

// PutLog appends to a stream of an attempt. When the server expects another
// offset the error is an hpcsera.Error with code WrongOffset and Expected.
func (a *Agent) PutLog(ctx context.Context, job, stream string, attempt int, offset int64, b []byte) error {
	path := fmt.Sprintf("/jobs/%s/logs/%s?attempt=%d&offset=%d", job, stream, attempt, offset)
	return a.send(ctx, http.MethodPut, path, "application/octet-stream", nil, func() io.Reader { return bytes.NewReader(b) }, into{io.Discard})
}

// PutBlob uploads an artifact of a job, going on where an earlier try ended.
func (a *Agent) PutBlob(ctx context.Context, job, digest string, size int64, content io.ReaderAt) error {
	path := "/blobs/" + digest + "?job=" + job
	u := upload{
		digest: digest, size: size,
		uploaded: func(ctx context.Context) (int64, bool, error) { return a.uploaded(ctx, path) },
		put: func(ctx context.Context, offset, n int64) (uploadState, error) {
			header := http.Header{}
			if part := contentRange(offset, n, size); part != "" {
				header.Set("Content-Range", part)
			}
			var state uploadState
			err := a.send(ctx, http.MethodPut, path, "application/octet-stream", header,
				func() io.Reader { return io.NewSectionReader(content, offset, n) }, decoded{path, &state})
			return state, err
		},
	}
	return u.send(ctx, func(int64) {})
}

// uploaded asks how much of a blob is there.
func (a *Agent) uploaded(ctx context.Context, path string) (size int64, whole bool, err error) {
	var have stored
	err = a.send(ctx, http.MethodHead, path, "", nil, nil, &have)
	return have.size, have.whole, err
}

// Enrolled asks the server whether it accepts this agent, with a request that
// changes nothing.
func (a *Agent) Enrolled(ctx context.Context) error {
	_, _, err := a.uploaded(ctx, "/blobs/"+hpcsera.DigestOf(nil))
	return err
}

// GetBlob writes a blob of a job's code to w.
func (a *Agent) GetBlob(ctx context.Context, job, digest string, w io.Writer) error {
	return a.send(ctx, http.MethodGet, "/blobs/"+digest+"?job="+job, "", nil, nil, into{w})
}

// Use makes requests from now on carry another credential of the same agent.
func (a *Agent) Use(credential string) error {
	if id, _, ok := hpcsera.ParseSecret(credential); !ok || id != a.id {
		return errors.New("the credential is not this agent's")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.credential = credential
	return nil
}

// Renew returns a new credential for the agent's key. The old one is good until
// the new one is used, so a lost answer costs nothing; renewing again gives
// another one.
func (a *Agent) Renew(ctx context.Context) (hpcsera.RenewedAgent, error) {
	var answer hpcsera.RenewedAgent
	err := a.post(ctx, "/agents/"+a.id+"/renew", nil, &answer)
	return answer, err
}

func (a *Agent) post(ctx context.Context, path string, in, out any) error {
	var body func() io.Reader // nil: none
	kind := ""
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, kind = func() io.Reader { return bytes.NewReader(text) }, "application/json"
	}
	return a.send(ctx, http.MethodPost, path, kind, nil, body, decoded{path, out})
}

// reading is what becomes of an answer.
type reading interface{ take(*http.Response) error }

// into copies a good answer's body.
type into struct{ io.Writer }

func (i into) take(res *http.Response) error {
	if err := check(res); err != nil {
		return err
	}
	if _, err := io.Copy(i.Writer, res.Body); err != nil {
		return hpcsera.Errorf(hpcsera.Unavailable, "the answer broke off: %w", err)
	}
	return nil
}

// decoded reads a good answer's body into out.
type decoded struct {
	path string
	out  any
}

func (d decoded) take(res *http.Response) error {
	var body bytes.Buffer
	if err := (into{&body}).take(res); err != nil {
		return err
	}
	if err := json.Unmarshal(body.Bytes(), d.out); err != nil {
		return fmt.Errorf("%s: the answer is not what this agent understands: %w", d.path, err)
	}
	return nil
}

// stored is how much of a blob there is.
type stored struct {
	size  int64
	whole bool
}

func (s *stored) take(res *http.Response) (err error) {
	s.size, s.whole, err = haveOf(res)
	return err
}

// send makes one request, and a second one when the server asks for its
// current DPoP nonce. body makes a fresh reader for each.
func (a *Agent) send(ctx context.Context, method, path, contentType string, header http.Header, body func() io.Reader, answer reading) error {
	for try := 0; ; try++ {
		err := a.once(ctx, method, path, contentType, header, body, answer)
		if try == 0 && hpcsera.CodeOf(err) == hpcsera.UseDPoPNonce {
			continue
		}
		return err
	}
}

func (a *Agent) once(ctx context.Context, method, path, contentType string, header http.Header, body func() io.Reader, answer reading) error {
	var reader io.Reader
	if body != nil {
		reader = body()
	}
	target := a.server + "/api/v1" + path
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if section, ok := reader.(*io.SectionReader); ok {
		req.ContentLength = section.Size()
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	a.mu.Lock()
	nonce, credential := a.nonce, a.credential
	a.mu.Unlock()
	bare, _, _ := strings.Cut(target, "?")
	proof, err := a.key.proof(method, bare, credential, nonce, time.Now())
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "DPoP "+credential)
	req.Header.Set("DPoP", proof)
	res, err := a.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which the caller knows
		}
		return hpcsera.Errorf(hpcsera.Unavailable, "the server cannot be reached: %w", err)
	}
	defer res.Body.Close()
	if fresh := res.Header.Get("DPoP-Nonce"); fresh != "" {
		a.mu.Lock()
		a.nonce = fresh
		a.mu.Unlock()
	}
	return answer.take(res)
}
