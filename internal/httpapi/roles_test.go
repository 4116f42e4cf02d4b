package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"golang.org/x/tools/txtar"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// roleTable is testdata/roles.txtar.
type roleTable struct {
	numbers map[string]int    // of the seed's roles, by name
	nobody  map[string]string // what a credential that opens nothing is answered, by kind
	columns []string          // the kinds of principal
	rows    map[string]row    // by operation, or operation:condition
}

// row is one operation of the table.
type row struct {
	clients, agents, persons string
	answers                  map[string]string // by kind of principal
}

func readRoleTable(t *testing.T) roleTable {
	t.Helper()
	archive, err := txtar.ParseFile("testdata/roles.txtar")
	must(t, err)
	sections := map[string]string{}
	for _, f := range archive.Files {
		sections[f.Name] = string(f.Data)
	}
	table := roleTable{numbers: map[string]int{}, nobody: map[string]string{}, rows: map[string]row{}}
	for line := range strings.Lines(sections["roles"]) {
		if number, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			n, err := strconv.Atoi(number)
			must(t, err)
			table.numbers[name] = n
		}
	}
	_, rows, _ := strings.Cut(sections["nobody"], "\n\n")
	for line := range strings.Lines(rows) {
		if kind, answer, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			table.nobody[kind] = strings.TrimSpace(answer)
		}
	}
	_, rows, _ = strings.Cut(sections["operations"], "\noperation ")
	head, rows, _ := strings.Cut(rows, "\n")
	table.columns = strings.Fields(head)[3:] // behind clients, agents and persons
	for line := range strings.Lines(rows) {
		cells := strings.Fields(line)
		if len(cells) == 0 {
			continue
		}
		if len(cells) != 4+len(table.columns) || table.rows[cells[0]].answers != nil {
			t.Fatalf("testdata/roles.txtar: this row is given twice, or has not %d cells: %s", 4+len(table.columns), line)
		}
		r := row{clients: cells[1], agents: cells[2], persons: cells[3], answers: map[string]string{}}
		for i, kind := range table.columns {
			r.answers[kind] = cells[4+i]
		}
		table.rows[cells[0]] = r
	}
	return table
}

// opened says whether a set of roles opens what needs want, such as
// POST_Code,POST_Job (one of them) or POST_Code+POST_Job (both).
func (table roleTable) opened(want string, set int) bool {
	switch want {
	case "any", "all":
		return true
	case "-":
		return false
	}
	for _, alternative := range strings.Split(want, ",") {
		all := true
		for _, name := range strings.Split(alternative, "+") {
			all = all && set&(1<<(table.numbers[name]-1)) != 0
		}
		if all {
			return true
		}
	}
	return false
}

// answerFor splits a cell such as 200/403 by whether the roles are there.
func (table roleTable) answerFor(r row, kind string, set int) string {
	with, without, two := strings.Cut(r.answers[kind], "/")
	if two && !table.opened(r.clients, set) {
		return without
	}
	return with
}

// method and path of each operation of the contract, read from it.
func operations(t *testing.T) map[string][2]string {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Contract())
	must(t, err)
	all := map[string][2]string{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			all[op.OperationID] = [2]string{method, path}
			extra, _ := op.Extensions["x-role-extra"].(map[string]any)
			for condition := range extra {
				all[op.OperationID+":"+condition] = [2]string{method, path}
			}
		}
	}
	return all
}

func TestTheRoleTableHasARowForEveryOperationAndNoOther(t *testing.T) {
	table, all := readRoleTable(t), operations(t)
	for id := range all {
		if _, ok := table.rows[id]; !ok {
			t.Errorf("%s has no row in testdata/roles.txtar: decide who may", id)
		}
	}
	for id, r := range table.rows {
		if _, ok := all[id]; !ok {
			t.Errorf("%s has a row in testdata/roles.txtar, but the contract does not have it", id)
		}
		if open := r.answers["agent"] != "404"; open != (r.agents != "-") {
			t.Errorf("%s: agents need %s, and alice's is answered %s", id, r.agents, r.answers["agent"])
		}
		for kind, want := range map[string]bool{
			"session": r.persons != "-", "another": r.persons == "any" || r.persons == "all", "operator": r.persons == "any" || r.persons == "all" || r.persons == "own,operators",
		} {
			if open := r.answers[kind] != "404" && r.answers[kind] != "hidden"; open != want {
				t.Errorf("%s: it is for persons %s, and %s is answered %s", id, r.persons, kind, r.answers[kind])
			}
		}
		for _, names := range []string{r.clients, r.agents} {
			for _, name := range strings.FieldsFunc(names, func(c rune) bool { return c == ',' || c == '+' }) {
				if table.numbers[name] == 0 && name != "any" && name != "all" && name != "-" {
					t.Errorf("%s: %q is not one of the seed's roles", id, name)
				}
			}
		}
	}
	if len(table.numbers) != 8 || len(table.columns) != 10 || len(table.nobody) != 16 {
		t.Errorf("the table has %d roles, the columns %v and %d dead credentials", len(table.numbers), table.columns, len(table.nobody))
	}
	for name, n := range table.numbers {
		if got := hpcsera.Role(n).String(); got != name {
			t.Errorf("role %d: got %s, want the seed's %s", n, got, name)
		}
	}
}

