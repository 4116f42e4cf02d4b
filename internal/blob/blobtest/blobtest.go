// Package blobtest is the specification of blobs and logs: one suite that
// every implementation has to pass.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/blob"
)

// Store is both seams, as the server uses them.
type Store interface {
	blob.Store
	blob.Logs
}

// Target is an empty store of one test.
type Target struct {
	Store
	// Reopen opens the same store again, as a restarted server does.
	Reopen func(t *testing.T) Store
	// Small opens another store that has little space. grow gives it more.
	Small func(t *testing.T) (s Store, grow func())
}

// Run runs the suite. newTarget makes an empty store per test.
func Run(t *testing.T, newTarget func(t *testing.T) Target) {
	for group, tests := range map[string]map[string]func(*testing.T, Target){"blobs": blobTests, "logs": logTests, "full": fullTests} {
		t.Run(group, func(t *testing.T) {
			for name, test := range tests {
				t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { test(t, newTarget(t)) })
			}
		})
	}
}

var blobTests = map[string]func(*testing.T, Target){
	"bytes come back as they were put":                      testPut,
	"bytes with another digest are dropped":                 testWrongDigest,
	"an upload goes on where it broke off":                  testResume,
	"an upload goes on after a restart":                     testRestart,
	"a wrong offset is told the right one":                  testOffset,
	"uploads of different scopes never mix":                 testScopes,
	"an upload that others tamper with never gets a digest": testTampering,
	"nothing is visible before it is whole":                 testInvisible,
	"putting again is no error":                             testAgain,
	"many uploads of the same bytes leave one good blob":    testRace,
	"an upload that hangs holds up nobody":                  testHang,
	"no more than the total is read":                        testTotal,
	"an ended context ends the upload":                      testContext,
	"what is no digest is not found":                        testNoDigest,
}

func put(s blob.Store, scope, digest string, offset, total int64, r io.Reader) (int64, error) {
	return s.Put(context.Background(), scope, digest, offset, total, r)
}

// mustPut stores b whole.
func mustPut(t *testing.T, s blob.Store, scope string, b []byte) string {
	t.Helper()
	digest := hpcsera.DigestOf(b)
	if n, err := put(s, scope, digest, 0, int64(len(b)), bytes.NewReader(b)); err != nil || n != int64(len(b)) {
		t.Fatalf("Put: got %d (%v), want %d", n, err, len(b))
	}
	return digest
}

// content returns a blob's bytes.
func content(t *testing.T, s blob.Store, digest string) []byte {
	t.Helper()
	f, err := s.Open(t.Context(), digest)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return all(t, f)
}

func all(t *testing.T, f blob.File) []byte {
	t.Helper()
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if int64(len(b)) != f.Size() {
		t.Errorf("read %d bytes of a file of size %d", len(b), f.Size())
	}
	return b
}

func wantMissing(t *testing.T, s blob.Store, digest string) {
	t.Helper()
	f, err := s.Open(t.Context(), digest)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("Open: got %v, want %v", err, blob.ErrNotFound)
	}
}

func wantOffset(t *testing.T, err error, want int64) {
	t.Helper()
	var wrong *blob.OffsetError
	if !errors.As(err, &wrong) || wrong.Expected != want {
		t.Errorf("got %v, want an OffsetError that expects %d", err, want)
	}
}

// bytesOf returns n bytes that no other seed gives.
func bytesOf(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>8) ^ byte(i*7) ^ seed
	}
	return b
}

// failing gives b and then an error.
func failing(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b), errReader{}) }

var errBroken = errors.New("the connection broke")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }

func testPut(t *testing.T, s Target) {
	for _, n := range []int{0, 1, 4096, 64 << 10, 64<<10 + 1, 3_000_001} {
		b := bytesOf(1, n)
		digest := mustPut(t, s, "cfd", b)
		if !bytes.Equal(content(t, s, digest), b) {
			t.Errorf("%d bytes come back different", n)
		}
		if size, err := s.Uploaded(t.Context(), "cfd", digest); size != 0 || err != nil {
			t.Errorf("after the upload Uploaded is %d (%v), want 0", size, err)
		}
	}
}

func testWrongDigest(t *testing.T, s Target) {
	b := bytesOf(1, 100_000)
	digest := hpcsera.DigestOf(bytesOf(2, 100_000))
	_, err := put(s, "cfd", digest, 0, int64(len(b)), bytes.NewReader(b))
	if !errors.Is(err, blob.ErrDigest) {
		t.Errorf("got %v, want %v", err, blob.ErrDigest)
	}
	wantMissing(t, s, digest)
	if size, err := s.Uploaded(t.Context(), "cfd", digest); size != 0 || err != nil {
		t.Errorf("after the refusal Uploaded is %d (%v), want 0", size, err)
	}
	if got := mustPut(t, s, "cfd", bytesOf(2, 100_000)); got != digest {
		t.Errorf("the right bytes have the digest %s, want %s", got, digest)
	}
}

