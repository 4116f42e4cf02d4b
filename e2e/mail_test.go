package e2e

import (
	"bufio"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// letter is a mail as its receiver's server got it.
type letter struct {
	from, to      string // of the envelope
	subject, text string
}

// mailServer is an SMTP server on the loopback that keeps every mail.
type mailServer struct {
	address string
	mu      sync.Mutex
	all     []letter
}

// newMailServer starts a server that takes mails until the test ends.
func newMailServer(t *testing.T) *mailServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mailServer{address: listener.Addr().String()}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test ended
			}
			work.Go(func() { defer conn.Close(); m.serve(t, conn) })
		}
	})
	t.Cleanup(func() { listener.Close(); work.Wait() })
	return m
}

// serve speaks SMTP (RFC 5321) with one client.
func (m *mailServer) serve(t *testing.T, conn net.Conn) {
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
	in := bufio.NewReader(conn)
	say := func(line string) { _, _ = io.WriteString(conn, line+"\r\n") } // a client that is gone says so itself
	say("220 sink ESMTP")
	var l letter
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		switch {
		case strings.HasPrefix(verb, "EHLO"):
			say("250-sink")
			say("250 8BITMIME")
		case verb == "MAIL FROM":
			l = letter{from: path(rest)}
			say("250 ok")
		case verb == "RCPT TO":
			l.to = path(rest)
			say("250 ok")
		case verb == "DATA":
			say("354 go on")
			l.read(t, in)
			m.mu.Lock()
			m.all = append(m.all, l)
			m.mu.Unlock()
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("502 not here")
		}
	}
}

// path is the address of an envelope's line, without its parameters.
func path(text string) string {
	address, _, _ := strings.Cut(strings.TrimPrefix(text, "<"), ">")
	return address
}

// read takes a mail up to the line with a dot alone.
func (l *letter) read(t *testing.T, in *bufio.Reader) {
	var b strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Errorf("a mail broke off: %v", err)
			return
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	msg, err := mail.ReadMessage(strings.NewReader(b.String()))
	if err != nil {
		t.Errorf("a mail cannot be read: %v in %q", err, b.String())
		return
	}
	if l.subject, err = new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); err != nil {
		t.Errorf("a mail's subject cannot be read: %v", err)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil {
		t.Errorf("a mail's text cannot be read: %v", err)
	}
	l.text = string(text)
	if from, err := mail.ParseAddress(msg.Header.Get("From")); err != nil || from.Address != l.from {
		t.Errorf("a mail is from %q (%v), its envelope from %q", msg.Header.Get("From"), err, l.from)
	}
	if to, err := mail.ParseAddress(msg.Header.Get("To")); err != nil || to.Address != l.to {
		t.Errorf("a mail is to %q (%v), its envelope to %q", msg.Header.Get("To"), err, l.to)
	}
}

// to returns the mails to an address, in their order.
func (m *mailServer) to(address string) []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []letter
	for _, l := range m.all {
		if l.to == address {
			list = append(list, l)
		}
	}
	return list
}

// await waits for the next mail to an address after the first known ones, and
// checks what it is about.
func (m *mailServer) await(t *testing.T, known int, address, subject string) letter {
	t.Helper()
	eventually(t, 20*time.Second, "a mail to "+address+" about: "+subject, func() bool { return len(m.to(address)) > known })
	l := m.to(address)[known]
	if !strings.Contains(l.subject, subject) {
		t.Errorf("mail %d to %s is about %q, want %q", known+1, address, l.subject, subject)
	}
	return l
}