// probe is a request for one operation that tells, by its answer, whether it
// was authorised, and leaves everything as it was.
type probe struct {
	query, agentQuery string // an agent names the job that its bytes belong to
	body              any
	header            []string
	shows             string // what the answer holds if it shows the target
}

// targets are alice's: see testdata/roles.txtar.
type targets struct {
	path   map[string]string // the values of path parameters, by operation or name
	probes map[string]probe
}

// newTargets makes everything that a request may be about, through the API.
func newTargets(t *testing.T, d *deployment, own string, agent *enrolment) targets {
	t.Helper()
	done, run := d.runningAt(own, agent.agent())
	content := "a,b\n"
	artifact := hpcsera.Artifact{Path: "out/summary.csv", Size: int64(len(content)), Digest: hpcsera.DigestOf([]byte(content))}
	must(t, run.PutBlob(t.Context(), done.ID, artifact.Digest, artifact.Size, strings.NewReader(content)))
	must(t, run.PutLog(t.Context(), done.ID, "stdout", 1, 0, []byte("hello\n")))
	run.report(t, hpcsera.Report{JobID: done.ID, State: hpcsera.Succeeded, Exit: &hpcsera.Exit{}, Artifacts: []hpcsera.Artifact{artifact}})
	// Nobody approved this code, so it is the client's alone.
	open := as[hpcsera.Job](t, d.call(own, "POST", "/api/v1/jobs", script("private")), 201)
	approvals := as[hpcsera.ApprovalList](t, d.call(own, "GET", "/api/v1/approvals", nil), 200).Approvals
	if len(approvals) != 1 {
		t.Fatalf("%d approvals, want one", len(approvals))
	}
	approval := approvals[0]
	const nope = `"values":{"nope":1}`
	// What users in person see and take back.
	spare, err := d.access.CreateAgent(t.Context(), auth.OperatorOnHost(), access.NewAgent{User: "alice", Site: "hlrs", Projects: []string{"cfd"}, Thumbprint: strings.Repeat("A", 43)})
	must(t, err)
	must(t, one(d.access.CreateProject(t.Context(), auth.OperatorOnHost(), access.NewProject{Name: "solo", Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Owner}})))
	session := d.session("alice").id
	var head hpcsera.AuditLine
	must(t, d.db.Read(t.Context(), func(r store.Reader) (err error) {
		head, err = r.AuditHead()
		return err
	}))
	return targets{
		path: map[string]string{
			"id": done.ID, "retryJob": open.ID, "getApproval": approval.ID, "postWork": agent.id, "postReports": agent.id,
			"renewAgent": agent.id, "revokeToken": idOf(d.token("1")), "removeAgent": spare.Agent.ID, "endSession": d.session("alice").id,
			"digest": open.Code.Digest, "headBlob": artifact.Digest, "getBlob": artifact.Digest, "putBlob": hpcsera.DigestOf([]byte("absent")),
			"stream": "stdout", "path": artifact.Path, "name": "lab",
		},
		probes: map[string]probe{
			"submitJobs":      {body: `{"code":"` + open.Code.Digest + `","site":"lab",` + nope + `}`},
			"submitJobs:code": {body: `{"name":"new","script":"true\n","site":"lab",` + nope + `}`},
			"listJobs":        {shows: done.ID},
			"patchJob":        {body: `{"hold":true}`},
			"patchJob:values": {body: `{"hold":true,"values":{}}`},
			"putJobStatus":    {body: `{"annotations":{"not a key":"x"}}`},
			"listJobEvents":   {shows: done.ID},
			"listEvents":      {shows: done.ID},
			"appendJobLog":    {query: "?attempt=1&offset=99", body: []byte("x")},
			"listArtifacts":   {shows: artifact.Digest},
			"postCode":        {body: `{"name":"new","script_file":"absent"}`},
			"listCode":        {shows: open.Code.Digest},
			"putBlob":         {agentQuery: "?job=" + done.ID, body: []byte("nt"), header: []string{"Content-Range", "bytes 4-5/6"}},
			"postApproval":    {body: hpcsera.ApprovalRequest{Statement: approval.Statement, Signature: approval.Signature}},
			"listApprovals":   {shows: approval.ID},
			"postWork":        {body: hpcsera.WorkRequest{Instance: run.instance, Term: run.term}},
			"postReports":     {body: hpcsera.ReportRequest{Instance: hpcsera.NewID("i"), Term: run.term, Epoch: run.epoch, Reports: []hpcsera.Report{}}},
			"listSites":       {shows: `"lab"`},
			"listTokens":      {shows: idOf(own)},
			"requestToken":    {body: `{"project":"cfd","client":"cli","for":"ci"}`},
			"listAgents":      {shows: agent.id},
			"listProjects":    {shows: `"solo"`},
			"listClients":     {shows: `"cli"`},
			"listSessions":    {shows: session},
			"readAudit":       {query: fmt.Sprintf("?limit=1000&before=%d", head.Number), shows: spare.Agent.ID},
		},
	}
}

