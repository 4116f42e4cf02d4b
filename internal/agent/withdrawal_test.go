package agent

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// TestATakenOverServerCannotHideAWithdrawal is about the Auth app's status list,
// which comes by way of the server.
func TestATakenOverServerCannotHideAWithdrawal(t *testing.T) {
	const issuer = "https://auth.example"
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	list := func(t *testing.T, number int64, approvals ...string) string {
		t.Helper()
		at := time.Now().UTC().Truncate(time.Second)
		jws, err := approval.SignStatus(private, approval.StatusList{Issuer: issuer, Number: number, Issued: at, NextUpdate: at.Add(20 * time.Minute), Approvals: approvals})
		if err != nil {
			t.Fatal(err)
		}
		return jws
	}
	pin := func(w *world) {
		w.file("real/state/trust.yaml", string(w.read("real/state/trust.yaml"))+"auth_app:\n  issuer: "+issuer+"\n  key: "+approval.AuthKey(public).String()+"\n")
	}
	listed := func(t *testing.T, test func(*testing.T, *world, code, func(string))) {
		t.Helper()
		inWorld(t, 3, func(t *testing.T, w *world) {
			send := func(jws string) {
				w.server.mu.Lock()
				defer w.server.mu.Unlock()
				w.server.taken = func(a *hpcsera.WorkAnswer) { a.StatusList = jws }
				w.server.changed()
			}
			test(t, w, w.sign(10, hpcsera.BatchStep), send)
		})
	}
	pinned := func(t *testing.T, test func(*testing.T, *world, code, func(string))) {
		t.Helper()
		listed(t, func(t *testing.T, w *world, c code, send func(string)) {
			pin(w)
			test(t, w, c, send)
		})
	}
	t.Run("and an honest one need not send again what came before the pin", func(t *testing.T) {
		listed(t, func(t *testing.T, w *world, c code, send func(string)) {
			send(list(t, 1))
			w.start()
			time.Sleep(2 * time.Minute)
			pin(w)
			w.ends(w.submits(c), hpcsera.Succeeded, "")
		})
	})
	t.Run("by sending no list", func(t *testing.T) {
		pinned(t, func(t *testing.T, w *world, c code, send func(string)) {
			job := w.submits(c)
			w.start()
			time.Sleep(10 * time.Minute)
			last := w.server.job(job).last
			if last.Reason != hpcsera.WaitingForApproval || !strings.Contains(last.Message, "no status list of "+issuer) || len(w.ran(job)) > 0 {
				t.Errorf("got %s %s (%s) and %d runs, want it to wait and say why", last.State, last.Reason, last.Message, len(w.ran(job)))
			}
			send(list(t, 1))
			w.ends(job, hpcsera.Succeeded, "")
		})
	})
	t.Run("by an old list", func(t *testing.T) {
		pinned(t, func(t *testing.T, w *world, c code, send func(string)) {
			send(list(t, 1))
			i := w.start()
			w.ends(w.submits(c), hpcsera.Succeeded, "")
			time.Sleep(20 * time.Minute)
			job := w.server.submit(c, false)
			time.Sleep(5 * time.Minute)
			if last := w.server.job(job).last; last.Reason != hpcsera.WaitingForApproval || !strings.Contains(last.Message, "ended at") {
				t.Errorf("got %s %s (%s), want it to wait", last.State, last.Reason, last.Message)
			}
			send(list(t, 2, c.approval))
			w.ends(job, hpcsera.Failed, hpcsera.ApprovalWithdrawn)
			// A later process, which is sent the list of before the withdrawal.
			i.stop()
			w.taken = true
			send(list(t, 1))
			w.start()
			w.ends(w.server.submit(c, false), hpcsera.Failed, hpcsera.ApprovalWithdrawn)
			if !strings.Contains(w.log.String(), "hides withdrawals") {
				t.Error("no alarm about the lower number")
			}
		})
	})
	t.Run("by a list of its own", func(t *testing.T) {
		pinned(t, func(t *testing.T, w *world, c code, send func(string)) {
			w.taken = true
			good := list(t, 9)
			send(good[:strings.LastIndexByte(good, '.')+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64)))
			job := w.server.submit(c, false)
			w.start()
			time.Sleep(10 * time.Minute)
			if last := w.server.job(job).last; last.State.Final() || len(w.ran(job)) > 0 || last.Reason != hpcsera.WaitingForApproval {
				t.Errorf("got %s %s (%s), want it to wait", last.State, last.Reason, last.Message)
			}
			if got := strings.Count(w.log.String(), "ALARM"); got != 1 {
				t.Errorf("%d alarms, want one for one list", got)
			}
		})
	})
}

// TestWithdrawalHoldsForWhatWaits is about jobs that were judged long before they
// start.
func TestWithdrawalHoldsForWhatWaits(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		c := w.sign(10, hpcsera.BatchStep)
		job := w.server.submit(c, false)
		w.server.want(job, hpcsera.DesiredHold)
		w.start()
		w.until("it is held", time.Hour, func() bool { return w.server.state(job) == hpcsera.Held })
		time.Sleep(time.Hour)
		var out bytes.Buffer
		commands := policy.Commands{Path: filepath.Join(w.real, "state", "trust.yaml"), Out: &out}
		if err := commands.Withdraw(c.approval); err != nil {
			t.Fatal(err)
		}
		w.server.want(job, hpcsera.DesiredRun)
		w.ends(job, hpcsera.Failed, hpcsera.ApprovalWithdrawn)
		if len(w.ran(job)) > 0 {
			t.Error("it ran")
		}
	})
}
