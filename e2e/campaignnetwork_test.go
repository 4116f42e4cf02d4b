package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// weather is what happens to requests, each in percent of them.
type weather struct {
	lostRequest, lostAnswer, truncated, doubled, delayed int
	// applied loses the answer of each write once: it failed, but was applied.
	applied bool
	cut     bool
}

// faultProxy stands between everybody and the replicas of a server. It takes
// whole requests and answers, so that each fault hits one of them.
type faultProxy struct {
	server    *http.Server
	url       string
	transport *http.Transport
	life      context.Context

	mu      sync.Mutex
	dice    *rand.Rand
	now     weather
	servers []string          // their addresses
	lost    map[[32]byte]bool // writes whose answer was lost
	cutOff  chan struct{}     // closed while the network is cut
	injured map[string]int    // how often what happened
}

func newFaultProxy(t *testing.T, seed uint64) *faultProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(context.Background())
	p := &faultProxy{
		url: "http://" + listener.Addr().String(), life: life, dice: rand.New(rand.NewPCG(seed, 1)),
		transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
		lost:      map[[32]byte]bool{}, cutOff: make(chan struct{}), injured: map[string]int{},
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = p.server.Serve(listener) })
	t.Cleanup(func() {
		end()
		_ = p.server.Close()
		p.transport.CloseIdleConnections()
		serving.Wait()
	})
	return p
}

// front adds a replica.
func (p *faultProxy) front(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers = append(p.servers, address)
}

// change lets the weather turn.
func (p *faultProxy) change(how func(*weather)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.now.cut
	how(&p.now)
	switch {
	case !was && p.now.cut:
		close(p.cutOff)
	case was && !p.now.cut:
		p.cutOff = make(chan struct{})
	}
}

// fate is what happens to one request.
type fate struct {
	lostRequest, lostAnswer, truncated, doubled bool
	before, behind                              time.Duration
	servers                                     []string
	cutOff                                      <-chan struct{}
}

func (p *faultProxy) draw(r *http.Request, body []byte) fate {
	p.mu.Lock()
	defer p.mu.Unlock()
	hit := func(name string, percent int) bool {
		if p.dice.IntN(100) >= percent {
			return false
		}
		p.injured[name]++
		return true
	}
	w := p.now
	f := fate{
		lostRequest: hit("request lost", w.lostRequest), lostAnswer: hit("answer lost", w.lostAnswer),
		truncated: hit("answer truncated", w.truncated), doubled: hit("request doubled", w.doubled), cutOff: p.cutOff,
	}
	if hit("answer delayed", w.delayed) {
		f.before = time.Duration(p.dice.IntN(2000)) * time.Millisecond
		f.behind = time.Duration(p.dice.IntN(2000)) * time.Millisecond
	}
	if key := sha256.Sum256(append([]byte(r.Method+r.URL.Path+"\x00"), body...)); w.applied && r.Method != http.MethodGet && !p.lost[key] {
		p.lost[key], f.lostAnswer = true, true
		p.injured["write applied, its answer lost"]++
	}
	first := p.dice.IntN(max(len(p.servers), 1))
	for i := range p.servers {
		f.servers = append(f.servers, p.servers[(first+i)%len(p.servers)])
	}
	return f
}

// ServeHTTP carries one request, or breaks its connection.
func (p *faultProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f := p.draw(r, body)
	if f.lostRequest {
		panic(http.ErrAbortHandler)
	}
	p.wait(f.before, f.cutOff)
	if f.doubled {
		again := f
		go func() { _, _, _ = p.forward(r, body, again) }()
	}
	res, text, err := p.forward(r, body, f)
	p.wait(f.behind, f.cutOff)
	if err != nil || f.lostAnswer {
		panic(http.ErrAbortHandler)
	}
	header := w.Header()
	for name, values := range res.Header {
		header[name] = values
	}
	header.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(res.StatusCode)
	if f.truncated && len(text) > 1 {
		_, _ = w.Write(text[:len(text)/2])
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(text)
}

// wait waits, and ends the request when the network is cut.
func (p *faultProxy) wait(d time.Duration, cutOff <-chan struct{}) {
	select {
	case <-cutOff:
		panic(http.ErrAbortHandler)
	default:
	}
	if d == 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-cutOff:
		panic(http.ErrAbortHandler)
	}
}

// forward asks the first replica that can be reached. A request that has begun
// goes on there though its sender is gone, as it does behind any proxy.
func (p *faultProxy) forward(r *http.Request, body []byte, f fate) (*http.Response, []byte, error) {
	var last error
	for _, address := range f.servers {
		ctx, cancel := context.WithTimeout(p.life, 90*time.Second)
		defer cancel()
		go func() {
			select {
			case <-f.cutOff:
				cancel()
			case <-ctx.Done():
			}
		}()
		out := r.Clone(ctx)
		out.URL.Scheme, out.URL.Host, out.RequestURI = "http", address, ""
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		out.TransferEncoding = nil
		res, err := p.transport.RoundTrip(out)
		if err != nil {
			last = err
			if _, refused := err.(*net.OpError); refused {
				continue
			}
			return nil, nil, err
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		return res, text, err
	}
	return nil, nil, last
}