// at fills in the parameters of an operation's path.
func (w targets) at(id, path string) string {
	id, _, _ = strings.Cut(id, ":")
	for name, value := range w.path {
		if own, ok := w.path[id]; ok && (name == "id" || name == "digest") {
			value = own
		}
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return path
}

// tokens of one kind, by the number of their set of roles.
type tokens [256]string

// issue files tokens of all 256 sets in one transaction.
func issue(t *testing.T, d *deployment, like hpcsera.Token) *tokens {
	t.Helper()
	var texts tokens
	now := time.Now().UTC()
	if like.Expires.IsZero() {
		like.Expires = now.Add(time.Hour)
	}
	like.Created = now.Add(-time.Hour)
	if like.Scope == "" {
		like.Scope = hpcsera.ClientScope
	}
	must(t, d.db.Write(t.Context(), func(tx store.Tx) error {
		for set := range texts {
			token := like
			token.ID, token.Roles = hpcsera.NewID("t"), hpcsera.Roles(set)
			var hash []byte
			texts[set], hash = hpcsera.NewSecret(token.ID)
			if err := tx.InsertToken(token, hash); err != nil {
				return err
			}
		}
		return nil
	}))
	return &texts
}

// deadTokens returns the tokens that open nothing, by kind. All are of alice
// and for her own things.
func deadTokens(t *testing.T, d *deployment, alice hpcsera.Token) map[string]*tokens {
	t.Helper()
	now := time.Now().UTC()
	expired, revoked, later := alice, alice, alice
	expired.Expires, revoked.Revoked, later.NotBefore = now.Add(-time.Second), &now, now.Add(time.Minute)
	all := map[string]*tokens{
		"expired": issue(t, d, expired), "revoked": issue(t, d, revoked), "not-yet": issue(t, d, later),
		"malformed": {}, "deployment": issue(t, newDeployment(t), alice),
	}
	for set, text := range issue(t, d, alice) {
		all["malformed"][set] = []string{text[:len(text)-1], text + "0", strings.ToUpper(text), strings.Replace(text, "_t", "_x", 1), text[:40] + "%" + text[41:]}[set%5]
	}
	return all
}

// direct makes a request without network and chassis.
func (d *deployment) direct(authorization []string, method, target string, p probe) answer {
	var in io.Reader
	kind := "application/json"
	switch b := p.body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	case []byte:
		in, kind = bytes.NewReader(b), "application/octet-stream"
	default:
		raw, err := json.Marshal(b)
		must(d.t, err)
		in = bytes.NewReader(raw)
	}
	r := httptest.NewRequestWithContext(context.Background(), method, target, in)
	if in != nil {
		r.Header.Set("Content-Type", kind)
	}
	for pair := range slices.Chunk(slices.Concat(p.header, authorization), 2) {
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	d.edge.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
	if a.status >= 400 && len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &a.problem); err != nil {
			d.t.Errorf("%s %s: %d with a body that is no problem: %s", method, target, a.status, a.body)
		}
	}
	return a
}

// wrong says what an answer lacks of what a cell of the table wants, or "".
func wrong(a answer, want, shows string) string {
	status, code, _ := strings.Cut(want, ":")
	switch shown := bytes.Contains(a.body, []byte(shows)); {
	case (status == "shown" || status == "hidden") && shows == "":
		return "the test does not know what the answer would show"
	case status == "shown" && !shown:
		return "the target is not in it"
	case status == "hidden" && shown:
		return "the target is in it"
	case status == "shown" || status == "hidden":
		status = "200"
	}
	if strconv.Itoa(a.status) != status {
		return "another status"
	}
	if code == "" {
		code = map[string]string{"403": string(hpcsera.Forbidden), "404": string(hpcsera.NotFound)}[status]
	}
	if code != "" && len(a.body) > 0 && string(a.problem.Code) != code {
		return "another code"
	}
	return ""
}

