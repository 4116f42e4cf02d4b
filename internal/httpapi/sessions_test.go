package httpapi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// attempt makes the request of a probe with some credential.
type attempt func(method, target string, p probe) answer

// proven makes a request with the credential and a proof.
func (e *bound) proven(method, target, proof string, p probe) answer {
	a := e.d.direct([]string{"Authorization", "DPoP " + e.credential, "DPoP", proof}, method, target+p.query, p)
	if fresh := a.header.Get("DPoP-Nonce"); fresh != "" {
		e.nonce = fresh
	}
	return a
}

// direct makes a request with a proof, again when the nonce was too old.
func (e *bound) direct(method, target string, p probe) answer {
	a := e.proven(method, target, e.proof(method, target), p)
	if a.problem.Code != hpcsera.UseDPoPNonce && a.status != 401 { // HEAD has no code
		return a
	}
	return e.proven(method, target, e.proof(method, target), p)
}

// replayed makes a request twice with one proof and returns the second answer.
func (e *bound) replayed(method, target string, p probe) answer {
	e.direct("GET", "/api/v1/sessions", probe{}) // for a nonce
	proof := e.proof(method, target)
	if first := e.proven(method, target, proof, p); first.status == 401 {
		e.d.t.Errorf("%s %s: the first use of a proof is refused: %s", method, target, first.body)
	}
	return e.proven(method, target, proof, p)
}

// direct makes a request of an agent's, who says which job bytes belong to.
func (e *enrolment) direct(method, target string, p probe) answer {
	p.query += p.agentQuery
	return e.bound.direct(method, target, p)
}

// deadSessions returns the sessions of testdata/roles.txtar that open nothing,
// by kind.
func deadSessions(t *testing.T, d *deployment) map[string]attempt {
	t.Helper()
	expired, ended, foreign, good := d.session("alice"), d.session("alice"), newDeployment(t).session("alice"), d.session("alice")
	foreign.d = d
	must(t, d.db.Write(t.Context(), func(tx store.Tx) error {
		var row auth.LoginSession
		if err := tx.Document(auth.LoginSessions, expired.id, time.Now(), &row); err != nil {
			return err
		}
		row.Expires = time.Now().Add(-time.Second)
		return tx.PutDocument(store.Document{Kind: auth.LoginSessions, Key: expired.id, Owner: "alice", Ends: time.Now().Add(time.Hour)}, row)
	}))
	must(t, d.access.EndSession(t.Context(), auth.OperatorOnHost(), access.Named{Name: ended.id}))
	must(t, one(d.access.CreateUser(t.Context(), auth.OperatorOnHost(), access.NewUser{Name: "carol"})))
	disabled := d.session("carol")
	must(t, one(d.access.SetUser(t.Context(), auth.OperatorOnHost(), access.Switch{Name: "carol", Disabled: true})))
	guessed, cut, other := *good, *good, *good
	guessed.credential, _ = hpcsera.NewSecret(good.id)
	cut.credential = good.credential[:len(good.credential)-1]
	_, other.private = d.keyed("thief")
	return map[string]attempt{
		"session-expired": expired.direct, "session-ended": ended.direct, "session-deployment": foreign.direct, "session-disabled": disabled.direct,
		"session-secret": guessed.direct, "session-malformed": cut.direct, "session-other-key": other.direct, "session-replayed": good.replayed,
		"session-bearer": func(method, target string, p probe) answer {
			return d.direct([]string{"Authorization", "Bearer " + good.credential}, method, target+p.query, p)
		},
		"session-unproven": func(method, target string, p probe) answer {
			return d.direct([]string{"Authorization", "DPoP " + good.credential}, method, target+p.query, p)
		},
		"session-no-nonce": func(method, target string, p probe) answer {
			fresh := *good
			fresh.nonce = ""
			return fresh.proven(method, target, fresh.proof(method, target), p)
		},
	}
}

func TestASessionIsRefusedFromTheRequestOnThatEndsIt(t *testing.T) {
	d := newDeployment(t)
	const list = "/api/v1/sessions"
	for name, end := range map[string]func(s *bound) error{
		"ended": func(s *bound) error { return d.login("alice").EndSession(t.Context(), s.id) },
		"by root": func(s *bound) error {
			return d.access.EndSession(t.Context(), auth.OperatorOnHost(), access.Named{Name: s.id})
		},
		"disabled": func(*bound) error {
			return one(d.access.SetUser(t.Context(), auth.OperatorOnHost(), access.Switch{Name: "alice", Disabled: true}))
		},
	} {
		must(t, one(d.access.SetUser(t.Context(), auth.OperatorOnHost(), access.Switch{Name: "alice"})))
		s := d.session("alice")
		if a := s.direct("GET", list, probe{}); a.status != 200 || !strings.Contains(string(a.body), s.id) {
			t.Errorf("%s: before: got %d %s", name, a.status, shortened(a.body))
		}
		must(t, end(s))
		s.direct("GET", list, probe{}).refused(t, 401, hpcsera.TokenInvalid, "")
	}
}
