package e2e

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// problem is the answer to something that was refused.
type problem struct {
	Status int
	Code   hpcsera.Code
	Detail string
	Field  string
	Hint   string
}

// refusal makes a request that must be refused and returns why.
func (d *deployment) refusal(t *testing.T, method, path string, body io.Reader, header ...string) problem {
	t.Helper()
	req, err := http.NewRequest(method, d.url+"/api/v1"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var p problem
	if kind := res.Header.Get("Content-Type"); kind != "application/problem+json" {
		t.Fatalf("%s %s: %s with %s, want application/problem+json", method, path, res.Status, kind)
	}
	if err := json.NewDecoder(res.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Detail == "" || p.Hint == "" {
		t.Errorf("%s %s: %+v, want a sentence and what to do", method, path, p)
	}
	return p
}

// endless is a JSON body of any length.
type endless struct{ left int64 }

func (e *endless) Read(b []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), e.left)
	for i := range b[:n] {
		b[i] = ' '
	}
	e.left -= n
	return int(n), nil
}

// TestBadInputIsRefusedByNameAndLeavesNothing goes through what people and
// attackers send.
func TestBadInputIsRefusedByNameAndLeavesNothing(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	script := `"name":"bad","site":"lab","script":"true"`
	file := func(path string) string {
		return `{"name":"bad","site":"lab","script":"true","files":[{"path":` + path + `,"mode":"0644","size":0,"sha256":"` + digestHex(nil) + `"}]}`
	}
	for _, c := range []struct {
		name, body string
		code       hpcsera.Code
		field      string
	}{
		{"unknown field", `{` + script + `,"scirpt":"x"}`, hpcsera.UnknownField, "scirpt"},
		{"unknown field below", `{` + script + `,"resources":{"nodes":2}}`, hpcsera.UnknownField, "resources.nodes"},
		{"wrong type", `{` + script + `,"resources":{"node_count":"two"}}`, hpcsera.InvalidField, "resources.node_count"},
		{"later key", `{` + script + `,"inputs":[{"from":"x"}]}`, hpcsera.NotSupportedYet, "inputs"},
		{"later key sweep", `{` + script + `,"sweep":{"grid":{}}}`, hpcsera.NotSupportedYet, "sweep"},
		{"not JSON", `{"name":`, hpcsera.MalformedRequest, ""},
		{"no unit", `{` + script + `,"resources":{"memory":"32"}}`, hpcsera.InvalidField, "resources.memory"},
		{"path with ..", file(`"../x"`), hpcsera.InvalidField, "files[0].path"},
		{"absolute path", file(`"/etc/x"`), hpcsera.InvalidField, "files[0].path"},
		{"agent's folder", file(`".hpcsera/x"`), hpcsera.InvalidField, "files[0].path"},
		{"link", strings.Replace(file(`"x"`), "0644", "0777", 1), hpcsera.InvalidField, "files[0].mode"},
		{"bytes not here", strings.Replace(file(`"x"`), digestHex(nil), digestHex([]byte("nowhere")), 1), hpcsera.MissingBlobs, ""},
		{"BASH_ENV as parameter", `{` + script + `,"parameters":{"BASH_ENV":{"type":"string"}}}`, hpcsera.InvalidField, "parameters.BASH_ENV"},
		{"proxy as parameter", `{` + script + `,"parameters":{"https_proxy":{"type":"string"}}}`, hpcsera.InvalidField, "parameters.https_proxy"},
		{"LD_PRELOAD as value", `{` + script + `,"values":{"LD_PRELOAD":"x.so"}}`, hpcsera.InvalidValue, "values.LD_PRELOAD"},
		{"value against schema", `{` + script + `,"parameters":{"n":{"type":"integer","maximum":3}},"values":{"n":4}}`, hpcsera.InvalidValue, "values.n"},
		{"NUL in a value", `{` + script + `,"parameters":{"s":{"type":"string"}},"values":{"s":"a\u0000b"}}`, hpcsera.InvalidValue, "values.s"},
		{"remote schema", `{` + script + `,"parameters":{"s":{"$ref":"http://example.org/x"}}}`, hpcsera.InvalidField, "parameters.s"},
		{"option as queue", `{` + script + `,"attributes":{"queue_name":"--wrap=id"}}`, hpcsera.InvalidField, "attributes.queue_name"},
		{"unknown site", `{"name":"bad","site":"moon","script":"true"}`, hpcsera.UnknownSite, "site"},
		{"unknown code", `{"code":"sha256:` + strings.Repeat("0", 64) + `","site":"lab"}`, hpcsera.UnknownCode, "code"},
		{"directives", `{"name":"bad","site":"lab","script":"#!/bin/sh\n#SBATCH -N 2\ntrue"}`, hpcsera.InvalidField, "script"},
		{"one bad of two", `{"jobs":[{` + script + `},{` + script + `,"site":"moon"}]}`, hpcsera.InvalidField, "jobs[1].site"},
		{"one at an unknown site of two", `{"jobs":[{` + script + `},{"name":"bad","site":"moon","script":"true"}]}`, hpcsera.UnknownSite, "jobs[1].site"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := d.refusal(t, "POST", "/jobs", strings.NewReader(c.body))
			if p.Code != c.code || c.field != "" && p.Field != c.field {
				t.Errorf("refused as %s at %q (%s), want %s at %q", p.Code, p.Field, p.Detail, c.code, c.field)
			}
			if p.Detail == "" {
				t.Errorf("%s without a sentence", p.Code)
			}
		})
	}
	t.Run("2 GiB body", func(t *testing.T) {
		if p := d.refusal(t, "POST", "/jobs", io.MultiReader(strings.NewReader("{"), &endless{2 << 30})); p.Code != hpcsera.BodyTooLarge || p.Status != 413 {
			t.Errorf("refused as %s (%d)", p.Code, p.Status)
		}
	})
	t.Run("blob of other bytes", func(t *testing.T) {
		if p := d.refusal(t, "PUT", "/blobs/sha256:"+digestHex([]byte("right")), strings.NewReader("wrong"), "Content-Type", "application/octet-stream"); p.Code != hpcsera.DigestMismatch {
			t.Errorf("refused as %s: %s", p.Code, p.Detail)
		}
	})
	for name, token := range map[string]string{"missing": "", "malformed": "Bearer hpcsera_x", "wrong": "Bearer " + newUnknown(t), "basic": "Basic YTpi"} {
		t.Run(name+" token", func(t *testing.T) {
			if p := d.refusal(t, "GET", "/jobs", nil, "Authorization", token); p.Status != 401 {
				t.Errorf("answered %d %s, want 401", p.Status, p.Code)
			}
		})
	}
	t.Run("key with another body", func(t *testing.T) {
		body := map[string]any{"name": "once", "site": "lab", "script": "true"}
		var j hpcsera.Job
		d.call("POST", "/jobs", body, &j, "Idempotency-Key", "one")
		var again hpcsera.Job
		d.call("POST", "/jobs", body, &again, "Idempotency-Key", "one")
		if j.ID != again.ID {
			t.Errorf("the same request made %s and %s", j.ID, again.ID)
		}
		p := d.refusal(t, "POST", "/jobs", strings.NewReader(`{`+script+`}`), "Idempotency-Key", "one")
		if p.Code != hpcsera.IdempotencyKeyReused || p.Status != 422 {
			t.Errorf("refused as %s (%d)", p.Code, p.Status)
		}
		d.call("DELETE", "/jobs/"+j.ID, nil, nil)
	})
	t.Run("another project's job", func(t *testing.T) {
		var j hpcsera.Job
		d.call("POST", "/jobs", map[string]any{"name": "mine", "site": "lab", "script": "true"}, &j)
		d.admin("project", "add", "other", "--member", "alice=owner")
		other := secretIn(t, d.admin("token", "create", "--user", "alice", "--project", "other", "--client", "ci", "--roles", "1,6,7,8"))
		for _, method := range []string{"GET", "DELETE"} {
			if p := d.refusal(t, method, "/jobs/"+j.ID, nil, "Authorization", "Bearer "+other); p.Code != hpcsera.NotFound {
				t.Errorf("%s answered %s, want not_found", method, p.Code)
			}
		}
	})
	var filed struct {
		Code []struct{ Name, Digest string }
	}
	d.call("GET", "/code", nil, &filed)
	for _, c := range filed.Code {
		if c.Name == "bad" {
			t.Errorf("a refused request left the code %s", c.Digest)
		}
	}
	var list struct{ Jobs []hpcsera.Job }
	d.call("GET", "/jobs", nil, &list)
	for _, j := range list.Jobs {
		if j.Name == "bad" {
			t.Errorf("a refused request left job %s", j.ID)
		}
	}
	for _, folder := range []string{"blobs", "uploads"} {
		if left := files(t, filepath.Join(d.data, "files", folder)); len(left) > 0 {
			t.Errorf("refused requests left %v, want no bytes", left)
		}
	}
}

