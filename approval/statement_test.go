package approval_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

const thumb = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

func statement() approval.Statement {
	from := time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC)
	return approval.Statement{
		ID: "ap_0123456789abcdefghjk", Deployment: "https://hpc.example.org", User: "alice", Project: "cfd",
		Sites: []string{"gwdg"}, Clients: []string{"*"}, Submitters: []string{"alice"}, Agents: []string{thumb},
		Code: "sha256:" + strings.Repeat("a", 64), Name: "cavity", Schema: "sha256:" + strings.Repeat("b", 64),
		Limits:    hpcsera.Limits{NodeCount: 4, Duration: hpcsera.Duration(2 * time.Hour), QueueNames: []string{"medium"}},
		NotBefore: from, NotAfter: from.Add(30 * 24 * time.Hour), Runs: 100,
	}
}

func canonical(t *testing.T, s approval.Statement) []byte {
	t.Helper()
	b, err := s.Canonical()
	if err != nil {
		t.Fatalf("Canonical: got %v, want no error", err)
	}
	return b
}

func TestAStatementHasEveryMemberInOneForm(t *testing.T) {
	want := `{"agents":["` + thumb + `"],"clients":["*"],"code":"sha256:` + strings.Repeat("a", 64) +
		`","deployment":"https://hpc.example.org","id":"ap_0123456789abcdefghjk","limits":{"accounts":[],"duration":"2h","memory":null,` +
		`"node_count":4,"queue_names":["medium"],"requeue":false,"reservation_ids":[]},"name":"cavity","not_after":"2026-12-22T14:05:00Z",` +
		`"not_before":"2026-11-22T14:05:00Z","project":"cfd","replaces":"","runs":100,"schema":"sha256:` + strings.Repeat("b", 64) +
		`","sites":["gwdg"],"submitters":["alice"],"type":"hpcsera-code-approval/v1","user":"alice"}`
	if got := string(canonical(t, statement())); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestParseReturnsWhatWasSigned(t *testing.T) {
	s := statement()
	got, err := approval.Parse(canonical(t, s))
	if err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	s.Limits.Accounts, s.Limits.ReservationIDs = []string{}, []string{}
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("-signed +parsed:\n%s", diff)
	}
}

