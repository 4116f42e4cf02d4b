package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// hostLog is a host's log: a datagram socket that keeps what it is told.
type hostLog struct {
	socket string
	mu     sync.Mutex
	lines  []string
}

// newHostLog listens at a socket until the test ends.
func newHostLog(t *testing.T, socket string) *hostLog {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o666); err != nil { // as /dev/log is
		t.Fatal(err)
	}
	l := &hostLog{socket: socket}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 64<<10); ; {
			n, err := conn.Read(b)
			if err != nil {
				return // the test ended
			}
			l.mu.Lock()
			l.lines = append(l.lines, strings.TrimRight(string(b[:n]), "\n"))
			l.mu.Unlock()
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return l
}

// with returns the lines that hold a text.
func (l *hostLog) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}

// auditHead is hpcserad's line: facility auth, severity notice.
var auditHead = regexp.MustCompile(`^<37>.* hpcserad\[\d+\]: hpcsera audit head (\d+:[0-9a-f]+ [\w-]+\.[\w-]+\.[\w-]+)$`)

// head is the audit head of a line with its signature; the line must be a
// well-formed one.
func head(t *testing.T, line string) string {
	t.Helper()
	found := auditHead.FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("got the line %q, want it to match %s", line, auditHead)
	}
	return found[1]
}

// TestHeadsOfTheAuditLogReachTheHostsLog at the start and at the end, and
// convict a database in which somebody cut lines off.
func TestHeadsOfTheAuditLogReachTheHostsLog(t *testing.T) {
	t.Parallel()
	const about = "hpcsera audit head"
	host := newHostLog(t, filepath.Join(openDir(t), "log"))
	d := newDeployment(t, "", "")
	d.stopServer()
	d.extra = []string{"HPCSERAD_SYSLOG=" + host.socket}
	d.startServer("")
	eventually(t, 10*time.Second, "the head at the start", func() bool { return len(host.with(about)) == 1 })
	d.admin("client", "add", "later")
	d.stopServer()
	lines := host.with(about)
	if len(lines) != 2 {
		t.Fatalf("after the end: got %q, want two heads", lines)
	}
	first, last := head(t, lines[0]), head(t, lines[1])
	if strings.Fields(first)[0] == strings.Fields(last)[0] {
		t.Errorf("got the head %s twice, although a client was added between", first)
	}
	before := read(t, filepath.Join(d.data, "hpcsera.db")) // whole: the server has stopped
	d.startServer("")
	d.admin("client", "add", "to-be-hidden")
	d.stopServer()
	lines = host.with(about)
	kept := head(t, lines[len(lines)-1])
	for _, known := range []string{first, last, kept} {
		d.startServer("")
		d.admin("audit", "verify", "--head", known)
		d.stopServer()
	}
	// Somebody brings back the file of yesterday: its chain holds, but not the
	// head that the host's log kept.
	for _, beside := range []string{"-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(d.data, "hpcsera.db"+beside)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(d.data, "hpcsera.db"), before, 0o600)
	d.startServer("")
	d.admin("audit", "verify")
	out, err := exec.Command(filepath.Join(bin, "hpcserad"), "audit", "verify", "--head", kept, "--config", d.config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "ends at line") {
		t.Errorf("verify with the kept head: got %v: %s, want it to say where the log ends", err, out)
	}
}

// TestHeadsOfTheAuthAppsAuditLogReachTheHostsLog at the start and at the end.
func TestHeadsOfTheAuthAppsAuditLogReachTheHostsLog(t *testing.T) {
	t.Parallel()
	host := newHostLog(t, filepath.Join(openDir(t), "log"))
	a := newAuthApp(t, freeURL(t), "syslog: "+host.socket)
	line := regexp.MustCompile(`^<37>.* hpcsera-auth\[\d+\]: hpcsera-auth audit head (\S+ [\w-]+\.[\w-]+\.[\w-]+)$`)
	heads := func(want int) (list []string) {
		t.Helper()
		eventually(t, 10*time.Second, fmt.Sprintf("%d heads", want), func() bool { return len(host.with(" audit head ")) >= want })
		for _, text := range host.with(" audit head ") {
			found := line.FindStringSubmatch(text)
			if found == nil {
				t.Fatalf("got the line %q, want it to match %s", text, line)
			}
			list = append(list, found[1])
		}
		if len(list) != want {
			t.Fatalf("got the heads %q, want %d", list, want)
		}
		return list
	}
	heads(1)
	a.admin(t, "user", "add", "alice")
	a.stop(t)
	if list := heads(2); strings.Fields(list[0])[0] == strings.Fields(list[1])[0] {
		t.Errorf("got the head %s twice, although somebody was invited between", list[0])
	}
	a.start(t)
	for _, kept := range heads(3) {
		a.admin(t, "audit", "verify", "--head", kept)
	}
	other := newAuthApp(t, freeURL(t)) // with a log made anew
	out, err := exec.Command(filepath.Join(bin, "hpcsera-auth"), "audit", "verify", "--head", heads(3)[1], "--config", other.config).CombinedOutput()
	if err == nil {
		t.Errorf("a kept head of another log: got success: %s", out)
	}
}

// TestTheHostsLogHearsOfEveryStart runs a real agent where /dev/log is ours: in
// a mount namespace of its own, so that this host's stays what it is.
func TestTheHostsLogHearsOfEveryStart(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Fatal("only root can give an agent a /dev/log of its own")
	}
	dev := openDir(t)
	host := newHostLog(t, filepath.Join(dev, "log"))
	var mounts strings.Builder
	for _, name := range []string{"null", "zero", "urandom"} {
		write(t, filepath.Join(dev, name), "", 0o666)
		fmt.Fprintf(&mounts, "mount --bind /dev/%s %s\n", name, filepath.Join(dev, name))
	}
	inside := filepath.Join(openDir(t), "inside")
	write(t, inside, "#!/bin/sh\nset -e\n"+mounts.String()+"mount --rbind "+dev+" /dev\nexec \"$@\"\n", 0o755)

	d := newDeployment(t, "", "")
	l := newLogin(t, d, "local")
	m := manifest("told", marking("echo fine"))
	s := l.statement(t, m)
	text, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := approval.SignSSH(l.signer, s)
	if err != nil {
		t.Fatal(err)
	}
	l.file(m, text, signature)
	l.agent = startCommand(t, nil, l.env, "unshare", "--mount", "--propagation", "private", inside, filepath.Join(bin, "hpcsera-agent"), "run")
	id := l.submit(t, s.Code)
	j := d.await(id, time.Minute)
	if j.State != hpcsera.Succeeded || j.Native == nil {
		t.Fatalf("job is %s (%s: %s)\n%s", j.State, j.Reason, j.Message, l.agent.log)
	}
	lines := host.with("job=" + id)
	if len(lines) != 1 {
		t.Fatalf("got the lines %q about %s, want one", lines, id)
	}
	want := fmt.Sprintf(": start user=alice job=%s code=%s approval=%s signer=%s trust=plain native=%s",
		id, s.Code, s.ID, ssh.FingerprintSHA256(l.signer.PublicKey()), j.Native.ID)
	if !strings.HasPrefix(lines[0], "<38>") || !strings.Contains(lines[0], " hpcsera-agent[") || !strings.HasSuffix(lines[0], want) {
		t.Errorf("got the line %q, want one of facility auth that ends with %q", lines[0], want)
	}
}
