package blobtest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/hpcsera/hpcsera/internal/blob"
)

var logTests = map[string]func(*testing.T, Target){
	"a log grows at its end only":                   testLog,
	"a log does not exist before its first byte":    testNoLog,
	"bytes are readable as they come":               testLive,
	"a log goes on after a restart":                 testLogRestart,
	"of two that append at once each byte is once":  testLogRace,
	"deleting takes the streams below, no others":   testDeleteLogs,
	"names that lead elsewhere are refused":         testLogNames,
	"a deleted log starts again, not in its middle": testDeletedLog,
}

const stream = "j_00000000000000000000/1/stdout"

func mustAppend(t *testing.T, s blob.Logs, name string, offset int64, text string) {
	t.Helper()
	n, err := s.AppendLog(t.Context(), name, offset, strings.NewReader(text))
	if want := offset + int64(len(text)); n != want || err != nil {
		t.Fatalf("AppendLog: got %d (%v), want %d", n, err, want)
	}
}

func logText(t *testing.T, s blob.Logs, name string) string {
	t.Helper()
	f, err := s.OpenLog(t.Context(), name)
	if err != nil {
		t.Fatalf("OpenLog: %v", err)
	}
	return string(all(t, f))
}

func wantNoLog(t *testing.T, s blob.Logs, name string) {
	t.Helper()
	f, err := s.OpenLog(t.Context(), name)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("OpenLog(%q): got %v, want %v", name, err, blob.ErrNotFound)
	}
}

func testLog(t *testing.T, s Target) {
	mustAppend(t, s, stream, 0, "one\n")
	mustAppend(t, s, stream, 4, "two\n")
	mustAppend(t, s, stream, 8, "")
	for _, offset := range []int64{0, 4, 9, 1000, -1} {
		n, err := s.AppendLog(t.Context(), stream, offset, errReader{})
		wantOffset(t, err, 8)
		if n != 8 {
			t.Errorf("the size beside the error is %d, want 8", n)
		}
	}
	n, err := s.AppendLog(t.Context(), stream, 8, failing([]byte("three\n")))
	if n != 14 || !errors.Is(err, errBroken) {
		t.Errorf("a broken append: got %d (%v), want 14 and the reader's error", n, err)
	}
	if got, want := logText(t, s, stream), "one\ntwo\nthree\n"; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	f, err := s.OpenLog(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	part := make([]byte, 3)
	if _, err := f.ReadAt(part, 4); err != nil || string(part) != "two" {
		t.Errorf("a range is %q (%v), want two", part, err)
	}
}

func testNoLog(t *testing.T, s Target) {
	wantNoLog(t, s, stream)
	mustAppend(t, s, stream, 0, "")
	wantNoLog(t, s, stream)
	_, err := s.AppendLog(t.Context(), stream, 5, strings.NewReader("x"))
	wantOffset(t, err, 0)
	wantNoLog(t, s, stream)
	mustAppend(t, s, stream, 0, "x")
	wantNoLog(t, s, "j_00000000000000000000/1")
	wantNoLog(t, s, "j_00000000000000000000/1/stderr")
}

func testLive(t *testing.T, s Target) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.AppendLog(t.Context(), stream, 0, r)
		r.Close() // so that nobody waits to send more
		done <- err
	}()
	send(t, w, []byte("first\n"))
	for got := ""; got != "first\n"; {
		if t.Context().Err() != nil {
			t.Fatal("the bytes do not appear while the writer waits")
		}
		if f, err := s.OpenLog(t.Context(), stream); err == nil {
			got = string(all(t, f))
		}
	}
	w.Close()
	if err := <-done; err != nil {
		t.Errorf("AppendLog: %v", err)
	}
}

func testLogRestart(t *testing.T, s Target) {
	mustAppend(t, s, stream, 0, "one\n")
	again := s.Reopen(t)
	mustAppend(t, again, stream, 4, "two\n")
	if got := logText(t, again, stream); got != "one\ntwo\n" {
		t.Errorf("the log is %q, want both lines", got)
	}
}

func testLogRace(t *testing.T, s Target) {
	text := string(bytesOf(1, 200_000))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			// As an agent does: go on where the server says.
			for offset := int64(0); offset < int64(len(text)); {
				end := min(offset+7_000, int64(len(text)))
				n, err := s.AppendLog(t.Context(), stream, offset, strings.NewReader(text[offset:end]))
				var wrong *blob.OffsetError
				switch {
				case errors.As(err, &wrong):
					offset = wrong.Expected
				case err != nil:
					t.Errorf("AppendLog: %v", err)
					return
				default:
					offset = n
				}
			}
		})
	}
	wg.Wait()
	if logText(t, s, stream) != text {
		t.Error("the log differs from what each of the writers sent")
	}
}

func testDeleteLogs(t *testing.T, s Target) {
	for _, name := range []string{"j_a/1/stdout", "j_a/1/stderr", "j_a/2/stdout", "j_ab/1/stdout", "j_b/1/stdout"} {
		mustAppend(t, s, name, 0, "x")
	}
	for _, prefix := range []string{"j_a", "j_a/", "j_none", "..", ".", "", "/", "j_b/../j_ab"} {
		if err := s.DeleteLogs(t.Context(), prefix); err != nil {
			t.Errorf("DeleteLogs(%q): %v", prefix, err)
		}
	}
	for _, name := range []string{"j_a/1/stdout", "j_a/1/stderr", "j_a/2/stdout"} {
		wantNoLog(t, s, name)
	}
	for _, name := range []string{"j_ab/1/stdout", "j_b/1/stdout"} {
		if got := logText(t, s, name); got != "x" {
			t.Errorf("%s is %q, want it untouched", name, got)
		}
	}
}

func testLogNames(t *testing.T, s Target) {
	for _, name := range []string{"", ".", "..", "../x", "/etc/passwd", "a/../../x", "a//b", "a/", "a\x00b", "a\nb", "a b", "ä"} {
		wantNoLog(t, s, name)
		if _, err := s.AppendLog(t.Context(), name, 0, strings.NewReader("x")); err == nil {
			t.Errorf("AppendLog(%q): got no error", name)
		}
	}
}

func testDeletedLog(t *testing.T, s Target) {
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := s.AppendLog(t.Context(), stream, 0, r)
		r.Close() // so that nobody waits to send more
		done <- err
	}()
	send(t, w, []byte("one\n"))
	send(t, w, []byte("two\n"))
	if err := s.DeleteLogs(t.Context(), "j_00000000000000000000"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("x"), 100)); err == nil {
		w.Close()
	}
	err := <-done
	var wrong *blob.OffsetError
	if err != nil && !errors.As(err, &wrong) {
		t.Errorf("got %v, want an OffsetError", err)
	}
	if f, err := s.OpenLog(t.Context(), stream); err == nil {
		if got := string(all(t, f)); strings.Contains(got, "\x00") {
			t.Errorf("the log has a hole: %q", got)
		}
	}
}
