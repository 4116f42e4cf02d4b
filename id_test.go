package hpcsera_test

import (
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestNewIDsAreValidAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := hpcsera.NewID("j")
		if !hpcsera.ValidID("j", id) || seen[id] {
			t.Fatalf("id %q: valid %v, seen before %v", id, hpcsera.ValidID("j", id), seen[id])
		}
		seen[id] = true
	}
}

func TestOnlyWhatNewIDGivesIsValid(t *testing.T) {
	good := "j_0123456789abcdefghjk"
	if !hpcsera.ValidID("j", good) {
		t.Fatalf("%q: got invalid", good)
	}
	for _, id := range []string{
		"", "j_", "j", "ap_0123456789abcdefghjk", "j_0123456789abcdefghj", "j_0123456789abcdefghjkm", "j_0123456789ABCDEFGHJK",
		"j_../../../etc/passwd0", "j_0123456789abcdefghi/", "j_0123456789abcdefghj\x00", "j_0123456789abcdefghj\n", "J_0123456789abcdefghjk",
		"j_0123456789abcdefghjé",
	} {
		if hpcsera.ValidID("j", id) {
			t.Errorf("%q: got valid", id)
		}
	}
}

func TestDerivedIDNamesOneRequestOnly(t *testing.T) {
	base := hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs", "k1", 0)
	if again := hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs", "k1", 0); again != base {
		t.Errorf("the same request: got %s and %s", base, again)
	}
	if !hpcsera.ValidID("j", base) {
		t.Errorf("%q is not a job id", base)
	}
	for name, other := range map[string]string{
		"index":           hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs", "k1", 1),
		"key":             hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs", "k2", 0),
		"path":            hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs/x", "k1", 0),
		"client":          hpcsera.DerivedJobID("cfd", "flowable", "/api/v1/jobs", "k1", 0),
		"project":         hpcsera.DerivedJobID("melt", "gitlab", "/api/v1/jobs", "k1", 0),
		"moved separator": hpcsera.DerivedJobID("cfdg", "itlab", "/api/v1/jobs", "k1", 0),
	} {
		if other == base {
			t.Errorf("another %s: got the same id %s", name, base)
		}
	}
}

// The ids of accepted requests must not change with a release: a client may
// repeat a request across one.
func TestDerivedIDIsStable(t *testing.T) {
	const want = "j_hf5az0erc3dqjxa04sey"
	if got := hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs", "k1", 0); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestSecretsSurviveTheirTextAndNothingElseDoes(t *testing.T) {
	for _, prefix := range []string{"t", "ag", "ls"} {
		id := hpcsera.NewID(prefix)
		text, hash := hpcsera.NewSecret(id)
		gotID, gotHash, ok := hpcsera.ParseSecret(text)
		if !ok || gotID != id || string(gotHash) != string(hash) {
			t.Errorf("%s: got %q %x %v, want %q %x", text, gotID, gotHash, ok, id, hash)
		}
		if strings.Contains(text, string(hash)) || !strings.HasPrefix(text, "hpcsera_"+prefix) {
			t.Errorf("the text %q is not recognisable", text)
		}
		for i := range text {
			for _, c := range []byte{'x', '_', ' ', 0} {
				if text[i] == c {
					continue
				}
				broken := text[:i] + string(c) + text[i+1:]
				if _, _, ok := hpcsera.ParseSecret(broken); ok {
					t.Errorf("byte %d changed to %q: still accepted", i, c)
				}
			}
			if _, _, ok := hpcsera.ParseSecret(text[:i]); ok {
				t.Errorf("cut to %d bytes: still accepted", i)
			}
		}
	}
	for _, text := range []string{"", "_", "hpcsera", "hpcsera_", "hpcsera__", "hpcsera_t_", strings.Repeat("_", 100), "Bearer x"} {
		if _, _, ok := hpcsera.ParseSecret(text); ok {
			t.Errorf("%q: accepted", text)
		}
	}
	text, _ := hpcsera.NewSecret("j_0123456789abcdefghjk")
	if _, _, ok := hpcsera.ParseSecret(text); ok {
		t.Errorf("a secret of a job's id: accepted")
	}
}

func TestHideSecretsLeavesNothingOfASecretAndTheRestAsItIs(t *testing.T) {
	for _, prefix := range []string{"t", "ag", "ls", "cs"} {
		id := hpcsera.NewID(prefix)
		text, _ := hpcsera.NewSecret(id)
		public, random := text[:strings.LastIndex(text, "_")+1], text[strings.LastIndex(text, "_")+1:]
		for _, secret := range []string{text, text[:len(text)-1], strings.ToUpper(public) + random, public + random[:20]} {
			want := "/jobs/" + secret[:len(public)] + "[redacted]?x=y, hpcsera_events"
			if got := hpcsera.HideSecrets("/jobs/" + secret + "?x=y, hpcsera_events"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
	for _, plain := range []string{"", "hpcsera_", "/jobs/j_8f2k4m6p8r0t2v4x6z8a", "hpcsera_requests_total", "HPCSERA_TEST_POSTGRES"} {
		if got := hpcsera.HideSecrets(plain); got != plain {
			t.Errorf("got %q, want %q", got, plain)
		}
	}
}
