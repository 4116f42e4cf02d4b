package cli

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// patienceOfScripts bounds every wait of a script: for what must come, however
// slow the machine is. Nothing is measured.
const patienceOfScripts = time.Minute

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hpcsera": func() {
			os.Exit(Run(context.Background(), Invocation{Version: "test", Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
		},
	})
}

// TestScripts runs what testdata describes: the command line as its users see
// it, against a real server. Beside testscript's own commands there are
//
//	exits CODE COMMAND...       runs it and wants that exit code
//	start NAME COMMAND...       in the background; with -tty before it on a terminal
//	await NAME STREAM REGEXP    until it printed that (stdout, stderr, tty)
//	signal NAME TERM|INT        signals it
//	type NAME TEXT              types on its terminal; \x03 is Ctrl-C
//	ended NAME CODE             waits for its end and wants that exit code
//	poll                        the agent asks for work and gets none
//	take                        the agent takes the next job; $JOB is its id
//	report STATE [KEY=VALUE...] the agent reports
//	output STREAM TEXT          the job writes
//	artifact PATH FILE          the job leaves a result
//	ordered DESIRED             the agent waits for that order
//	network cut|heal            between client and server
//	site drain|undrain          the operator does that to lab
//	secure                      the server is https://example.com behind the proxy
//	                            $PROXY, with a certificate of the authority ca.pem
//	token ROLES                 $HPCSERA_TOKEN is a new token with these roles
//	decide granted|denied       alice decides what is asked next; $FINGERPRINT is
//	                            the key's that her page shows
//	secret                      nothing printed so far holds the token
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": startProcess, "await": await, "signal": signalProcess, "type": typeText, "ended": endedProcess,
			"poll": poll, "secure": secure, "take": take, "report": report, "output": output, "artifact": leaveArtifact, "ordered": ordered,
			"network": setNetwork, "site": setSite, "token": newToken, "secret": noSecret, "decide": decide,
		},
	})
}

type worldKey struct{}

// world is what the commands of one script share.
type world struct {
	*deployment
	processes map[string]*process
	printed   *bytes.Buffer // all that any command printed
	secrets   []string
}

func setUp(env *testscript.Env) error {
	dir, err := os.MkdirTemp(env.WorkDir, ".deployment-")
	if err != nil {
		return err
	}
	d, err := newDeployment(dir)
	if err != nil {
		return err
	}
	w := &world{deployment: d, processes: map[string]*process{}, printed: &bytes.Buffer{}, secrets: []string{d.token, passphrase}}
	env.Defer(func() {
		for _, p := range w.processes {
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		if err := d.stop(); err != nil {
			env.T().Log("stopping the server:", err)
		}
	})
	key, stopAgent, err := newSigningKeys(dir)
	if err != nil {
		return err
	}
	env.Defer(stopAgent)
	for name, value := range map[string]string{
		"HPCSERA_SERVER": d.url, "HPCSERA_TOKEN": d.token, "HPCSERA_SITE": "lab", "THUMBPRINT": d.agent.thumbprint, "KEY": key,
		"HOME": env.WorkDir, "XDG_CONFIG_HOME": env.WorkDir + "/.config", "TERM": "xterm", "TZ": "UTC",
	} {
		env.Setenv(name, value)
	}
	env.Values[worldKey{}] = w
	return nil
}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	w := worldOf(ts)
	w.printed.WriteString(ts.ReadFile("stdout") + ts.ReadFile("stderr"))
	if want := args[0]; strconv.Itoa(code) != want {
		ts.Fatalf("it ended with %d, want %s", code, want)
	}
}

// process is a command in the background.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr grows
	tty            grows
	master         *os.File
	done           chan struct{}
}

// grows is what a process printed so far.
type grows struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (g *grows) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.Write(p)
}

func (g *grows) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.b.String()
}