func testResume(t *testing.T, s Target) {
	b := bytesOf(1, 500_000)
	digest, total := hpcsera.DigestOf(b), int64(len(b))
	n, err := put(s, "cfd", digest, 0, total, failing(b[:200_000]))
	if n != 200_000 || !errors.Is(err, errBroken) {
		t.Errorf("the broken Put: got %d (%v), want 200000 and the reader's error", n, err)
	}
	wantMissing(t, s, digest)
	if size, err := s.Uploaded(t.Context(), "cfd", digest); size != 200_000 || err != nil {
		t.Errorf("Uploaded is %d (%v), want 200000", size, err)
	}
	// A part that ends early is no error either: the upload is just not whole.
	if n, err := put(s, "cfd", digest, 200_000, total, bytes.NewReader(b[200_000:300_000])); n != 300_000 || err != nil {
		t.Errorf("the second part: got %d (%v), want 300000", n, err)
	}
	if n, err := put(s, "cfd", digest, 300_000, total, bytes.NewReader(b[300_000:])); n != total || err != nil {
		t.Errorf("the last part: got %d (%v), want %d", n, err, total)
	}
	if !bytes.Equal(content(t, s, digest), b) {
		t.Error("the bytes come back different")
	}
}

func testRestart(t *testing.T, s Target) {
	b := bytesOf(1, 100_000)
	digest, total := hpcsera.DigestOf(b), int64(len(b))
	whole := mustPut(t, s, "cfd", bytesOf(2, 10))
	if _, err := put(s, "cfd", digest, 0, total, bytes.NewReader(b[:70_000])); err != nil {
		t.Fatal(err)
	}
	again := s.Reopen(t)
	if size, err := again.Uploaded(t.Context(), "cfd", digest); size != 70_000 || err != nil {
		t.Errorf("Uploaded is %d (%v), want 70000", size, err)
	}
	if _, err := put(again, "cfd", digest, 70_000, total, bytes.NewReader(b[70_000:])); err != nil {
		t.Errorf("Put: %v", err)
	}
	if !bytes.Equal(content(t, again, digest), b) || len(content(t, again, whole)) != 10 {
		t.Error("the bytes come back different")
	}
}

func testOffset(t *testing.T, s Target) {
	b := bytesOf(1, 1000)
	digest := hpcsera.DigestOf(b)
	unread := errReader{} // whoever is wrong is told before his bytes are read
	for _, offset := range []int64{1, 1000, 1001, -1} {
		_, err := put(s, "cfd", digest, offset, 1000, unread)
		wantOffset(t, err, 0)
	}
	if _, err := put(s, "cfd", digest, 0, 1000, bytes.NewReader(b[:400])); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 399, 401, 1000} {
		_, err := put(s, "cfd", digest, offset, 1000, unread)
		wantOffset(t, err, 400)
	}
	_, err := put(s, "cfd", digest, 400, 300, unread) // a total below what is there
	wantOffset(t, err, 400)
	if n, err := put(s, "cfd", digest, 400, 1000, bytes.NewReader(b[400:])); n != 1000 || err != nil {
		t.Errorf("the right offset: got %d (%v), want 1000", n, err)
	}
}

func testScopes(t *testing.T, s Target) {
	b := bytesOf(1, 1000)
	digest := hpcsera.DigestOf(b)
	if _, err := put(s, "cfd", digest, 0, 1000, bytes.NewReader(b[:400])); err != nil {
		t.Fatal(err)
	}
	for _, scope := range []string{"bio", "", "../cfd", "cfd/", "cfd\x00", "CFD", strings.Repeat("x", 5000)} {
		if size, err := s.Uploaded(t.Context(), scope, digest); size != 0 || err != nil {
			t.Errorf("Uploaded of scope %.20q is %d (%v), want 0", scope, size, err)
		}
		_, err := put(s, scope, digest, 400, 1000, bytes.NewReader(b[400:]))
		wantOffset(t, err, 0)
	}
	mustPut(t, s, "bio", b) // another project has the whole blob
	if size, err := s.Uploaded(t.Context(), "cfd", digest); size != 400 || err != nil {
		t.Errorf("Uploaded is %d (%v), want still 400: what others have proves nothing", size, err)
	}
}

// testTampering makes the store drop an upload that somebody still goes on
// with, and puts other bytes in its place.
func testTampering(t *testing.T, s Target) {
	good, bad := bytesOf(1, 200_000), bytesOf(2, 100_000)
	digest := hpcsera.DigestOf(good)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := put(s, "cfd", digest, 0, 200_000, r)
		r.Close() // so that nobody waits to send more
		done <- err
	}()
	send(t, w, good[:100_000])
	waitUploaded(t, s, digest, 100_000)
	// Whole at 100 000 bytes, says a liar: so the upload is dropped.
	if _, err := put(s, "cfd", digest, 100_000, 100_000, errReader{}); !errors.Is(err, blob.ErrDigest) {
		t.Errorf("got %v, want %v", err, blob.ErrDigest)
	}
	if _, err := put(s, "cfd", digest, 0, 200_000, bytes.NewReader(bad)); err != nil {
		t.Errorf("Put: %v", err)
	}
	send(t, w, good[100_000:])
	w.Close()
	if err := <-done; !errors.Is(err, blob.ErrDigest) {
		t.Errorf("the tampered upload: got %v, want %v", err, blob.ErrDigest)
	}
	wantMissing(t, s, digest)
}

