package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestREADMEsTourWorks types what README.md tells operator and user to type,
// and does in a browser what it tells them to do there, on hosts of which it
// knows nothing but their addresses.
func TestREADMEsTourWorks(t *testing.T) {
	t.Parallel()
	steps := tour(t)
	host := openDir(t)
	alice := newAccount(t, filepath.Join(host, "alice"), aliceOf(t))
	alice.env = append(alice.env, "SLURM_CONF="+slurmConf(t))
	if out, err := exec.Command("cp", "-r", "../examples", alice.home).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	if out, err := exec.Command("chown", "-R", alice.as.Uid+":"+alice.as.Gid, alice.home).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v %s", err, out)
	}
	alice.types(t, "", "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -C alice@home -f .ssh/id_ed25519_sk")
	fingerprint := strings.Fields(alice.types(t, "", "ssh-keygen -lf .ssh/id_ed25519_sk.pub"))[1]

	// 1. The operator, with an account of the Auth app, invites alice.
	operator := newAccount(t, filepath.Join(host, "operator"), nil)
	d := operator.serves(t, steps[0])
	root := d.firstPerson("root")
	root.open(t, root.auth+"/people")
	root.press(t, "Make an invitation", "name", "alice")
	invitation := regexp.MustCompile(`http\S+/setup\?code=[\w-]+`).FindString(root.text)
	if invitation == "" {
		t.Fatalf("%s shows no invitation: %s", root.at, root.said())
	}

	// 2. Alice in her browser, then on the login node.
	person := d.setUp("alice", invitation)
	person.open(t, d.url+"/projects")
	person.press(t, "Make the project", "name", "cfd")
	person.open(t, d.url+"/tokens/new")
	person.press(t, "Make the token", "for", "ci-code", "client", "cli", "project", "cfd")
	secret := person.secretShown(t)
	site := strings.NewReplacer("https://hpc.example.org", d.url)
	enroll, after := enrolment(t, site.Replace(steps[1]))
	commands := strings.Split(strings.TrimSpace(after), "\n")
	if len(commands) != 3 {
		t.Fatalf("step 2 enrols and then types %q, want 3 commands", commands)
	}
	thumbprint := person.letsIn(t, start(t, alice.as, alice.env, "hpcsera-agent", enroll...))
	alice.types(t, fingerprint+"\n", change(t, commands[0], "trust add", "trust add --plain")) // a second factor cannot be had here
	alice.types(t, "", commands[1])
	daemon := change(t, commands[2], "tmux new -d hpcsera-agent ", "")
	start(t, alice.as, alice.env, "hpcsera-agent", daemon)

	// 3. Anywhere: the client asks for the token, and before it signs.
	setUp, jobs, _ := strings.Cut(change(t, site.Replace(steps[2]), "THUMBPRINT", thumbprint), "hpcsera run")
	alice.answers(t, secret+"\n", setUp)
	runs := strings.Split(strings.TrimSpace("hpcsera run"+jobs), "\n")
	if len(runs) != 2 {
		t.Fatalf("step 3 runs %q, want two jobs", runs)
	}
	for _, run := range runs {
		alice.answers(t, "y\n", run)
	}
	found, err := filepath.Glob(filepath.Join(alice.home, "cavity-j_*", "centreline.csv"))
	if err != nil || len(found) != 1 {
		t.Errorf("the tour left the results %v (%v), want one centreline.csv", found, err)
	}

	// 4. It works until it is revoked.
	whoami, asks, _ := strings.Cut(strings.TrimSpace(change(t, site.Replace(steps[3]), "TOKEN", secret)), "\n")
	alice.types(t, "", whoami)
	person.open(t, d.url+"/tokens")
	person.link(t, "Revoke")
	person.press(t, "Revoke")
	person.want(t, http.StatusOK, "It is revoked")
	if told := alice.types(t, "", "! "+whoami); !strings.Contains(told, "the token was revoked") {
		t.Errorf("%s says %q, want that the token was revoked", whoami, told)
	}
	if status := alice.types(t, "", asks); status != "401\n" {
		t.Errorf("with a revoked token %s prints %q, want 401", asks, status)
	}
}

// TestREADMEsWayWithoutABrowserWorks types what README.md tells operators of
// users who do not sign in.
func TestREADMEsWayWithoutABrowserWorks(t *testing.T) {
	t.Parallel()
	steps := tour(t)
	host := openDir(t)
	operator := newAccount(t, filepath.Join(host, "operator"), nil)
	alice := newAccount(t, filepath.Join(host, "alice"), nil)
	d := operator.serves(t, steps[0])
	enroll, _ := enrolment(t, strings.ReplaceAll(steps[1], "https://hpc.example.org", d.url))
	thumbprint := regexp.MustCompile(`(?m)^thumbprint +(\S+)$`).FindStringSubmatch(alice.types(t, "", "hpcsera-agent status"))
	if thumbprint == nil {
		t.Fatal("hpcsera-agent status prints no thumbprint")
	}
	makes, agent, _ := strings.Cut(strings.TrimSpace(change(t, steps[4], "THUMBPRINT", thumbprint[1])), "hpcserad agent")
	if status, is := d.self(secretIn(t, operator.types(t, "", makes))); status != http.StatusOK || is.User != "alice" {
		t.Errorf("the token: got status %d and %+v, want alice's", status, is)
	}
	credential := secretIn(t, operator.types(t, "", "hpcserad agent"+agent))
	alice.types(t, credential+"\n", "hpcsera-agent "+strings.Join(enroll, " ")+" --credential -")
	alice.types(t, "", "HPCSERA_AGENT_SCHEDULER=local hpcsera-agent once") // no Slurm for this one
	if out := operator.types(t, "", "hpcserad agent list"); strings.Contains(out, "never") {
		t.Errorf("the agent was not seen:\n%s", out)
	}
}

