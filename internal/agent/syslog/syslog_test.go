package syslog_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hpcsera/hpcsera/internal/agent/syslog"
)

// receiver listens as a host's log does.
func receiver(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func next(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestALineSaysWhoAndWhen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := receiver(t, path)
	l := syslog.New(path, "hpcsera-agent")
	defer l.Close()
	for p, want := range map[syslog.Priority]string{syslog.Info: "<38>", syslog.Alert: "<33>"} {
		if _, err := l.Send(p, "start job=j_1"); err != nil {
			t.Fatalf("got %v, want no error", err)
		}
		form := regexp.MustCompile(`^` + want + `[A-Z][a-z]{2} [ 0-9][0-9] \d\d:\d\d:\d\d hpcsera-agent\[\d+\]: start job=j_1$`)
		if got := next(t, c); !form.MatchString(got) {
			t.Errorf("got %q, want it to match %s", got, form)
		}
	}
}

func TestNobodyForgesALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	c := receiver(t, path)
	l := syslog.New(path, "hpcsera-agent")
	defer l.Close()
	if _, err := l.Send(syslog.Info, "a\n<0>kernel: panic\x00\x1b[2J\u202e"); err != nil {
		t.Fatal(err)
	}
	if got := next(t, c); strings.ContainsAny(got, "\n\x00\x1b\u202e") || !strings.Contains(got, `\u000a<0>kernel`) {
		t.Errorf("got %q, want all control characters escaped", got)
	}
	if _, err := l.Send(syslog.Info, strings.Repeat("ä", 5000)); err != nil {
		t.Fatal(err)
	}
	if got := next(t, c); len(got) > 2000 {
		t.Errorf("got %d bytes, want one line", len(got))
	}
}

func TestAMissingReceiverStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		l := syslog.New(path, "hpcsera-agent")
		defer l.Close()
		began := time.Now()
		for i := range 100 {
			if first, err := l.Send(syslog.Info, "x"); err == nil || first != (i == 0) {
				t.Errorf("nobody listens: got %v, first %t, want an error, told apart the first time", err, first)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		c := receiver(t, path)
		time.Sleep(10 * time.Second)
		if _, err := l.Send(syslog.Info, "here again"); err != nil {
			t.Errorf("got %v, want no error", err)
		}
		if got := next(t, c); !strings.Contains(got, "here again (100 lines before this one were lost)") {
			t.Errorf("got %q, want it to tell of the lost lines", got)
		}
	})
}

func TestAReceiverStartedAnewIsFound(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	c := receiver(t, path)
	l := syslog.New(path, "hpcsera-agent")
	defer l.Close()
	if _, err := l.Send(syslog.Info, "first"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c = receiver(t, path)
	if _, err := l.Send(syslog.Info, "second"); err != nil {
		t.Errorf("got %v, want no error", err)
	}
	if got := next(t, c); !strings.Contains(got, "second") || strings.Contains(got, "lost") {
		t.Errorf("got %q", got)
	}
	if err := syslog.Probe(path); err != nil {
		t.Errorf("Probe: got %v, want no error", err)
	}
	if err := syslog.Probe(filepath.Join(dir, "none")); err == nil {
		t.Error("Probe of none: got no error")
	}
}
