package cli

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera"
)

// anyValue draws JSON values as an answer may hold them.
func anyValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth == 0 && kind > 3 {
			kind = 3
		}
		switch kind {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return float64(rapid.IntRange(-1000, 1000).Draw(t, "int"))
		case 3:
			return rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
				"", " ", "yes", "null", "~", "12:30", "0x1f", "1e3", "a: b", "- a", "#x", "a #b", "a\nb\n", "a\n\nb", "\ta\nb", " a\nb", "a\n", "x:", "\u202e", "\x1b[0m", "!tag", "&a", "*a", "|", "a\tb\nc", "a\n\tb\n", "a\n  \n b\n", "#!/bin/sh\nx: y\n", "a\n--- \nb",
			})).Draw(t, "text")
		case 4:
			return rapid.SliceOfN(anyValue(depth-1), 0, 4).Draw(t, "list")
		}
		return rapid.MapOfN(rapid.String(), anyValue(depth-1), 0, 4).Draw(t, "map")
	})
}

func TestYAMLSaysWhatJSONSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := map[string]any{"v": anyValue(3).Draw(t, "value")}
		text, err := yamlText(v)
		if err != nil {
			t.Fatalf("yamlText: %v", err)
		}
		var back any
		if err := yaml.Unmarshal(text, &back); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		got, err := json.Marshal(back)
		if err != nil {
			t.Fatalf("Marshal: %v", err)
		}
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("Marshal: %v", err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("the YAML reads differently (-want +got):\n%s\n%s", diff, text)
		}
		for _, r := range string(text) {
			if r != '\n' && r != '\t' && dangerous(r) {
				t.Fatalf("the YAML holds %U:\n%q", r, text)
			}
		}
	})
}

func TestJSONIsEscapedAndStillTheSame(t *testing.T) {
	in := map[string]string{"name": "a\u202eb\u009bc\U000e0041\x1b<&>"}
	text, err := jsonText(in)
	if err != nil {
		t.Fatalf("jsonText: %v", err)
	}
	var back map[string]string
	if err := json.Unmarshal(text, &back); err != nil || back["name"] != in["name"] {
		t.Errorf("got %q, %v; want it to read back as %q", text, err, in["name"])
	}
	for _, r := range string(text) {
		if r != '\n' && dangerous(r) {
			t.Errorf("got %q, which holds %U", text, r)
		}
	}
}

func TestSituationsAreShownInTheBatchSystemsOwnWords(t *testing.T) {
	for _, tt := range []struct {
		job  hpcsera.Job
		want string
	}{
		{hpcsera.Job{State: hpcsera.Queued, Reason: hpcsera.WaitingForPriority, Message: "(Priority)", Native: &hpcsera.Native{State: "PENDING"}}, "[PENDING Priority]"},
		{hpcsera.Job{State: hpcsera.Running, Native: &hpcsera.Native{State: "RUNNING"}}, "[RUNNING]"},
		{hpcsera.Job{State: hpcsera.Pending, Reason: hpcsera.WaitingForAgent}, "(waiting for agent)"},
		{hpcsera.Job{State: hpcsera.Failed, Reason: hpcsera.ExitNonzero, Exit: &hpcsera.Exit{Code: 3}, Native: &hpcsera.Native{State: "FAILED"}}, "(exit nonzero, exit code 3)"},
		{hpcsera.Job{State: hpcsera.Failed, Reason: hpcsera.Signalled, Exit: &hpcsera.Exit{Signal: 9}}, "(signal, signal 9 (killed))"},
		{hpcsera.Job{State: hpcsera.Failed, Reason: hpcsera.RejectedByScheduler, Message: "sbatch: error: \x1b[1mInvalid partition"}, `(rejected by scheduler, sbatch: error: \x1b[1mInvalid partition)`},
		{hpcsera.Job{State: hpcsera.Succeeded, Exit: &hpcsera.Exit{}}, ""},
	} {
		if got := situation(tt.job); got != tt.want {
			t.Errorf("situation(%s): got %q, want %q", tt.job.State, got, tt.want)
		}
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		in   string
		want time.Time
		ok   bool
	}{
		{"", time.Time{}, true},
		{"2h", now.Add(-2 * time.Hour), true},
		{"3d", now.Add(-72 * time.Hour), true},
		{"2026-11-22T08:00:00Z", time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC), true},
		{"yesterday", time.Time{}, false},
	} {
		got, err := moment(tt.in, now)
		if (err == nil) != tt.ok || !got.Equal(tt.want) {
			t.Errorf("moment(%q): got %v, %v; want %v, ok %v", tt.in, got, err, tt.want, tt.ok)
		}
	}
}

func TestAdviceOfTheServerIsToldInCommands(t *testing.T) {
	for text, want := range map[string]string{
		`there is no site "x". GET /sites lists them. Nothing was submitted.`:   `there is no site "x". hpcsera site list shows them. Nothing was submitted.`,
		"Check the name, and what the token is for: GET /tokens/self tells it.": "Check the name, and what the token is for: hpcsera whoami tells it.",
	} {
		if got := inCommands(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