func TestParseRefusesEveryOtherWayToWriteAStatement(t *testing.T) {
	text := string(canonical(t, statement()))
	swap := func(old, new string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in the statement", old)
		}
		return strings.Replace(text, old, new, 1)
	}
	for _, c := range []struct{ name, text, say string }{
		{"an unknown member", swap(`"agents"`, `"admin":true,"agents"`), "not a known field"},
		{"an unknown limit", swap(`"accounts"`, `"ZZZZ":1,"accounts"`), "not a known field"},
		{"a missing member", swap(`"replaces":"",`, ``), "lacks a member"},
		{"a missing limit", swap(`"memory":null,`, ``), "lacks a member"},
		{"a missing list of agents", swap(`"agents":["`+thumb+`"],`, ``), "agents"},
		{"a member twice", swap(`"user":"alice"`, `"user":"alice","user":"mallory"`), "twice"},
		{"a limit twice", swap(`"node_count":4`, `"node_count":4,"node_count":400`), "twice"},
		{"a member twice in another case", swap(`"user":"alice"`, `"user":"alice","User":"mallory"`), "not a known field"},
		{"a member twice by escape", swap(`"user":"alice"`, `"us\u0065r":"mallory","user":"alice"`), "twice"},
		{"an escape that is not needed", swap(`"alice"`, `"\u0061lice"`), "canonical"},
		{"a solidus escaped", swap(`https://`, `https:\/\/`), "canonical"},
		{"a letter that looks alike", swap(`"user":"alice"`, `"user":"аlice"`), "user"},
		{"a zero-width space", swap(`"user":"alice"`, "\"user\":\"al\u200bice\""), "user"},
		{"half a surrogate pair", swap(`"user":"alice"`, `"user":"alice\ud800"`), "surrogate"},
		{"a byte that is not UTF-8", swap(`"user":"alice"`, "\"user\":\"alice\xff\""), "UTF-8"},
		{"a byte order mark", "\ufeff" + text, "not JSON"},
		{"space before", " " + text, "canonical"},
		{"a line feed after", text + "\n", "canonical"},
		{"a second statement after", text + text, "not JSON"},
		{"NUL after", text + "\x00", "not JSON"},
		{"cut short", text[:len(text)-1], "not JSON"},
		{"members in another order", `{"user":"alice",` + strings.Replace(text[1:], `,"user":"alice"`, ``, 1), "canonical"},
		{"spaces between", swap(`,"user"`, `, "user"`), "canonical"},
		{"a number as exponent", swap(`"runs":100`, `"runs":1e2`), "whole number"},
		{"a number as fraction", swap(`"runs":100`, `"runs":100.0`), "whole number"},
		{"a number as text", swap(`"runs":100`, `"runs":"100"`), "whole number"},
		{"a huge number", swap(`"runs":100`, `"runs":99999999999999999999`), "whole number"},
		{"no runs", swap(`"runs":100`, `"runs":0`), "runs"},
		{"negative runs", swap(`"runs":100`, `"runs":-1`), "runs"},
		{"no list", swap(`"sites":["gwdg"]`, `"sites":[]`), "sites"},
		{"null for a list", swap(`"sites":["gwdg"]`, `"sites":null`), "null"},
		{"everywhere", swap(`"sites":["gwdg"]`, `"sites":["*"]`), "sites"},
		{"every agent", swap(`["`+thumb+`"]`, `["*"]`), "agents"},
		{"anyone beside others", swap(`"clients":["*"]`, `"clients":["*","ci"]`), "clients"},
		{"one twice", swap(`"sites":["gwdg"]`, `"sites":["gwdg","gwdg"]`), "twice"},
		{"another type", swap(`hpcsera-code-approval/v1`, `hpcsera-code-approval/v2`), "type"},
		{"another duration's form", swap(`"duration":"2h"`, `"duration":"120m"`), "canonical"},
		{"a duration in seconds", swap(`"duration":"2h"`, `"duration":7200`), "units"},
		{"another time zone", swap(`"2026-11-22T14:05:00Z"`, `"2026-11-22T15:05:00+01:00"`), "not_before"},
		{"fractions of a second", swap(`"2026-11-22T14:05:00Z"`, `"2026-11-22T14:05:00.5Z"`), "not_before"},
		{"an end before the beginning", swap(`"not_after":"2026-12-22T14:05:00Z"`, `"not_after":"2026-11-21T14:05:00Z"`), "not_after"},
		{"more than 90 days", swap(`"not_after":"2026-12-22T14:05:00Z"`, `"not_after":"2027-03-22T14:05:00Z"`), "90 days"},
		{"another form of the server", swap(`https://hpc.example.org"`, `https://hpc.example.org/"`), "deployment"},
		{"the server in capitals", swap(`https://hpc.example.org"`, `https://HPC.example.org"`), "deployment"},
		{"a server with a password", swap(`https://hpc`, `https://a:b@hpc`), "deployment"},
		{"a queue that is an option", swap(`["medium"]`, `["--wrap=id"]`), "queue_names"},
		{"replaces itself", swap(`"replaces":""`, `"replaces":"ap_0123456789abcdefghjk"`), "replaces"},
		{"a list", `[` + text + `]`, "mapping"},
		{"nothing", ``, "not JSON"},
		{"too much", `"` + strings.Repeat("a", 2<<20) + `"`, "too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := approval.Parse([]byte(c.text))
			if hpcsera.CodeOf(err) != hpcsera.ApprovalRefused || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, %v, want %s with %q", got, err, hpcsera.ApprovalRefused, c.say)
			}
		})
	}
}

func TestEveryChangedByteIsRefusedOrMeansSomethingElse(t *testing.T) {
	text := canonical(t, statement())
	for i := range text {
		for _, b := range []byte{0, ' ', '"', '\\', '0', 'a', 0xff} {
			changed := bytes.Clone(text)
			if changed[i] = b; bytes.Equal(changed, text) {
				continue
			}
			s, err := approval.Parse(changed)
			if err != nil {
				continue
			}
			if again := canonical(t, s); !bytes.Equal(again, changed) {
				t.Fatalf("byte %d as %q: parsed to what would be signed as %s", i, b, again)
			}
		}
	}
}

