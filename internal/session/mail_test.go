package session_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/session"
)

// outbox is a Mailer that keeps mails.
type outbox struct {
	mails chan session.Mail
	down  atomic.Bool
}

func (o *outbox) fail(down bool) { o.down.Store(down) }

func newOutbox() *outbox { return &outbox{mails: make(chan session.Mail, 100)} }

func (o *outbox) Send(_ context.Context, m session.Mail) error {
	if o.down.Load() {
		return errors.New("the mail server is down")
	}
	o.mails <- m
	return nil
}

// running runs the background of a rig until the test ends.
func (r *rig) running() {
	ctx, stop := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	r.t.Cleanup(func() { stop(); wg.Wait() })
}

// wantMail waits for a mail with a subject.
func (r *rig) wantMail(to, subject string) session.Mail {
	r.t.Helper()
	for {
		select {
		case m := <-r.mails.mails:
			if m.To == to && strings.Contains(m.Subject, subject) {
				return m
			}
		case <-time.After(30 * time.Second):
			r.t.Fatalf("no mail to %s about %q", to, subject)
		}
	}
}

// sink is an SMTP server that takes one mail and keeps all that was said.
func sink(t *testing.T) (address string, said func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var text strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		reply := func(s string) { _, _ = conn.Write([]byte(s + "\r\n")) }
		reply("220 sink")
		data := false
		for in := bufio.NewScanner(conn); in.Scan(); {
			line := in.Text()
			text.WriteString(line + "\n")
			switch {
			case data && line == ".":
				data = false
				reply("250 taken")
			case data:
			case strings.HasPrefix(line, "EHLO"):
				reply("250 sink")
			case line == "DATA":
				data = true
				reply("354 go on")
			case line == "QUIT":
				reply("221 bye")
				return
			default:
				reply("250 ok")
			}
		}
	}()
	return l.Addr().String(), func() string { <-done; return text.String() }
}

func TestMailsCannotBeGivenHeaders(t *testing.T) {
	address, _ := sink(t)
	m := &session.SMTP{Server: address, From: "HPCSerA <hpcsera@example.org>", Now: time.Now}
	for _, to := range []string{"alice@example.org\r\nBcc: mallory@example.org", "alice@example.org, mallory@example.org", "", "alice"} {
		if err := m.Send(t.Context(), session.Mail{To: to, Subject: "s", Text: "t"}); err == nil {
			t.Errorf("to %q: got no error", to)
		}
	}
}

func TestMailsReachTheServer(t *testing.T) {
	address, said := sink(t)
	m := &session.SMTP{Server: address, From: "HPCSerA <hpcsera@example.org>", Now: time.Now}
	err := m.Send(t.Context(), session.Mail{To: "alice@example.org", Subject: "passkey removed\r\nBcc: x@example.org ä", Text: "It was ä.\n.\nQUIT\n"})
	if err != nil {
		t.Fatal(err)
	}
	got := said()
	for _, want := range []string{"MAIL FROM:<hpcsera@example.org>", "RCPT TO:<alice@example.org>", "Subject: =?utf-8?q?", "It was =C3=A4.", "Auto-Submitted"} {
		if !strings.Contains(got, want) {
			t.Errorf("the server was not told %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "\nBcc:") {
		t.Errorf("the subject became a header:\n%s", got)
	}
}

func TestAMailInOthersWordsReachesAPersonOrSaysThatItDidNot(t *testing.T) {
	r := newRig(t)
	r.running()
	alice := r.first("alice")
	if err := r.Service.Mail(t.Context(), "mallory", "s", "t"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("to nobody: got %v, want not_found", err)
	}
	alice.post("/auth/account/mail", "mail", "")
	if err := r.Service.Mail(t.Context(), "alice", "s", "t"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("to somebody without an address: got %v, want not_found", err)
	}
	alice.post("/auth/account/mail", "mail", "alice@example.org")
	if err := r.Service.Mail(t.Context(), "alice", "hpc: ends", "It ends."); err != nil {
		t.Fatal(err)
	}
	if m := r.wantMail("alice@example.org", "hpc: ends"); m.Subject != "HPCSerA: hpc: ends" || m.Text != "It ends." {
		t.Errorf("got %+v", m)
	}
	r.mails.fail(true)
	if err := r.Service.Mail(t.Context(), "alice", "s", "t"); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("the mail server is down: got %v, want unavailable", err)
	}
	r.mails.fail(false)
	if err := r.Disable(t.Context(), "operator", "alice", true); err != nil {
		t.Fatal(err)
	}
	if err := r.Service.Mail(t.Context(), "alice", "s", "t"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("to somebody who left: got %v, want not_found", err)
	}
}

func TestAnAuthAppWithoutAMailServerSaysSo(t *testing.T) {
	r := newRig(t, func(c *session.Config) { c.Mailer = nil })
	r.first("alice")
	if err := r.Service.Mail(t.Context(), "alice", "s", "t"); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}
