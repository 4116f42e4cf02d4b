package hpcsera_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

func TestCodeIsNamedOrGivenButNotBoth(t *testing.T) {
	both := hpcsera.JobSpec{Code: "cavity", Manifest: hpcsera.Manifest{Environment: map[string]string{"A": "b"}}}
	expectField(t, "both", both.Validate(), hpcsera.InvalidField, "code")
	if err := (hpcsera.JobSpec{Code: "cavity"}).Validate(); err != nil {
		t.Errorf("by name: got %v, want nil", err)
	}
	expectField(t, "neither", hpcsera.JobSpec{}.Validate(), hpcsera.InvalidField, "name")
}

func TestRunPartsThatNoBatchSystemUnderstandsAreRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		r     hpcsera.RunPart
		field string
	}{
		{"a site with a slash", hpcsera.RunPart{Site: "a/b"}, "site"},
		{"a queue that is an option", hpcsera.RunPart{Attributes: hpcsera.Attributes{QueueName: "--wrap=id"}}, "attributes.queue_name"},
		{"a queue with a space", hpcsera.RunPart{Attributes: hpcsera.Attributes{QueueName: "a b"}}, "attributes.queue_name"},
		{"an account with a newline", hpcsera.RunPart{Attributes: hpcsera.Attributes{Account: "a\n"}}, "attributes.account"},
		{"a reservation with a command", hpcsera.RunPart{Attributes: hpcsera.Attributes{ReservationID: "$(id)"}}, "attributes.reservation_id"},
		{"negative nodes", hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: -1}}, "resources.node_count"},
		{"too many processes", hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 2, ProcessesPerNode: 4, ProcessCount: 9}}, "resources.process_count"},
		{"a dependency on no job", hpcsera.RunPart{Dependencies: []hpcsera.Dependency{{Job: "4711", State: hpcsera.Succeeded}}}, "dependencies[0].job"},
		{"a dependency on waiting", hpcsera.RunPart{Dependencies: []hpcsera.Dependency{{Job: "j_0123456789abcdefghjk", State: hpcsera.Queued}}}, "dependencies[0].state"},
		{"a label with a space", hpcsera.RunPart{Labels: map[string]string{"a b": "x"}}, "labels"},
		{"a label too long", hpcsera.RunPart{Labels: map[string]string{"a": strings.Repeat("x", 4097)}}, "labels.a"},
		{"an annotation with NUL", hpcsera.RunPart{Annotations: map[string]string{"a": "x\x00"}}, "annotations.a"},
	} {
		expectField(t, c.name, c.r.Validate(), hpcsera.InvalidField, c.field)
	}
}

func TestNothingAboveASignedLimitPasses(t *testing.T) {
	limits := hpcsera.Limits{
		NodeCount: 4, Duration: hpcsera.Duration(time.Hour), Memory: 8 << 30, QueueNames: []string{"medium"}, Accounts: []string{"cfd01"},
	}
	within := hpcsera.RunPart{
		Resources:  hpcsera.Resources{NodeCount: 4, Memory: 8 << 30},
		Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(time.Hour), QueueName: "medium", Account: "cfd01"},
	}
	if err := limits.Within(within, nil); err != nil {
		t.Errorf("at the limits: got %v, want nil", err)
	}
	if err := limits.Within(hpcsera.RunPart{}, nil); err != nil {
		t.Errorf("nothing asked for: got %v, want nil", err)
	}
	for name, c := range map[string]struct {
		edit  func(*hpcsera.RunPart)
		field string
	}{
		"nodes":              {func(r *hpcsera.RunPart) { r.Resources.NodeCount = 5 }, "resources.node_count"},
		"nodes by processes": {func(r *hpcsera.RunPart) { r.Resources = hpcsera.Resources{ProcessCount: 41, ProcessesPerNode: 10} }, "resources.node_count"},
		"memory":             {func(r *hpcsera.RunPart) { r.Resources.Memory++ }, "resources.memory"},
		"duration":           {func(r *hpcsera.RunPart) { r.Attributes.Duration++ }, "attributes.duration"},
		"queue":              {func(r *hpcsera.RunPart) { r.Attributes.QueueName = "large" }, "attributes.queue_name"},
		"account":            {func(r *hpcsera.RunPart) { r.Attributes.Account = "cfd02" }, "attributes.account"},
		"reservation":        {func(r *hpcsera.RunPart) { r.Attributes.ReservationID = "r1" }, "attributes.reservation_id"},
		"requeue":            {func(r *hpcsera.RunPart) { r.Requeue = true }, "requeue"},
	} {
		r := within
		c.edit(&r)
		expectField(t, name, limits.Within(r, nil), hpcsera.LimitExceeded, c.field)
	}
	step := []hpcsera.Step{{Name: "big", Type: hpcsera.BatchStep, Resources: &hpcsera.Resources{NodeCount: 5}}}
	expectField(t, "a step's nodes", limits.Within(within, step), hpcsera.LimitExceeded, "resources.node_count")
}

func TestAnAbsentLimitTakesTheValueAtSigning(t *testing.T) {
	run := hpcsera.RunPart{
		Resources:  hpcsera.Resources{NodeCount: 2, Memory: 1 << 30},
		Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(time.Hour), QueueName: "medium", Account: "a", ReservationID: "r"},
		Requeue:    true,
	}
	m := parameterised()
	if err := m.SignedLimits(run).Within(run, nil); err != nil {
		t.Errorf("signed with the same run part: got %v, want nil", err)
	}
	more := run
	more.Resources.NodeCount = 3
	expectField(t, "one node more", m.SignedLimits(run).Within(more, nil), hpcsera.LimitExceeded, "resources.node_count")
	m.Limits = &hpcsera.Limits{NodeCount: 1}
	expectField(t, "above the code's own limit", m.SignedLimits(run).Within(run, nil), hpcsera.LimitExceeded, "resources.node_count")
}