func TestStatementsReadBackAsTheyWereWritten(t *testing.T) {
	name := rapid.StringMatching(`[a-z0-9-]{1,20}`)
	word := rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9_.@%+-]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(name, 1, 4, rapid.ID[string])
		words := rapid.SliceOfNDistinct(word, 0, 4, rapid.ID[string])
		from := time.Unix(rapid.Int64Range(1e9, 4e9).Draw(t, "from"), 0).UTC()
		s := approval.Statement{
			ID: hpcsera.NewID("ap"), Deployment: "http://127.0.0.1:8080/x", User: name.Draw(t, "user"), Project: name.Draw(t, "project"),
			Sites: names.Draw(t, "sites"), Clients: names.Draw(t, "clients"), Submitters: []string{"*"}, Agents: []string{thumb},
			Code: hpcsera.DigestOf([]byte(name.Draw(t, "code"))), Name: name.Draw(t, "name"), Replaces: hpcsera.NewID("ap"),
			Schema: hpcsera.DigestOf(nil),
			Limits: hpcsera.Limits{
				NodeCount:  rapid.IntRange(1, 1000).Draw(t, "nodes"),
				Duration:   hpcsera.Duration(rapid.Int64Range(0, 1e6).Draw(t, "duration")) * hpcsera.Duration(time.Second),
				Memory:     hpcsera.Bytes(rapid.Int64Range(0, 1e9).Draw(t, "memory")) * 1024,
				QueueNames: words.Draw(t, "queues"), Accounts: words.Draw(t, "accounts"), ReservationIDs: words.Draw(t, "reservations"),
				Requeue: rapid.Bool().Draw(t, "requeue"),
			},
			NotBefore: from, NotAfter: from.Add(time.Duration(rapid.Int64Range(1, 90*86400).Draw(t, "span")) * time.Second),
			Runs: rapid.IntRange(1, 1e9).Draw(t, "runs"),
		}
		text, err := s.Canonical()
		if err != nil {
			t.Fatalf("Canonical: got %v, want no error", err)
		}
		got, err := approval.Parse(text)
		if err != nil {
			t.Fatalf("Parse(%s): got %v, want no error", text, err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Fatalf("-signed +parsed:\n%s", diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	text, _ := statement().Canonical()
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := approval.Parse(data)
		if err != nil {
			return
		}
		if again, err := s.Canonical(); err != nil || !bytes.Equal(again, data) {
			t.Errorf("accepted %q, which would be signed as %q (%v)", data, again, err)
		}
	})
}

func TestDeploymentHasOneForm(t *testing.T) {
	for in, want := range map[string]string{
		"https://HPC.Example.org/":             "https://hpc.example.org",
		"https://hpc.example.org:443/api/v1/":  "https://hpc.example.org",
		"http://127.0.0.1:80":                  "http://127.0.0.1",
		"http://127.0.0.1:8080/hpc//x/":        "http://127.0.0.1:8080/hpc/x",
		"https://hpc.example.org:8443/api/v1":  "https://hpc.example.org:8443",
		"HTTPS://hpc.example.org/a/../b/./c":   "https://hpc.example.org/b/c",
		"https://[2001:DB8::1]:443/api/v1":     "https://[2001:db8::1]",
		"https://hpc.example.org/api/v1/extra": "https://hpc.example.org/api/v1/extra",
	} {
		if got, err := approval.Deployment(in); err != nil || got != want {
			t.Errorf("Deployment(%q): got %q, %v, want %q", in, got, err, want)
		}
		if again, err := approval.Deployment(want); err != nil || again != want {
			t.Errorf("Deployment(%q): got %q, %v, want it unchanged", want, again, err)
		}
	}
	for _, in := range []string{"", "hpc.example.org", "ftp://x", "https://", "https://a:b@x", "https://x?y", "https://x#y", "mailto:x", "https://x y"} {
		if got, err := approval.Deployment(in); err == nil {
			t.Errorf("Deployment(%q): got %q, want an error", in, got)
		}
	}
}

func manifest() hpcsera.Manifest {
	return hpcsera.Manifest{
		Name:       "cavity",
		Program:    hpcsera.Program{Script: "icoFoam\n"},
		Parameters: map[string]json.RawMessage{"viscosity": json.RawMessage(`{"type":"number","default":0.01}`)},
		Limits:     &hpcsera.Limits{NodeCount: 16, QueueNames: []string{"medium", "large"}},
	}
}