// enrolment is the first line of the user's step, as arguments of hpcsera-agent,
// and what comes after it.
func enrolment(t *testing.T, step string) (args []string, after string) {
	t.Helper()
	line, after, _ := strings.Cut(step, "\n")
	args = strings.Fields(line)
	if len(args) < 2 || args[0] != "hpcsera-agent" || args[1] != "enroll" {
		t.Fatalf("step 2 begins with %q, want it to enrol", line)
	}
	return args[1:], after
}

// letsIn types the code that an agent shows, compares the fingerprint, and
// allows it. It returns that fingerprint.
func (p *person) letsIn(t *testing.T, agent *process) (thumbprint string) {
	t.Helper()
	var shown []string
	eventually(t, 20*time.Second, "the agent shows a code", func() bool {
		if agent.dead() {
			t.Fatalf("hpcsera-agent enroll ended: %v\n%s", agent.err, agent.log)
		}
		shown = regexp.MustCompile(`(?s) (http\S+)\s+(\S+).*fingerprint.*?\n +(\S{43})\n`).FindStringSubmatch(agent.log.String())
		return shown != nil
	})
	p.open(t, shown[1])
	p.submit(t, "/code", "code", shown[2])
	if got := p.marked(t, "fingerprint"); got != shown[3] {
		t.Fatalf("the page shows the fingerprint %s, the agent %s", got, shown[3])
	}
	p.press(t, "Allow")
	if status := agent.exits(t, 30*time.Second); status != 0 {
		t.Fatalf("hpcsera-agent enroll ended with status %d:\n%s", status, agent.log)
	}
	return shown[3]
}

// tour returns the commands of README.md's five steps, without its comments.
func tour(t *testing.T) []string {
	t.Helper()
	_, text, found := strings.Cut(read(t, "../README.md"), "\n## Five minutes to a real site\n")
	if !found {
		t.Fatal("README.md has no tour")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var steps []string
	for _, block := range regexp.MustCompile(`(?m)(^    .*\n)+`).FindAllString(text, -1) {
		block = regexp.MustCompile(`(?m)^    `).ReplaceAllString(block, "")
		steps = append(steps, regexp.MustCompile(`(?m) +# .*$`).ReplaceAllString(block, ""))
	}
	if len(steps) != 5 {
		t.Fatalf("README.md's tour has %d steps, want 5:\n%s", len(steps), strings.Join(steps, "---\n"))
	}
	return steps
}

// change replaces what must be there.
func change(t *testing.T, text, what, by string) string {
	t.Helper()
	if !strings.Contains(text, what) {
		t.Fatalf("README.md's tour has no %q in\n%s", what, text)
	}
	return strings.Replace(text, what, by, 1)
}

// newAccount makes the home of somebody at a shell, who is whoever runs the
// test where as is nil.
func newAccount(t *testing.T, home string, as *user.User) *account {
	t.Helper()
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	return &account{home: home, as: as, env: []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + home}}
}

// serves types the operator's first step; the server's address is what the
// reader sets.
func (a *account) serves(t *testing.T, step string) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: filepath.Join(a.home, "hpcsera"), addr: freeAddress(t), mu: &sync.Mutex{}}
	d.url, d.config = "http://"+d.addr, filepath.Join(d.dir, "hpcserad.yaml")
	before, after, served := strings.Cut(strings.ReplaceAll(step, "/srv/hpcsera", d.dir), "hpcserad serve &\n")
	if !served {
		t.Fatalf("step 1 starts no server:\n%s", step)
	}
	a.types(t, "", change(t, before, "hpcserad init "+d.dir, "hpcserad init --listen "+d.addr+" "+d.dir))
	a.env = append(a.env, "HPCSERAD_CONFIG="+d.config)
	d.startServer("")
	a.types(t, "", after)
	return d
}

// account is somebody at a shell; as whoever runs the test where as is nil.
type account struct {
	home string
	as   *user.User
	env  []string
}

// types runs commands in the account's home, one after the other, and returns
// what they printed.
func (a *account) types(t *testing.T, stdin, commands string) string {
	t.Helper()
	return a.run(t, stdin, "bash", "-euo", "pipefail", "-c", commands)
}

// answers runs a command at a terminal, where it may ask.
func (a *account) answers(t *testing.T, typed, command string) string {
	t.Helper()
	return a.run(t, typed, "script", "--quiet", "--return", "--command", strings.TrimSpace(command), "/dev/null")
}

func (a *account) run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Dir, cmd.Stdin, cmd.SysProcAttr = append(a.env, "SHELL=/bin/bash"), a.home, strings.NewReader(stdin), credential(t, a.as)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
