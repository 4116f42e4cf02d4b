package api_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

func contract(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(api.Contract())
	if err != nil {
		t.Fatalf("load the contract: %v", err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatalf("validate the contract and its examples: %v", err)
	}
	return doc
}

// types are the root types that stand for schemas. always says that whatever
// is always written must be required, as for everything the server answers.
var types = map[string]struct {
	of     reflect.Type
	always bool
}{
	"Agent":            {reflect.TypeFor[hpcsera.Agent](), true},
	"AgentList":        {reflect.TypeFor[hpcsera.AgentList](), true},
	"Approval":         {reflect.TypeFor[hpcsera.Approval](), true},
	"ApprovalList":     {reflect.TypeFor[hpcsera.ApprovalList](), true},
	"ApprovalRequest":  {reflect.TypeFor[hpcsera.ApprovalRequest](), true},
	"Artifact":         {reflect.TypeFor[hpcsera.Artifact](), true},
	"ArtifactList":     {reflect.TypeFor[hpcsera.ArtifactList](), true},
	"AskedToken":       {reflect.TypeFor[hpcsera.AskedToken](), true},
	"Attempt":          {reflect.TypeFor[hpcsera.Attempt](), true},
	"Attributes":       {reflect.TypeFor[hpcsera.Attributes](), true},
	"AuditLine":        {reflect.TypeFor[hpcsera.AuditLine](), true},
	"AuditList":        {reflect.TypeFor[hpcsera.AuditList](), true},
	"BulkAnswer":       {reflect.TypeFor[hpcsera.BulkAnswer](), true},
	"BulkRequest":      {reflect.TypeFor[hpcsera.BulkRequest](), true},
	"ClientList":       {reflect.TypeFor[hpcsera.ClientList](), true},
	"Commands":         {reflect.TypeFor[hpcsera.Commands](), false},
	"Container":        {reflect.TypeFor[hpcsera.Container](), false},
	"CodeEntry":        {reflect.TypeFor[hpcsera.CodeEntry](), true},
	"CodeList":         {reflect.TypeFor[hpcsera.CodeList](), true},
	"CodeRef":          {reflect.TypeFor[hpcsera.CodeRef](), true},
	"Dependency":       {reflect.TypeFor[hpcsera.Dependency](), true},
	"Event":            {reflect.TypeFor[hpcsera.Event](), true},
	"EventList":        {reflect.TypeFor[hpcsera.EventList](), true},
	"Exit":             {reflect.TypeFor[hpcsera.Exit](), true},
	"Facts":            {reflect.TypeFor[hpcsera.Facts](), true},
	"File":             {reflect.TypeFor[hpcsera.File](), true},
	"Job":              {reflect.TypeFor[hpcsera.Job](), true},
	"JobList":          {reflect.TypeFor[hpcsera.JobList](), true},
	"JobPatch":         {reflect.TypeFor[hpcsera.JobPatch](), true},
	"Load":             {reflect.TypeFor[hpcsera.Load](), true},
	"Nodes":            {reflect.TypeFor[hpcsera.Nodes](), true},
	"SiteCode":         {reflect.TypeFor[hpcsera.SiteCode](), true},
	"Overlay":          {reflect.TypeFor[hpcsera.Overlay](), true},
	"JobSpec":          {reflect.TypeFor[hpcsera.JobSpec](), false}, // its name is required only without code
	"JobStatus":        {reflect.TypeFor[hpcsera.JobStatus](), true},
	"Keep":             {reflect.TypeFor[hpcsera.Keep](), true},
	"Limits":           {reflect.TypeFor[hpcsera.Limits](), true},
	"LogAppended":      {reflect.TypeFor[hpcsera.LogAppended](), true},
	"Manifest":         {reflect.TypeFor[hpcsera.Manifest](), true},
	"Native":           {reflect.TypeFor[hpcsera.Native](), true},
	"Order":            {reflect.TypeFor[hpcsera.Order](), true},
	"OrderSpec":        {reflect.TypeFor[hpcsera.OrderSpec](), true},
	"Project":          {reflect.TypeFor[hpcsera.Project](), true},
	"ProjectList":      {reflect.TypeFor[hpcsera.ProjectList](), true},
	"Queue":            {reflect.TypeFor[hpcsera.Queue](), true},
	"Read":             {reflect.TypeFor[hpcsera.Read](), true},
	"RegisteredClient": {reflect.TypeFor[hpcsera.Client](), true},
	"RenewedAgent":     {reflect.TypeFor[hpcsera.RenewedAgent](), true},
	"Report":           {reflect.TypeFor[hpcsera.Report](), true},
	"ReportAnswer":     {reflect.TypeFor[hpcsera.ReportAnswer](), true},
	"ReportRequest":    {reflect.TypeFor[hpcsera.ReportRequest](), true},
	"Resources":        {reflect.TypeFor[hpcsera.Resources](), true},
	"RunPart":          {reflect.TypeFor[hpcsera.RunPart](), true},
	"Session":          {reflect.TypeFor[hpcsera.Session](), true},
	"SessionList":      {reflect.TypeFor[hpcsera.SessionList](), true},
	"Site":             {reflect.TypeFor[hpcsera.Site](), true},
	"SiteList":         {reflect.TypeFor[hpcsera.SiteList](), true},
	"Step":             {reflect.TypeFor[hpcsera.Step](), true},
	"Submitted":        {reflect.TypeFor[hpcsera.Submitted](), true},
	"Times":            {reflect.TypeFor[hpcsera.Times](), true},
	"Token":            {reflect.TypeFor[hpcsera.Token](), true},
	"TokenList":        {reflect.TypeFor[hpcsera.TokenList](), true},
	"TokenWish":        {reflect.TypeFor[hpcsera.TokenWish](), true},
	"WorkAnswer":       {reflect.TypeFor[hpcsera.WorkAnswer](), true},
	"WorkRequest":      {reflect.TypeFor[hpcsera.WorkRequest](), true},
}

// ours are fields that never travel, with the reason.
var ours = map[string]string{
	"OrderSpec.run_fault": "written by the agent, for its journal, when it reads an order",
}

// members returns the JSON names of a struct, true for those always written.
func members(t reflect.Type) map[string]bool {
	found := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for inner, always := range members(f.Type) {
				if _, hidden := found[inner]; !hidden {
					found[inner] = always
				}
			}
		case f.IsExported() && name != "-":
			found[name] = !strings.Contains(options, "omit")
		}
	}
	return found
}