// TestPeopleAreToldByMailWhatHappensToTheirAccount follows one account from
// its making through each change that somebody else could have made.
func TestPeopleAreToldByMailWhatHappensToTheirAccount(t *testing.T) {
	t.Parallel()
	post := newMailServer(t)
	a := newAuthApp(t, freeURL(t), "product: 'Göttingen HPC'", "mail: {server: '"+post.address+"', from: 'HPC <noreply@hpc.example>'}")
	quiet := a.invite(t, "quiet") // who gave no address
	alice := a.invite(t, "alice", "--mail", "alice@home.example")
	first := post.await(t, 0, "alice@home.example", "your account")
	if first.from != "noreply@hpc.example" || !strings.HasPrefix(first.subject, "Göttingen HPC: ") {
		t.Errorf("got a mail from %q about %q, want it from noreply@hpc.example about Göttingen HPC", first.from, first.subject)
	}
	for _, want := range []string{"Account: alice", "If that was not you", a.url + "/account"} {
		if !strings.Contains(first.text, want) {
			t.Errorf("the mail does not say %q:\n%s", want, first.text)
		}
	}

	// Her password in a stranger's hands.
	stranger := newBrowser(t)
	stranger.open(t, a.url+"/signin")
	stranger.submit(t, "/signin", "name", "alice", "password", alice.password)
	for try := 0; stranger.status != http.StatusTooManyRequests; try++ {
		if try == 20 {
			t.Fatal("a second factor may be guessed 20 times")
		}
		stranger.submit(t, "/signin/app", "code", "000000")
	}
	if l := post.await(t, 1, "alice@home.example", "wrong second factor"); !strings.Contains(l.text, "127.0.0.1") {
		t.Errorf("the mail does not say from where:\n%s", l.text)
	}

	// Each change of quiet's factors is told once there is an address, and the
	// change of the address to the one before.
	quiet.stepUp(t)
	quiet.open(t, a.url+"/account")
	quiet.submit(t, "/account/mail", "mail", "old@quiet.example")
	quiet.want(t, http.StatusOK, "Your mail address was changed.")
	quiet.submit(t, "/account/recovery")
	quiet.want(t, http.StatusOK, "Your recovery codes")
	quiet.recovery = quiet.codes(t)
	post.await(t, 0, "old@quiet.example", "new recovery codes")
	quiet.open(t, a.url+"/account/password")
	quiet.password = "another four words in a row"
	quiet.submit(t, "/account/password", "password", quiet.password, "again", quiet.password)
	post.await(t, 1, "old@quiet.example", "password changed")
	quiet.submit(t, "/account/mail", "mail", "new@quiet.example")
	post.await(t, 2, "old@quiet.example", "mail address changed")
	quiet.submit(t, "/signout")
	quiet.submit(t, "/signin", "name", "quiet", "password", quiet.password)
	quiet.submit(t, "/signin/recovery", "code", quiet.recovery[0])
	post.await(t, 0, "new@quiet.example", "recovery code used")

	var told []string
	for _, address := range []string{"alice@home.example", "old@quiet.example", "new@quiet.example"} {
		for _, l := range post.to(address) {
			told = append(told, l.subject)
			for _, secret := range append(quiet.recovery, alice.password, quiet.password, alice.otp.secret, "/setup?code=") {
				if strings.Contains(l.text+l.subject, secret) {
					t.Errorf("the mail about %q holds a secret", l.subject)
				}
			}
		}
	}
	post.mu.Lock()
	defer post.mu.Unlock()
	if len(post.all) != len(told) {
		t.Errorf("got mails about %q to those addresses, and %d in all", told, len(post.all))
	}
	if n := len(told); n != len(slices.Compact(told)) {
		t.Errorf("something was told twice: %q", told)
	}
}

// TestAMailServerThatIsAwayStopsNobody since a notice is a courtesy.
func TestAMailServerThatIsAwayStopsNobody(t *testing.T) {
	t.Parallel()
	a := newAuthApp(t, freeURL(t), "mail: {server: '"+freeAddress(t)+"', from: noreply@hpc.example}")
	alice := a.invite(t, "alice", "--mail", "alice@home.example")
	if got := a.who(t, alice.browser); got != "alice" {
		t.Errorf("signed in as %q, want alice", got)
	}
	eventually(t, 20*time.Second, "the log's word that a notice was lost", func() bool { return strings.Contains(a.server.log.String(), "a notice was not sent") })
}

// TestTheOwnerOfAnAgentThatEndsSoonIsMailed by the Auth app, which has the
// address, in the server's words, which say whose they are; and once.
func TestTheOwnerOfAnAgentThatEndsSoonIsMailed(t *testing.T) {
	t.Parallel()
	post := newMailServer(t)
	a := newAuthApp(t, freeURL(t), "mail: {server: '"+post.address+"', from: noreply@hpc.example}")
	a.invite(t, "alice", "--mail", "alice@home.example")
	post.await(t, 0, "alice@home.example", "your account")
	known := len(post.to("alice@home.example"))
	d := newDeployment(t, "", "")
	d.join(a)
	d.admin("agent", "create", "--user", "alice", "--site", "lab", "--project", "cfd", "--thumbprint", strings.Repeat("A", 43), "--days", "10")
	for range 2 { // each start looks
		d.stopServer()
		d.startServer("")
		l := post.await(t, known, "alice@home.example", "hpcsera: Your HPCSerA agent at lab ends soon")
		for _, want := range []string{"hpcsera (" + d.url + ")", "> To go on, ", "> " + "    hpcsera-agent enroll --replace"} {
			if !strings.Contains(l.text, want) {
				t.Errorf("the mail does not say %q:\n%s", want, l.text)
			}
		}
	}
	if all := post.to("alice@home.example"); len(all) != known+1 {
		t.Errorf("got %d mails about the agent, want one", len(all)-known)
	}
}
