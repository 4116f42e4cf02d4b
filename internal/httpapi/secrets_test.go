package httpapi_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// planted are secrets that must show nowhere, each in the forms in which it
// could: its text, the part of it that is random, and the bytes of that.
type planted map[string][][]byte

func (p planted) token(name, text string) {
	random := text[strings.LastIndex(text, "_")+1 : len(text)-8] // without the checksum
	p[name] = [][]byte{[]byte(random), []byte(random[:20])}
	alphabet := base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.").WithPadding(base64.NoPadding)
	if raw, err := alphabet.DecodeString(random); err == nil {
		p[name] = append(p[name], raw)
	}
}

func (p planted) search(t *testing.T, where string, text []byte) {
	t.Helper()
	for name, forms := range p {
		for _, form := range forms {
			if at := bytes.Index(text, form); at >= 0 {
				t.Errorf("%s holds %s: …%q…", where, name, text[max(0, at-80):min(len(text), at+len(form)+20)])
				break
			}
		}
	}
}

func TestNoSecretIsShownOrKept(t *testing.T) {
	d := newDeployment(t)
	token, revoked, agent := d.token(everyone), d.token(everyone), d.enrolled("alice", "cfd")
	must(t, one(d.access.RevokeToken(t.Context(), auth.OperatorOnHost(), access.Revocation{ID: idOf(revoked)})))
	foreign, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	secrets := planted{"the server's key": {d.key, []byte(base64.StdEncoding.EncodeToString(d.key))}}
	for name, text := range map[string]string{"a token": token, "a revoked token": revoked, "another deployment's token": foreign, "an agent's credential": agent.credential} {
		secrets.token(name, text)
	}
	world, all := newTargets(t, d, token, agent), operations(t)
	told := func(request string, a answer) {
		t.Helper()
		secrets.search(t, "the answer to "+request, append(fmt.Appendln(nil, a.header), a.body...))
	}
	for _, text := range []string{token, revoked, foreign, agent.credential, token[:len(token)-1], strings.ToUpper(token[:10]) + token[10:]} {
		for id, o := range all {
			if id == "deleteTokenSelf" {
				continue // the token is still needed
			}
			p := world.probes[id]
			for _, scheme := range []string{"Bearer ", "DPoP ", "Basic ", "", "Bearer"} {
				told(id, d.call("", o[0], world.at(id, o[1])+p.query, p.body, append([]string{"Authorization", scheme + text}, p.header...)...))
			}
		}
		// Where no secret belongs, and people put it all the same.
		for _, request := range []string{
			"GET /api/v1/jobs/" + text, "GET /api/v1/jobs/" + text + "/events", "GET /" + text, "GET /api/v1/sites/" + text, "GET /api/v1/jobs?token=" + text,
			"GET /api/v1/jobs?" + text + "=1", "GET /api/v1/jobs?state=" + text, "GET /api/v1/jobs?cursor=" + text, "GET /api/v1/code/" + text, "GET /api/v1/approvals/" + text,
			"GET /api/v1/blobs/" + text, "POST /api/v1/agents/" + text + "/work", "PUT /api/v1/jobs", "GET /api/v1/jobs/x/artifacts/" + text, "GET /api//v1/" + text,
		} {
			method, path, _ := strings.Cut(request, " ")
			told(request, d.call(token, method, path, nil))
			told(request, d.call("", method, path, nil, "Cookie", "session="+text))
		}
		for _, body := range []string{
			`{"` + text + `":1}`, `{"code":"` + text + `","site":"lab"}`, `{"name":"a","script":"x","site":"` + text + `"}`, `{"name":"` + text + `","script":"x"}`, text,
		} {
			for _, path := range []string{"/api/v1/jobs", "/api/v1/code", "/api/v1/approvals"} {
				told("POST "+path+" "+body, d.call(token, "POST", path, body))
				told("POST "+path+" as something else", d.call(token, "POST", path, body, "Content-Type", text))
			}
		}
	}
	work := "/api/v1/agents/" + agent.id + "/work"
	for _, proof := range []string{"", agent.credential, agent.proof("GET", work), agent.proof("POST", work), agent.proof("POST", work)} {
		a := d.call("", "POST", work, hpcsera.WorkRequest{Instance: "i_00000000000000000001"}, "Authorization", "DPoP "+agent.credential, "DPoP", proof)
		told("an agent's poll", a)
		agent.nonce = a.header.Get("DPoP-Nonce")
	}
	page := httptest.NewRecorder()
	d.metrics.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	secrets.search(t, "the metrics page", page.Body.Bytes())
	d.stop()
	if !strings.Contains(d.log.String(), `"status":401`) || !strings.Contains(d.log.String(), `"status":200`) {
		t.Error("the log does not tell of the requests")
	}
	secrets.search(t, "the log", []byte(d.log.String()))
	delete(secrets, "the server's key") // zeros and sevens may stand anywhere in a database
	files := 0
	must(t, filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".key") {
			return err // the keys are the agents' side of the test
		}
		files++
		text, err := os.ReadFile(path)
		secrets.search(t, path, text)
		return err
	}))
	if files < 3 {
		t.Errorf("%d files were searched, want database, blobs and logs", files)
	}
}