func TestSchemasAndTypesHaveTheSameFields(t *testing.T) {
	doc := contract(t)
	for name, ref := range doc.Components.Schemas {
		s := ref.Value
		goType, _ := s.Extensions["x-go-type"].(string)
		if !strings.HasPrefix(goType, "hpcsera.") || !s.Type.Is("object") || len(s.Properties) == 0 {
			continue
		}
		known, ok := types[name]
		if !ok || "hpcsera."+known.of.Name() != goType {
			t.Errorf("schema %s: its Go type %s is not in the test's list: add it", name, goType)
			continue
		}
		if s.AdditionalProperties.Has == nil || *s.AdditionalProperties.Has {
			t.Errorf("schema %s is open: unknown fields would be dropped without a word", name)
		}
		fields := members(known.of)
		for field, always := range fields {
			if ours[name+"."+field] != "" {
				continue
			}
			if s.Properties[field] == nil {
				t.Errorf("schema %s lacks %q, which the type has", name, field)
			}
			if known.always && always != slices.Contains(s.Required, field) {
				t.Errorf("schema %s, %q: required is %v, always written is %v", name, field, !always, always)
			}
		}
		for property := range s.Properties {
			if _, ok := fields[property]; !ok {
				t.Errorf("schema %s has %q, which the type lacks", name, property)
			}
		}
	}
}

