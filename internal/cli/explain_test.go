package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

func TestEveryReasonAndStateIsExplained(t *testing.T) {
	for _, r := range hpcsera.Reasons {
		row, ok := explanations[r]
		if !ok || row.what == "" || row.who == "" {
			t.Errorf("%s has no explanation, or nobody who can act", r)
		}
	}
	if len(explanations) != len(hpcsera.Reasons) {
		t.Errorf("the table has %d rows for %d reasons", len(explanations), len(hpcsera.Reasons))
	}
	for _, s := range hpcsera.States {
		if stateSentences[s].what == "" {
			t.Errorf("state %s has no sentence", s)
		}
	}
}

func TestExplainSaysWhoCanAct(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { x := now.Add(-d); return &x }
	agent := func(seen *time.Time, cron bool) hpcsera.Site {
		return hpcsera.Site{Name: "gwdg", Agents: []hpcsera.Agent{{ID: "ag_1", LastSeen: seen, Expires: now.Add(time.Hour),
			Facts: &hpcsera.Facts{Host: "login1", FromCron: cron}}}}
	}
	pending := hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Pending, Reason: hpcsera.WaitingForAgent}
	running := hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Running, Agent: "ag_1"}
	for _, tt := range []struct {
		name string
		job  hpcsera.Job
		site hpcsera.Site
		says []string
	}{
		{"no agent", pending, hpcsera.Site{Name: "gwdg"}, []string{"You have no agent at gwdg", "enrol and start"}},
		{"agent never seen", pending, agent(nil, false), []string{"never seen", "hpcsera-agent run"}},
		{"agent silent", pending, agent(at(time.Hour), false), []string{"last seen 60 minutes ago", "start it again on login1"}},
		{"agent there", pending, agent(at(10*time.Second), false), []string{"is there; it was seen 10 seconds ago"}},
		{"agent from cron", pending, agent(at(time.Hour), true), []string{"runs from cron", "at its next run"}},
		{"site drained", pending, hpcsera.Site{Name: "gwdg", Disabled: true}, []string{"drained", "The operator"}},
		{"running, agent silent", running, agent(at(time.Hour), false), []string{"It runs.", "last seen 60 minutes ago"}},
		{"cancel on its way", hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Running, Agent: "ag_1", Desired: hpcsera.DesiredCancel},
			agent(at(time.Hour), true), []string{"cancellation was asked for", "at its next run"}},
		{"approval", hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Pending, Reason: hpcsera.WaitingForApproval}, agent(nil, false),
			[]string{"waits for you to approve", "inbox of the Auth app", "hpcsera approve"}},
		{"approval that was asked for", hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Pending, Reason: hpcsera.WaitingForApproval,
			Message: "alice was asked in the Auth app: https://auth.example.org/requests/hpc/rq_1"}, agent(nil, false),
			[]string{"\nIts message: alice was asked in the Auth app: https://auth.example.org/requests/hpc/rq_1\n", "Who can act next: You: decide it"}},
		{"approval without an agent", hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Pending, Reason: hpcsera.WaitingForApproval}, hpcsera.Site{Name: "gwdg"},
			[]string{"waits for you to approve", "You have no agent at gwdg", "enrol and start"}},
		{"approval that the agent cannot be sure of", hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Staging, Reason: hpcsera.WaitingForApproval, Agent: "ag_1",
			Message: "no status list yet"}, agent(at(10*time.Second), false), []string{"is approved", "Its message: no status list yet", "is there", "hpcsera-agent doctor at gwdg"}},
		{"failed", hpcsera.Job{ID: "j_1", Site: "gwdg", State: hpcsera.Failed, Reason: hpcsera.ExitNonzero, Exit: &hpcsera.Exit{Code: 3}}, hpcsera.Site{},
			[]string{"exit code 3", "hpcsera logs j_1"}},
		{"another's words", hpcsera.Job{ID: "j_1", State: hpcsera.Failed, Reason: hpcsera.RejectedByScheduler, Message: "no such\x1b[2J partition"}, hpcsera.Site{},
			[]string{`no such\x1b[2J partition`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b strings.Builder
			explain(tt.job, &tt.site, now).write(&b, nil)
			for _, want := range tt.says {
				if !strings.Contains(b.String(), want) {
					t.Errorf("got %q, want %q in it", b.String(), want)
				}
			}
			if strings.ContainsAny(b.String(), "{}") {
				t.Errorf("got %q, in which something was not filled in", b.String())
			}
		})
	}
}