func startProcess(ts *testscript.TestScript, _ bool, args []string) {
	terminal := len(args) > 1 && args[1] == "-tty"
	if terminal {
		args = append(args[:1], args[2:]...)
	}
	if len(args) < 2 {
		ts.Fatalf("usage: start NAME [-tty] COMMAND...")
	}
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	p := &process{cmd: exec.Command(program, args[2:]...), done: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "HPCSERA_SERVER", "HPCSERA_TOKEN", "HPCSERA_SITE", "HPCSERA_PROJECT", "CI_JOB_ID", "TERM", "TZ", "NO_COLOR", "SSH_AUTH_SOCK"} {
		p.cmd.Env = append(p.cmd.Env, name+"="+ts.Getenv(name))
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	var slave *os.File
	if terminal {
		p.master, slave, err = openTerminal()
		ts.Check(err)
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
	ts.Check(p.cmd.Start())
	if terminal {
		slave.Close()
	}
	go func() {
		defer close(p.done)
		if terminal {
			_, _ = p.tty.readFrom(p.master) // until the last one closes the terminal
		}
		_ = p.cmd.Wait()
	}()
	worldOf(ts).processes[args[0]] = p
}

func (g *grows) readFrom(f *os.File) (int64, error) {
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		_, _ = g.Write(buf[:n])
		if err != nil {
			return 0, err
		}
	}
}

// openTerminal returns both ends of a new pseudo-terminal.
func openTerminal() (master, slave *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	return master, slave, err
}

func processOf(ts *testscript.TestScript, name string) *process {
	p, ok := worldOf(ts).processes[name]
	if !ok {
		ts.Fatalf("no process %s was started", name)
	}
	return p
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: await NAME STREAM REGEXP")
	}
	p := processOf(ts, args[0])
	stream := map[string]*grows{"stdout": &p.stdout, "stderr": &p.stderr, "tty": &p.tty}[args[1]]
	pattern, err := regexp.Compile("(?m)" + args[2])
	ts.Check(err)
	for deadline := time.Now().Add(patienceOfScripts); ; time.Sleep(10 * time.Millisecond) {
		if pattern.MatchString(stream.String()) {
			return
		}
		select {
		case <-p.done:
			if !pattern.MatchString(stream.String()) {
				ts.Fatalf("%s ended and did not print %q on %s. It printed\n%s%s%s", args[0], args[2], args[1], &p.stdout, &p.stderr, &p.tty)
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not print %q on %s. It printed\n%s%s%s", args[0], args[2], args[1], &p.stdout, &p.stderr, &p.tty)
		}
	}
}

func signalProcess(ts *testscript.TestScript, _ bool, args []string) {
	sig := map[string]os.Signal{"TERM": syscall.SIGTERM, "INT": os.Interrupt}[args[1]]
	ts.Check(processOf(ts, args[0]).cmd.Process.Signal(sig))
}

func typeText(ts *testscript.TestScript, _ bool, args []string) {
	_, err := processOf(ts, args[0]).master.WriteString(unquote(ts, args[1]))
	ts.Check(err)
}

// unquote reads the escapes of a Go string.
func unquote(ts *testscript.TestScript, text string) string {
	s, err := strconv.Unquote(`"` + text + `"`)
	ts.Check(err)
	return s
}

func endedProcess(ts *testscript.TestScript, _ bool, args []string) {
	p := processOf(ts, args[0])
	select {
	case <-p.done:
	case <-time.After(patienceOfScripts):
		ts.Fatalf("%s does not end. It printed\n%s%s%s", args[0], &p.stdout, &p.stderr, &p.tty)
	}
	_, _ = ts.Stdout().Write([]byte(p.stdout.String()))
	_, _ = ts.Stderr().Write([]byte(p.stderr.String() + p.tty.String()))
	w := worldOf(ts)
	w.printed.WriteString(p.stdout.String() + p.stderr.String() + p.tty.String())
	if got := p.cmd.ProcessState.ExitCode(); strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s ended with %d, want %s. It printed\n%s%s%s", args[0], got, args[1], &p.stdout, &p.stderr, &p.tty)
	}
}

func poll(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(worldOf(ts).agent.poll()) }

