package blobtest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/blob"
)

var fullTests = map[string]func(*testing.T, Target){
	"a full disk breaks an upload, which goes on with space again": testFullUpload,
	"a full disk breaks a log, which goes on with space again":     testFullLog,
}

// tooBig is more than a small store has room for.
const tooBig = 8 << 20

func testFullUpload(t *testing.T, target Target) {
	s, grow := target.Small(t)
	there := mustPut(t, s, "cfd", bytesOf(1, 1000))
	b := bytesOf(2, tooBig)
	digest := hpcsera.DigestOf(b)
	n, err := put(s, "cfd", digest, 0, tooBig, bytes.NewReader(b))
	if !errors.Is(err, blob.ErrFull) {
		t.Fatalf("got %d (%v), want %v", n, err, blob.ErrFull)
	}
	wantMissing(t, s, digest)
	size, err := s.Uploaded(t.Context(), "cfd", digest)
	if size != n || err != nil || size == 0 {
		t.Errorf("Uploaded is %d (%v), want what Put said, %d, and something", size, err, n)
	}
	if len(content(t, s, there)) != 1000 {
		t.Error("a blob from before is damaged")
	}
	grow()
	if n, err := put(s, "cfd", digest, size, tooBig, bytes.NewReader(b[size:])); n != tooBig || err != nil {
		t.Fatalf("with space again: got %d (%v), want %d", n, err, tooBig)
	}
	if !bytes.Equal(content(t, s, digest), b) {
		t.Error("the bytes come back different")
	}
}

func testFullLog(t *testing.T, target Target) {
	s, grow := target.Small(t)
	mustAppend(t, s, stream, 0, "start\n")
	b := bytesOf(2, tooBig)
	n, err := s.AppendLog(t.Context(), stream, 6, bytes.NewReader(b))
	if !errors.Is(err, blob.ErrFull) {
		t.Fatalf("got %d (%v), want %v", n, err, blob.ErrFull)
	}
	if got := logText(t, s, stream); got != "start\n"+string(b[:n-6]) {
		t.Errorf("the log has %d bytes, want the %d that Append said, unchanged", len(got), n)
	}
	grow()
	mustAppend(t, s, stream, n, string(b[n-6:]))
	if got := logText(t, s, stream); got != "start\n"+string(b) {
		t.Errorf("the log has %d bytes, want %d", len(got), tooBig+6)
	}
}