// files lists all files below a folder that must be there.
func files(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func newUnknown(t *testing.T) string {
	t.Helper()
	text, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	return text
}

// TestNothingUnsignedReachesTheJob plants variables in the agent's own
// environment.
func TestNothingUnsignedReachesTheJob(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	trap := filepath.Join(l.home, "trap.sh")
	write(t, trap, "touch "+filepath.Join(l.home, "sprung")+"\n", 0o755)
	l.own(t)
	l.startAgent(t, "", "BASH_ENV="+trap, "LD_PRELOAD="+filepath.Join(l.home, "none.so"), "SBATCH_PARTITION=nope", "SBATCH_EXPORT=ALL", "SLURM_EXPORT_ENV=ALL", "PLANTED=1", "SSH_AUTH_SOCK=/tmp/x")
	m := manifest("env", "#!/bin/bash\nenv > env.txt\n")
	m.Environment = map[string]string{"SIGNED": "yes"}
	m.Artifacts = []hpcsera.ArtifactPattern{{Path: "env.txt"}}
	id := l.submit(t, l.approve(t, m))
	if j := d.await(id, time.Minute); j.State != hpcsera.Succeeded {
		t.Fatalf("job is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	env := d.get("/jobs/" + id + "/artifacts/env.txt")
	for _, name := range []string{"BASH_ENV=", "LD_PRELOAD=", "SBATCH_", "SLURM_EXPORT_ENV=", "PLANTED=", "SSH_AUTH_SOCK=", "hpcsera_ag"} {
		if strings.Contains("\n"+env, "\n"+name) || strings.Contains(env, "hpcsera_ag") {
			t.Errorf("%s reached the job:\n%s", name, env)
		}
	}
	if !strings.Contains(env, "SIGNED=yes") || !strings.Contains(env, "SLURM_JOB_ID=") || exists(filepath.Join(l.home, "sprung")) {
		t.Errorf("want the signed variable and Slurm's own, and no trap sprung:\n%s", env)
	}
}

// TestMisspeltSettingsAreRefused: a configuration with a misspelt key.
func TestMisspeltSettingsAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := filepath.Join(dir, "hpcserad.yaml")
	write(t, server, "listen: 127.0.0.1:0\ndata_dri: x\n", 0o600)
	agent := filepath.Join(dir, "agent.yaml")
	write(t, agent, "server: http://127.0.0.1:1\nmax_jbos: 3\n", 0o600)
	for name, cmd := range map[string]*exec.Cmd{
		"data_dri": exec.Command(filepath.Join(bin, "hpcserad"), "serve", "--config", server),
		"max_jbos": exec.Command(filepath.Join(bin, "hpcsera-agent"), "run", "--config", agent),
	} {
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), name) || !strings.Contains(string(out), ":2") {
			t.Errorf("%s: %v, printed %q; want it refused by name and line", name, err, out)
		}
	}
}
