package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestREADMEsTourWorks types what README.md tells operator and user to type,
// on hosts of which it knows nothing but their addresses.
func TestREADMEsTourWorks(t *testing.T) {
	t.Parallel()
	steps := tour(t)
	host := openDir(t)
	alice := &account{home: filepath.Join(host, "alice"), as: aliceOf(t)}
	operator := &account{home: filepath.Join(host, "operator")}
	for _, a := range []*account{alice, operator} {
		if err := os.Mkdir(a.home, 0o700); err != nil {
			t.Fatal(err)
		}
		a.env = []string{"PATH=" + bin + ":/usr/bin:/bin", "HOME=" + a.home, "SLURM_CONF=" + slurmConf(t)}
	}
	if out, err := exec.Command("cp", "-r", "../examples", alice.home).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	if out, err := exec.Command("chown", "-R", alice.as.Uid+":"+alice.as.Gid, alice.home).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v %s", err, out)
	}
	alice.types(t, "", "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -C alice@home -f .ssh/id_ed25519_sk")
	fingerprint := strings.Fields(alice.types(t, "", "ssh-keygen -lf .ssh/id_ed25519_sk.pub"))[1]

	// 1. The operator; the server's address is what the reader sets.
	folder, address := filepath.Join(operator.home, "hpcsera"), freeAddress(t)
	site := strings.NewReplacer("/srv/hpcsera", folder, "https://hpc.example.org", "http://"+address)
	before, after, served := strings.Cut(site.Replace(steps[0]), "hpcserad serve &\n")
	if !served {
		t.Fatalf("step 1 starts no server:\n%s", steps[0])
	}
	operator.types(t, "", change(t, before, "hpcserad init "+folder, "hpcserad init --listen "+address+" "+folder))
	operator.env = append(operator.env, "HPCSERAD_CONFIG="+filepath.Join(folder, "hpcserad.yaml"))
	server := start(t, nil, operator.env, "hpcserad", "serve")
	eventually(t, 20*time.Second, "hpcserad serves", func() bool {
		if server.dead() {
			t.Fatalf("hpcserad ended: %v\n%s", server.err, server.log)
		}
		res, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	operator.types(t, "", after)

	// 2. to 4. Keys are shown and pasted by hand.
	thumbprint := regexp.MustCompile(`(?m)^thumbprint +(\S+)$`).FindStringSubmatch(alice.types(t, "", site.Replace(steps[1])))
	if thumbprint == nil {
		t.Fatal("step 2 prints no thumbprint")
	}
	keys := strings.NewReplacer("THUMBPRINT", thumbprint[1])
	agent, token, _ := strings.Cut(keys.Replace(steps[2]), "\n")
	credential := secretIn(t, operator.types(t, "", agent))
	secret := secretIn(t, operator.types(t, "", token))
	commands := strings.Split(strings.TrimSpace(steps[3]), "\n")
	if len(commands) != 4 {
		t.Fatalf("step 4 has the commands %q, want 4", commands)
	}
	alice.types(t, credential+"\n", commands[0])
	alice.types(t, fingerprint+"\n", change(t, commands[1], "trust add", "trust add --plain")) // a second factor cannot be had here
	alice.types(t, "", commands[2])
	daemon := change(t, commands[3], "tmux new -d hpcsera-agent ", "")
	start(t, alice.as, alice.env, "hpcsera-agent", daemon)

	// 5. The user, anywhere: the client asks for the token, and before it signs.
	setUp, jobs, _ := strings.Cut(site.Replace(keys.Replace(steps[4])), "hpcsera run")
	alice.answers(t, secret+"\n", setUp)
	runs := strings.Split(strings.TrimSpace("hpcsera run"+jobs), "\n")
	if len(runs) != 2 {
		t.Fatalf("step 5 runs %q, want two jobs", runs)
	}
	for _, run := range runs {
		alice.answers(t, "y\n", run)
	}
	found, err := filepath.Glob(filepath.Join(alice.home, "cavity-j_*", "centreline.csv"))
	if err != nil || len(found) != 1 {
		t.Errorf("the tour left the results %v (%v), want one centreline.csv", found, err)
	}
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