func TestEveryOperationAnswersEverySetOfRolesAsTheTableSays(t *testing.T) {
	table, all := readRoleTable(t), operations(t)
	d := newDeployment(t)
	must(t, one(d.access.SetMember(t.Context(), auth.OperatorOnHost(), access.NewMember{Project: "bio", User: "alice", Role: hpcsera.Owner})))
	must(t, one(d.access.SetMember(t.Context(), auth.OperatorOnHost(), access.NewMember{Project: "cfd", User: "bob", Role: hpcsera.Member})))
	must(t, one(d.access.CreateUser(t.Context(), auth.OperatorOnHost(), access.NewUser{Name: "root", Operator: true})))
	agent := d.enrolled("alice", "cfd")
	world := newTargets(t, d, d.token(everyone), agent)
	bounds := map[string]attempt{
		"agent": agent.direct, "stranger": d.enrolled("bob", "bio").direct,
		"session": d.session("alice").direct, "another": d.session("bob").direct, "operator": d.session("root").direct,
	}

	alice := hpcsera.Token{User: "alice", Project: "cfd", Client: "cli"}
	living := func() map[string]*tokens {
		project, user, client, site := alice, alice, alice, alice
		project.Project, user.User, client.Client, site.Site = "bio", "bob", "ci", "hlrs"
		return map[string]*tokens{
			"own": issue(t, d, alice), "project": issue(t, d, project), "user": issue(t, d, user), "client": issue(t, d, client), "site": issue(t, d, site),
		}
	}
	kept := living()
	buried, closed := deadTokens(t, d, alice), deadSessions(t, d)
	if got, want := len(buried)+len(closed), len(table.nobody); got != want {
		t.Errorf("%d kinds of dead credentials are tried, want the table's %d", got, want)
	}
	for _, id := range slices.Sorted(maps.Keys(table.rows)) {
		row, method, path := table.rows[id], all[id][0], all[id][1]
		if path == "" {
			continue // told by another test
		}
		p, target := world.probes[id], world.at(id, path)
		byKind := kept
		if id == "deleteTokenSelf" {
			byKind = living() // each is used once
		}
		t.Run(id, func(t *testing.T) {
			asked := make(chan func(), 64)
			var workers sync.WaitGroup
			for range cap(asked) { // together, so that writes share their flushes
				workers.Go(func() {
					for ask := range asked {
						ask()
					}
				})
			}
			for kind, texts := range byKind {
				for set := range texts {
					asked <- func() {
						want := table.answerFor(row, kind, set)
						a := d.direct([]string{"Authorization", "Bearer " + texts[set]}, method, target+p.query, p)
						if fault := wrong(a, want, p.shows); fault != "" {
							t.Errorf("%s, roles [%v]: got %d %s, want %s: %s: %s", kind, hpcsera.Roles(set), a.status, a.problem.Code, want, fault, shortened(a.body))
						}
						if kind == "own" && want == "403" && method != "HEAD" {
							if missing := table.missing(row.clients, set); !strings.Contains(a.problem.Detail, missing) {
								t.Errorf("own, roles [%v]: got %q, want it to name %s", hpcsera.Roles(set), a.problem.Detail, missing)
							}
						}
					}
				}
			}
			for kind, texts := range buried {
				for set := range texts {
					asked <- func() {
						want := strings.Replace(table.nobody[kind], " ", ":", 1)
						if row.clients == "all" {
							want = "200"
						}
						a := d.direct([]string{"Authorization", "Bearer " + texts[set]}, method, target+p.query, p)
						if fault := wrong(a, want, ""); fault != "" {
							t.Errorf("%s, roles [%v]: got %d %s, want %s: %s", kind, hpcsera.Roles(set), a.status, a.problem.Code, want, fault)
						}
					}
				}
			}
			close(asked)
			workers.Wait()
			for kind, ask := range bounds {
				target := target
				if id == "endSession" { // each is ended once
					target = strings.Replace(target, world.path[id], d.session("alice").id, 1)
				}
				a := ask(method, target, p)
				if want := row.answers[kind]; wrong(a, want, p.shows) != "" {
					t.Errorf("%s: got %d %s, want %s: %s", kind, a.status, a.problem.Code, want, shortened(a.body))
				}
			}
			for kind, ask := range closed {
				want := strings.Replace(table.nobody[kind], " ", ":", 1)
				if row.clients == "all" {
					want = "200"
				}
				if a := ask(method, target, p); wrong(a, want, "") != "" {
					t.Errorf("%s: got %d %s, want %s: %s", kind, a.status, a.problem.Code, want, shortened(a.body))
				}
			}
		})
	}
}

// missing names a role that a set lacks and an operation needs.
func (table roleTable) missing(want string, set int) string {
	for _, name := range strings.FieldsFunc(want, func(c rune) bool { return c == ',' || c == '+' }) {
		if n := table.numbers[name]; set&(1<<(n-1)) == 0 {
			return fmt.Sprintf("%d %s", n, name)
		}
	}
	return ""
}