func TestEnumsAreTheRootPackagesLists(t *testing.T) {
	doc := contract(t)
	for name, want := range map[string][]string{
		"State": texts(hpcsera.States), "Reason": texts(hpcsera.Reasons),
		"Desired":  texts(hpcsera.Desires),
		"Outcome":  texts([]hpcsera.Outcome{hpcsera.Applied, hpcsera.Duplicate, hpcsera.Stale, hpcsera.UnknownJob, hpcsera.Illegal, hpcsera.CalledOff}),
		"StepType": texts([]hpcsera.StepType{hpcsera.LoginStep, hpcsera.BatchStep}),
	} {
		var got []string
		for _, v := range doc.Components.Schemas[name].Value.Enum {
			got = append(got, v.(string))
		}
		if !slices.Equal(got, want) {
			t.Errorf("enum %s: got %v, want %v", name, got, want)
		}
	}
	var got, want []string
	for _, v := range doc.Components.Schemas["Roles"].Value.Items.Value.Enum {
		got = append(got, v.(string))
	}
	for _, r := range hpcsera.Roles(255).List() {
		want = append(want, r.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("enum Roles: got %v, want %v", got, want)
	}
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}

// ptr is what a pointer field of an example needs.
func ptr[T any](v T) *T { return &v }

func TestWhatTheTypesWriteFitsTheSchemas(t *testing.T) {
	doc := contract(t)
	at := time.Date(2026, 11, 22, 13, 58, 31, 5000, time.UTC)
	digest := hpcsera.DigestOf([]byte("x"))
	run := hpcsera.RunPart{
		Site: "gwdg", Resources: hpcsera.Resources{NodeCount: 2, Memory: 3 << 30, ExclusiveNodeUse: true},
		Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(26*time.Hour + 90*time.Second), QueueName: "medium", Account: "a", ReservationID: "r"},
		Values:     hpcsera.Values{"x": json.RawMessage(`[1,{"y":null}]`)}, Dependencies: []hpcsera.Dependency{{Job: hpcsera.NewID("j"), State: hpcsera.Succeeded}},
		Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}, Keep: hpcsera.Keep{Succeeded: hpcsera.Duration(time.Hour)}, Requeue: true, Hold: true,
	}
	program := hpcsera.Program{ScriptFile: "run.sh", Arguments: []string{"-c", "{x}"}, Launcher: "none"}
	manifest := hpcsera.Manifest{
		Name: "cavity", Files: []hpcsera.File{{Path: "run.sh", Mode: "0755", Size: 3, SHA256: digest[7:]}}, Environment: map[string]string{"A": "b"},
		Parameters: map[string]json.RawMessage{"x": json.RawMessage(`{"type":"number"}`)}, Artifacts: []hpcsera.ArtifactPattern{{Path: "*.csv", Always: true}, {Path: "y"}},
		Result: "r.json", CustomAttributes: map[string]string{"slurm.constraint": "x"}, Directives: "converted",
		Limits: &hpcsera.Limits{NodeCount: 4, Duration: hpcsera.Duration(time.Hour), Memory: 1 << 30, QueueNames: []string{"q"}, Accounts: []string{"a"}, ReservationIDs: []string{"r"}, Requeue: true},
		Steps: []hpcsera.Step{
			{Name: "a", Type: hpcsera.LoginStep, Program: program, Timeout: hpcsera.Duration(time.Minute)},
			{Name: "b", Type: hpcsera.BatchStep, Program: program, Resources: &hpcsera.Resources{NodeCount: 1}},
		},
	}
	native := &hpcsera.Native{System: "slurm", Cluster: "c", ID: "4711", State: "PENDING", Submitted: &at}
	exit := &hpcsera.Exit{Code: 1, Signal: 9}
	artifact := hpcsera.Artifact{Path: "a/b.csv", Size: 3, Digest: digest}
	facts := &hpcsera.Facts{Version: "1", Host: "h", System: "slurm", SystemVersion: "22.05.8", Cluster: "c", FromCron: true, OtherQueues: true,
		Nodes: &hpcsera.Nodes{Total: 3, Up: 2, Idle: 1}, Jobs: &hpcsera.Load{Queued: 1, Running: 2}, LargestArray: 1001,
		Queues: []hpcsera.Queue{{Name: "q", Default: true, State: "UP", Closed: true, Restricted: true, Nodes: 3, Idle: ptr(1), MaxNodes: 2, CoresPerNode: 96,
			MemoryPerNode: 1 << 40, GPUsPerNode: 4, MaxDuration: hpcsera.Duration(time.Hour), DefaultDuration: hpcsera.Duration(time.Minute)}}}
	job := hpcsera.Job{
		ID: hpcsera.NewID("j"), Version: 1, Name: "cavity", Project: "cfd", User: "alice", Client: "cli", Site: "gwdg", Agent: "ag_x", Sweep: ptr("sw"),
		State: hpcsera.Queued, Reason: hpcsera.WaitingForPriority, Message: "m", Estimated: &at, AsOf: &at, Step: 1, Attempt: 2, Desired: hpcsera.DesiredRun,
		Code: hpcsera.CodeRef{Digest: digest, Name: "cavity", Approval: "ap_x"}, Values: run.Values, Resources: run.Resources, Attributes: run.Attributes,
		Native: native, Exit: exit, Nodes: "n[1-2]", Directory: "gwdg:/x", Requeue: true, RetryOf: "j_x", Depends: run.Dependencies, Labels: run.Labels,
		Annotation: run.Annotations, Progress: ptr(0.5), Warnings: []string{"w"}, Times: hpcsera.Times{Created: at, Delivered: &at, Queued: &at, Running: &at, Ended: &at},
		Keep: run.Keep, Result: json.RawMessage(`{"a":1}`), Artifacts: []hpcsera.Artifact{artifact},
		Attempts: []hpcsera.Attempt{{Attempt: 1, Native: native, Exit: exit, Nodes: "n1", Queued: &at, Running: &at}, {Attempt: 1}},
	}
	young := hpcsera.Job{
		ID: "j_x", Name: "a", State: hpcsera.Pending, Desired: hpcsera.DesiredRun, Code: hpcsera.CodeRef{Digest: digest}, Values: hpcsera.Values{},
		Labels: map[string]string{}, Annotation: map[string]string{}, Warnings: []string{}, Times: hpcsera.Times{Created: at},
	}
	spec := &hpcsera.OrderSpec{Name: "cavity", User: "alice", Project: "cfd", Client: "cli", Submitter: "alice", Site: "gwdg", Idempotency: "k", Digest: digest,
		Manifest: json.RawMessage(`{"name":"cavity","script":"x"}`), Statement: []byte("s"), Signature: "sig", Run: run, Created: at}
	report := hpcsera.Report{JobID: "j_x", Step: 1, Attempt: 1, Seq: 1, Revision: 2, State: hpcsera.Running, Reason: hpcsera.Throttled, Message: "m", At: at, Native: native,
		Exit: exit, Nodes: "n", Estimated: &at, AsOf: &at, Directory: "/x", Warning: "w", Result: json.RawMessage(`{"a":1}`), Artifacts: []hpcsera.Artifact{artifact}}
	agent := hpcsera.Agent{ID: "ag_x", User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: "t", Created: at, Expires: at, LastSeen: &at, Facts: facts}
	for _, c := range []struct {
		schema string
		value  any
	}{
		{"Job", job}, {"Job", young}, {"JobList", hpcsera.JobList{Jobs: []hpcsera.Job{job, young}, Next: "c"}},
		{"JobSpec", hpcsera.JobSpec{Code: "cavity", RunPart: run}}, {"JobSpec", hpcsera.JobSpec{Manifest: manifest, RunPart: run}},
		{"JobSpec", hpcsera.JobSpec{Code: "cavity", RunPart: hpcsera.RunPart{Site: "gwdg,hlrs"}, Overlays: map[string]hpcsera.Overlay{
			"hlrs": {Resources: run.Resources, Attributes: run.Attributes, Values: run.Values, Labels: run.Labels, Keep: run.Keep}}}},
		{"BulkRequest", hpcsera.BulkRequest{Jobs: []hpcsera.JobSpec{{Code: "cavity"}}}},
		{"BulkAnswer", hpcsera.BulkAnswer{Jobs: []hpcsera.Submitted{{ID: "j_x", Version: 1, State: hpcsera.Pending, Reason: hpcsera.WaitingForAgent}}}},
		{"JobPatch", hpcsera.JobPatch{Hold: ptr(true), Labels: &run.Labels, Annotations: &run.Annotations, Resources: &run.Resources, Attributes: &run.Attributes, Values: &run.Values}},
		{"JobStatus", hpcsera.JobStatus{Annotations: run.Annotations, Progress: ptr(1.0), Message: ptr("m")}},
		{"Manifest", manifest},
		{"CodeEntry", hpcsera.CodeEntry{Digest: digest, Name: "cavity", Project: "cfd", Manifest: manifest, Missing: []string{digest}, Created: at}},
		{"Approval", hpcsera.Approval{ID: "ap_x", User: "alice", Project: "cfd", Digest: digest, Name: "cavity", NotBefore: at, NotAfter: at, Statement: []byte("s"), Signature: "g", Filed: at}},
		{"ApprovalRequest", hpcsera.ApprovalRequest{Statement: []byte("s"), Signature: "g"}},
		{"EventList", hpcsera.EventList{Events: []hpcsera.Event{{Seq: 1, At: at, Type: "job.state", Job: "j_x", Project: "cfd", Attempt: 1, State: hpcsera.Held, Reason: hpcsera.HeldBySite, Message: "m", Desired: hpcsera.DesiredHold}}, Next: 1}},
		{"Token", hpcsera.Token{ID: "t_x", User: "alice", Project: "cfd", Client: "cli", Site: "gwdg", Scope: hpcsera.ClientScope, Roles: 255, Created: at, NotBefore: at, Expires: at, Revoked: &at}},
		{"TokenWish", hpcsera.TokenWish{Project: "cfd", Client: "gitlab", Roles: 5, Site: "gwdg", Scope: hpcsera.ProjectScope, Days: 3}},
		{"TokenWish", hpcsera.TokenWish{Project: "cfd", Client: "gitlab", For: "ci"}},
		{"AskedToken", hpcsera.AskedToken{ID: "rq_x", URL: "https://x", Expires: at, Interval: 5, DeviceCode: "x"}},
		{"TokenList", hpcsera.TokenList{Tokens: []*hpcsera.Token{{ID: "t_x", Scope: hpcsera.ClientScope, Created: at, Expires: at, Used: &at}}}},
		{"AgentList", hpcsera.AgentList{Agents: []*hpcsera.Agent{&agent}}}, {"RenewedAgent", hpcsera.RenewedAgent{Credential: "x", Expires: at}},
		{"ProjectList", hpcsera.ProjectList{Projects: []*hpcsera.Project{{Name: "cfd", Created: at, Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Owner}}}}},
		{"ClientList", hpcsera.ClientList{Clients: []*hpcsera.Client{{Name: "gitlab", Owner: "alice", Disabled: true, Created: at}}}},
		{"SessionList", hpcsera.SessionList{Sessions: []*hpcsera.Session{{ID: "ls_x", User: "alice", Thumbprint: "t", Host: "h", Created: at, Expires: at}}}},
		{"AuditList", hpcsera.AuditList{Lines: []*hpcsera.AuditLine{{Number: 1, At: at, Actor: "server", Action: "a", User: "u", Project: "p", About: "x", Refused: hpcsera.Forbidden, Detail: "d", Hash: "h"}}, Next: 1}},
		{"SiteList", hpcsera.SiteList{Sites: []hpcsera.Site{{Name: "gwdg", Disabled: true, Created: at, Agents: []hpcsera.Agent{agent, {ID: "ag_y", Projects: []string{}}}}}}},
		{"WorkRequest", hpcsera.WorkRequest{Instance: "i_x", Term: 1, Epoch: 1, Acked: "c", Free: 3, Wait: 30, Takeover: "i_y", Stopping: true, Facts: facts}},
		{"WorkAnswer", hpcsera.WorkAnswer{Epoch: 1, Term: 1, Cursor: "c", AppliedSeq: 3, Orders: []hpcsera.Order{{JobID: "j_x", Attempt: 1, Revision: 1, Desired: hpcsera.DesiredCancel, Spec: spec}, {Desired: hpcsera.DesiredRun}},
			Reads: []hpcsera.Read{{ID: "r", JobID: "j_x", Path: "a", Offset: 1, Length: 2}}, Stopping: true}},
		{"ReportRequest", hpcsera.ReportRequest{Instance: "i_x", Term: 1, Reports: []hpcsera.Report{report, {JobID: "j_x", Attempt: 1, Seq: 2, State: hpcsera.Failed, At: at}}}},
		{"ReportAnswer", hpcsera.ReportAnswer{Outcomes: []hpcsera.Outcome{hpcsera.Applied}}},
	} {
		b, err := json.Marshal(c.value)
		if err != nil {
			t.Fatalf("%s: marshal: %v", c.schema, err)
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%s: unmarshal: %v", c.schema, err)
		}
		if err := doc.Components.Schemas[c.schema].Value.VisitJSON(v); err != nil {
			t.Errorf("%s does not fit its schema: %v\ngot %s", c.schema, err, b)
		}
	}
}

func TestEveryOperationSaysWhoMayAndWhatItAnswers(t *testing.T) {
	for path, item := range contract(t).Paths.Map() {
		for method, op := range item.Operations() {
			name := method + " " + path
			if op.OperationID == "" || op.Summary == "" || len(op.Tags) != 1 {
				t.Errorf("%s: operationId %q, summary %q, tags %v: want all, and one tag", name, op.OperationID, op.Summary, op.Tags)
			}
			if op.Extensions["x-role"] == nil {
				t.Errorf("%s has no x-role", name)
			}
			problems := 0
			for status, response := range op.Responses.Map() {
				if status[0] != '2' && response.Value.Content["application/problem+json"] != nil {
					problems++
				}
				for kind, media := range response.Value.Content {
					if media.Example == nil && len(media.Examples) == 0 {
						t.Errorf("%s: answer %s %s has no example", name, status, kind)
					}
				}
			}
			if problems == 0 {
				t.Errorf("%s names no problem that it can answer", name)
			}
		}
	}
}