func options() approval.Options {
	return approval.Options{
		Deployment: "https://hpc.example.org/", User: "alice", Project: "cfd",
		Sites: []string{"hlrs", "gwdg", "gwdg"}, Agents: []string{thumb}, NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 999, time.UTC),
	}
}

func TestForManifestSignsTheCodeAndEveryLimit(t *testing.T) {
	m := manifest()
	run := hpcsera.RunPart{
		Resources:  hpcsera.Resources{NodeCount: 4, Memory: 64 << 30},
		Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(time.Hour), QueueName: "medium", Account: "cfd01"},
		Requeue:    true,
	}
	s, err := approval.ForManifest(m, run, options())
	if err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	digest, _ := m.Digest()
	if s.Code != digest || s.Name != "cavity" {
		t.Errorf("got code %s and name %s, want %s and cavity", s.Code, s.Name, digest)
	}
	want := hpcsera.Limits{
		NodeCount: 16, Duration: hpcsera.Duration(time.Hour), Memory: 64 << 30,
		QueueNames: []string{"large", "medium"}, Accounts: []string{"cfd01"}, Requeue: true,
	}
	if diff := cmp.Diff(want, s.Limits); diff != "" {
		t.Errorf("limits: -want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"gwdg", "hlrs"}, s.Sites); diff != "" {
		t.Errorf("sites: -want +got:\n%s", diff)
	}
	if got, want := s.NotAfter.Sub(s.NotBefore), 30*24*time.Hour; got != want || s.Runs != approval.DefaultRuns {
		t.Errorf("got %v and %d runs, want %v and %d", got, s.Runs, want, approval.DefaultRuns)
	}
	if s.Deployment != "https://hpc.example.org" || len(s.Clients) != 1 || s.Clients[0] != "*" || s.Submitters[0] != "alice" {
		t.Errorf("got %s, %v, %v, want the server, anyone and alice", s.Deployment, s.Clients, s.Submitters)
	}
}

func TestForManifestRefusesWhatCouldNeverRun(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*hpcsera.Manifest, *hpcsera.RunPart, *approval.Options)
		field string
	}{
		{"above its own limits", func(_ *hpcsera.Manifest, r *hpcsera.RunPart, _ *approval.Options) { r.Resources.NodeCount = 17 }, "resources.node_count"},
		{"in a queue it does not allow", func(_ *hpcsera.Manifest, r *hpcsera.RunPart, _ *approval.Options) { r.Attributes.QueueName = "gpu" }, "attributes.queue_name"},
		{"code that is not valid", func(m *hpcsera.Manifest, _ *hpcsera.RunPart, _ *approval.Options) { m.Script = "" }, "script"},
		{"for no agent", func(_ *hpcsera.Manifest, _ *hpcsera.RunPart, o *approval.Options) { o.Agents = nil }, "agents"},
		{"for no site", func(_ *hpcsera.Manifest, _ *hpcsera.RunPart, o *approval.Options) { o.Sites = nil }, "sites"},
		{"for too long", func(_ *hpcsera.Manifest, _ *hpcsera.RunPart, o *approval.Options) { o.Validity = 91 * 24 * time.Hour }, "not_after"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, r, o := manifest(), hpcsera.RunPart{}, options()
			c.spoil(&m, &r, &o)
			_, err := approval.ForManifest(m, r, o)
			var e *hpcsera.Error
			if !errors.As(err, &e) || e.Field != c.field {
				t.Errorf("got %v, want an error at %s", err, c.field)
			}
		})
	}
}

func TestSchemaDigestFollowsTheParametersOnly(t *testing.T) {
	digest := func(m hpcsera.Manifest) string {
		d, err := approval.SchemaDigest(m)
		if err != nil {
			t.Fatalf("got %v, want no error", err)
		}
		return d
	}
	m := manifest()
	first := digest(m)
	m.Script = "true\n"
	m.Parameters["viscosity"] = json.RawMessage(`{ "default": 1e-2, "type": "number" }`)
	if got := digest(m); got != first {
		t.Errorf("other code, same schemas: got %s, want %s", got, first)
	}
	m.Parameters["viscosity"] = json.RawMessage(`{"type":"number"}`)
	if got := digest(m); got == first {
		t.Errorf("another schema: got the same digest")
	}
	if got, want := digest(hpcsera.Manifest{}), hpcsera.DigestOf([]byte("{}")); got != want {
		t.Errorf("no parameters: got %s, want %s", got, want)
	}
}
