package httpapi_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
)

func TestWhatIsNoTokenOfThisDeploymentOpensNothing(t *testing.T) {
	d, other := newDeployment(t), newDeployment(t)
	agent := d.enrolled("alice", "cfd")
	mine := d.token(everyone)
	sameID, _ := hpcsera.NewSecret(idOf(mine))
	hmac, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: d.key}, nil)
	must(t, err)
	signed, err := hmac.Sign([]byte(`{"sub":"alice","project":"cfd","scope":"role:1","exp":4102444800}`))
	must(t, err)
	jwt, err := signed.CompactSerialize() // with the server's own key
	must(t, err)
	for _, c := range []struct {
		name, authorization string
		code                hpcsera.Code
	}{
		{"a JWT", "Bearer " + jwt, hpcsera.Unauthenticated},
		{"a JWT as a DPoP token", "DPoP " + jwt, hpcsera.Unauthenticated},
		{"an agent's proof as a token", "Bearer " + agent.proof("GET", "/api/v1/jobs"), hpcsera.Unauthenticated},
		{"an agent's credential as a token", "Bearer " + agent.credential, hpcsera.Unauthenticated},
		{"another deployment's token", "Bearer " + other.token(everyone), hpcsera.TokenInvalid},
		{"another deployment's secret for an id of ours", "Bearer " + sameID, hpcsera.TokenInvalid},
		{"another deployment's agent", "DPoP " + other.enrolled("alice", "cfd").credential, hpcsera.DPoPRequired},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.call("", "GET", "/api/v1/jobs", nil, "Authorization", c.authorization).refused(t, 401, c.code, "")
		})
	}
	if a := d.call(mine, "GET", "/api/v1/jobs", nil); a.status != 200 {
		t.Errorf("our own token: got %d, want 200", a.status)
	}
}

func TestACopiedProofOpensNothing(t *testing.T) {
	d := newDeployment(t)
	agent := d.enrolled("alice", "cfd")
	work, reports := "/api/v1/agents/"+agent.id+"/work", "/api/v1/agents/"+agent.id+"/reports"
	instance := hpcsera.NewID("i")
	agent.nonce = d.call("", "POST", work, hpcsera.WorkRequest{Instance: instance}, "Authorization", "DPoP "+agent.credential, "DPoP", agent.proof("POST", work)).header.Get("DPoP-Nonce")
	send := func(method, path, proof string) answer {
		t.Helper()
		return d.call("", method, path, hpcsera.WorkRequest{Instance: instance}, "Authorization", "DPoP "+agent.credential, "DPoP", proof)
	}
	proof := agent.proof("POST", work)
	as[hpcsera.WorkAnswer](t, send("POST", work, proof), 200)
	send("POST", work, proof).refused(t, 401, hpcsera.DPoPRequired, "")
	send("POST", reports, proof).refused(t, 401, hpcsera.DPoPRequired, "")
	send("POST", reports, agent.proof("POST", work)).refused(t, 401, hpcsera.DPoPRequired, "")
	send("POST", work, agent.proof("PUT", work)).refused(t, 401, hpcsera.DPoPRequired, "")
	send("POST", work, agent.proof("POST", strings.ToUpper(work))).refused(t, 401, hpcsera.DPoPRequired, "")
	thief := *agent
	_, thief.private, _ = ed25519.GenerateKey(rand.Reader)
	send("POST", work, thief.proof("POST", work)).refused(t, 401, hpcsera.DPoPRequired, "")
	stale := *agent
	stale.nonce = ""
	send("POST", work, stale.proof("POST", work)).refused(t, 401, hpcsera.UseDPoPNonce, "")
	as[hpcsera.WorkAnswer](t, send("POST", work, agent.proof("POST", work)), 200)
}