func send(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Errorf("send: %v", err)
	}
}

// waitUploaded waits until the bytes that were handed over are stored.
func waitUploaded(t *testing.T, s blob.Store, digest string, want int64) {
	t.Helper()
	for {
		size, err := s.Uploaded(t.Context(), "cfd", digest)
		if err != nil || t.Context().Err() != nil {
			t.Fatalf("Uploaded: %d %v", size, err)
		}
		if size == want {
			return
		}
	}
}

func testInvisible(t *testing.T, s Target) {
	b := bytesOf(1, 100)
	digest := hpcsera.DigestOf(b)
	for i := range b {
		wantMissing(t, s, digest)
		if _, err := put(s, "cfd", digest, int64(i), 100, bytes.NewReader(b[i:i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(content(t, s, digest), b) {
		t.Error("the bytes come back different")
	}
}

func testAgain(t *testing.T, s Target) {
	b := bytesOf(1, 1000)
	digest := mustPut(t, s, "cfd", b)
	f, err := s.Open(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "cfd", b)
	mustPut(t, s, "bio", b)
	if !bytes.Equal(all(t, f), b) || !bytes.Equal(content(t, s, digest), b) {
		t.Error("the bytes come back different, or from a file that was open")
	}
}

func testRace(t *testing.T, s Target) {
	b := bytesOf(1, 300_000)
	digest := hpcsera.DigestOf(b)
	var wg sync.WaitGroup
	for n := range 12 {
		wg.Go(func() {
			scope := fmt.Sprintf("scope-%d", n%3)
			_, err := put(s, scope, digest, 0, int64(len(b)), bytes.NewReader(b))
			var wrong *blob.OffsetError
			if err != nil && !errors.As(err, &wrong) {
				t.Errorf("Put: got %v, want none or an OffsetError", err)
			}
		})
	}
	wg.Wait()
	for n := range 3 { // whoever lost the race goes on
		scope := fmt.Sprintf("scope-%d", n)
		size, err := s.Uploaded(t.Context(), scope, digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := put(s, scope, digest, size, int64(len(b)), bytes.NewReader(b[size:])); err != nil {
			t.Errorf("Put: %v", err)
		}
	}
	if !bytes.Equal(content(t, s, digest), b) {
		t.Error("the bytes come back different")
	}
}

func testHang(t *testing.T, s Target) {
	b := bytesOf(1, 100_000)
	digest := hpcsera.DigestOf(b)
	r, w := io.Pipe()
	hung := make(chan error, 1)
	go func() {
		_, err := put(s, "cfd", digest, 0, int64(len(b)), r)
		r.Close() // so that nobody waits to send more
		hung <- err
	}()
	send(t, w, b[:1000])
	waitUploaded(t, s, digest, 1000)
	// The client gave up and comes back while the server still waits.
	if n, err := put(s, "cfd", digest, 1000, int64(len(b)), bytes.NewReader(b[1000:])); n != int64(len(b)) || err != nil {
		t.Errorf("going on: got %d (%v), want %d", n, err, len(b))
	}
	if !bytes.Equal(content(t, s, digest), b) {
		t.Error("the bytes come back different")
	}
	send(t, w, b[1000:2000]) // too late: it must not touch the blob
	wantOffset(t, <-hung, 0)
	if !bytes.Equal(content(t, s, digest), b) {
		t.Error("the late bytes changed the blob")
	}
}

func testTotal(t *testing.T, s Target) {
	b := bytesOf(1, 1000)
	digest := hpcsera.DigestOf(b)
	r := bytes.NewReader(append(bytes.Clone(b), "more"...))
	if n, err := put(s, "cfd", digest, 0, 1000, r); n != 1000 || err != nil {
		t.Errorf("Put: got %d (%v), want 1000", n, err)
	}
	if r.Len() != 4 {
		t.Errorf("%d bytes are left, want 4", r.Len())
	}
	if !bytes.Equal(content(t, s, digest), b) {
		t.Error("the bytes come back different")
	}
}

func testContext(t *testing.T, s Target) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := bytesOf(1, 1000)
	digest := hpcsera.DigestOf(b)
	if _, err := s.Put(ctx, "cfd", digest, 0, 1000, bytes.NewReader(b)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	wantMissing(t, s, digest)
}

func testNoDigest(t *testing.T, s Target) {
	for _, digest := range []string{"", "sha256:", "sha256:../../../etc/passwd", strings.Repeat("a", 64), "sha256:" + strings.Repeat("A", 64)} {
		wantMissing(t, s, digest)
		if size, err := s.Uploaded(t.Context(), "cfd", digest); size != 0 || err != nil {
			t.Errorf("Uploaded(%q) is %d (%v), want 0", digest, size, err)
		}
		if _, err := put(s, "cfd", digest, 0, 1, strings.NewReader("x")); !errors.Is(err, blob.ErrDigest) {
			t.Errorf("Put(%q): got %v, want %v", digest, err, blob.ErrDigest)
		}
	}
}