// secure puts TLS before the server and a proxy before that: the only way to
// it, as in many a site.
func secure(ts *testscript.TestScript, _ bool, _ []string) {
	to, err := url.Parse(worldOf(ts).url)
	ts.Check(err)
	edge := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(to))
	edge.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that does not trust it is part of the test
	edge.StartTLS()
	ts.Defer(edge.Close)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: edge.Certificate().Raw})
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), certificate, 0o644))
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		far, err := net.Dial("tcp", edge.Listener.Addr().String())
		if err != nil || r.Method != http.MethodConnect || r.Host != "example.com:443" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		defer far.Close()
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer near.Close()
		fmt.Fprint(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); far.Close() }()
		_, _ = io.Copy(near, far)
	}))
	ts.Defer(proxy.Close)
	ts.Setenv("PROXY", proxy.URL)
}

func take(ts *testscript.TestScript, _ bool, _ []string) {
	h := worldOf(ts).agent
	ts.Check(h.next())
	ts.Setenv("JOB", h.job.JobID)
}

func report(ts *testscript.TestScript, _ bool, args []string) {
	r := hpcsera.Report{State: hpcsera.State(args[0])}
	for _, word := range args[1:] {
		key, value, _ := strings.Cut(word, "=")
		number, _ := strconv.Atoi(value)
		switch key {
		case "reason":
			r.Reason = hpcsera.Reason(value)
		case "attempt":
			r.Attempt = number
		case "message":
			r.Message = unquote(ts, value)
		case "native":
			r.Native = &hpcsera.Native{System: "slurm", ID: "4711", State: value}
		case "exit":
			r.Exit = &hpcsera.Exit{Code: number}
		case "signal":
			r.Exit = &hpcsera.Exit{Signal: number}
		case "directory":
			r.Directory = value
		case "result":
			r.Result = []byte(value)
		case "warning":
			r.Warning = value
		default:
			ts.Fatalf("report knows no %q", key)
		}
	}
	ts.Check(worldOf(ts).agent.report(r))
}

func output(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(worldOf(ts).agent.output(args[0], []byte(unquote(ts, args[1]))))
}

func leaveArtifact(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(worldOf(ts).agent.leave(unquote(ts, args[0]), []byte(ts.ReadFile(args[1]))))
}

func ordered(ts *testscript.TestScript, _ bool, args []string) {
	h := worldOf(ts).agent
	o, err := h.take(func(o hpcsera.Order) bool { return o.JobID == h.job.JobID && o.Desired == hpcsera.Desired(args[0]) })
	ts.Check(err)
	h.job.Revision = o.Revision
}

func setNetwork(ts *testscript.TestScript, _ bool, args []string) {
	worldOf(ts).network.set(args[0] == "cut")
}

func setSite(ts *testscript.TestScript, _ bool, args []string) {
	_, err := worldOf(ts).access.SetSite(context.Background(), auth.OperatorOnHost(), access.Switch{Name: "lab", Disabled: args[0] == "drain"})
	ts.Check(err)
}

func newToken(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	token, err := w.newToken(context.Background(), args[0])
	ts.Check(err)
	w.secrets = append(w.secrets, token)
	ts.Setenv("HPCSERA_TOKEN", token)
}

func decide(ts *testscript.TestScript, _ bool, args []string) {
	var without hpcsera.Roles
	if len(args) > 1 {
		var err error
		without, err = hpcsera.ParseRoles(strings.TrimPrefix(args[1], "without="))
		ts.Check(err)
	}
	r, err := worldOf(ts).people.decide(args[0] == "granted", without)
	ts.Check(err)
	ts.Setenv("FINGERPRINT", r.Thumbprint)
}

func noSecret(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	if w.printed.Len() == 0 {
		ts.Fatalf("nothing was printed, so this shows nothing")
	}
	for _, s := range w.secrets {
		// A token's id may be shown; what is behind it is the secret.
		secret := s[strings.LastIndex(s, "_")+1:]
		if strings.Contains(w.printed.String(), secret[:min(16, len(secret))]) {
			ts.Fatalf("a token or a passphrase was printed")
		}
	}
}
