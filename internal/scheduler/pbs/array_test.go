package pbs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func TestArraysMembersAreToldByTheirArray(t *testing.T) {
	array := func(state, remaining string, more ...string) string {
		return job("7[].vm", append([]string{"job_state=" + state, "array=True", "array_indices_remaining=" + remaining, "ctime=Sun Nov 22 09:51:06 2026"}, more...)...)
	}
	refs := []scheduler.Ref{{ID: "7[1].vm"}, {ID: "7[2].vm"}, {ID: "7[3].vm"}, {ID: "7[4].vm"}}
	for name, c := range map[string]struct {
		rows string
		want string // phase and reason of each
	}{
		"all wait": {array("Q", "1-4", "comment=Not Running: Insufficient amount of resource: ncpus"),
			"queued/waiting_for_resources queued/waiting_for_resources queued/waiting_for_resources queued/waiting_for_resources"},
		"held": {array("H", "1-4", "Hold_Types=u", "substate=20"), "held/ held/ held/ held/"},
		"held, with rows": {array("H", "1-4", "Hold_Types=u") + job("7[1].vm", "job_state=Q") + job("7[2].vm", "job_state=H") + job("7[3].vm", "job_state=Q") + job("7[4].vm", "job_state=Q"),
			"held/ held/ held/ held/"},
		"for their time": {array("W", "1-4", "Execution_Time=x"), "queued/waiting_for_resources queued/waiting_for_resources queued/waiting_for_resources queued/waiting_for_resources"},
		"some run, ended or were cancelled": {array("B", "4") + job("7[1].vm", "job_state=R") + job("7[2].vm", "job_state=X", "Exit_status=0", "substate=92") + job("7[3].vm", "job_state=X", "substate=91"),
			"running/ ended/ ended/cancelled_by_user queued/"},
		"an older version's rows": {array("B", "4") + job("7[1].vm", "job_state=R") + job("7[2].vm", "job_state=X", "comment=Subjob finished", "substate=70") + job("7[3].vm", "job_state=X", "comment=Subjob terminated", "substate=70"),
			"running/ ended/ ended/cancelled_by_user queued/"},
		"one is not told": {array("B", "-") + job("7[1].vm", "job_state=R") + job("7[2].vm", "job_state=R") + job("7[3].vm", "job_state=R"),
			"running/ running/ running/ unknown/"},
		"deleted while it waited":         {array("F", "1-4", "substate=91"), "ended/cancelled_by_user ended/cancelled_by_user ended/cancelled_by_user ended/cancelled_by_user"},
		"deleted, and nothing remains":    {array("F", "-", "substate=91"), "ended/cancelled_by_user ended/cancelled_by_user ended/cancelled_by_user ended/cancelled_by_user"},
		"ended, and nothing is told more": {array("F", "-", "substate=92", "Exit_status=0"), "ended/ ended/ ended/ ended/"},
	} {
		list, err := Driver{}.parseNamed(scheduler.Output{Stdout: []byte(c.rows)}, []string{"7[].vm"}, refs)
		if err != nil || len(list) != len(refs) {
			t.Errorf("%s: got %+v, %v", name, list, err)
			continue
		}
		jobs := byID(list)
		var got []string
		for _, ref := range refs {
			st := jobs[ref.ID]
			got = append(got, fmt.Sprintf("%s/%s", st.Phase, st.Reason))
			if st.Tag != tag(1) {
				t.Errorf("%s: %s has the tag %q", name, ref.ID, st.Tag)
			}
			if st.Exit != nil && *st.Exit != (hpcsera.Exit{}) || st.Exit != nil && ref.ID != "7[2].vm" {
				t.Errorf("%s: %s has the exit %+v", name, ref.ID, st.Exit)
			}
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.want)
		}
	}
}

func TestMembersThatCannotBeToldAreAnError(t *testing.T) {
	for text, want := range map[string]int{"": 0, "-": 0, "7": 1, "1-3": 3, "0-4:2": 3, "1-2,5,10-20:5": 6, "1-10000": 10000} {
		if got, ok := indices(text); !ok || len(got) != want {
			t.Errorf("%q: got %v, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"x", "1-", "-1", "1,,2", "3-1", "1-9:0", "1-9:-1", "1-2000000000", "1-150000,1-150000", "99999999999", "1 2", "…"} {
		out := scheduler.Output{Stdout: []byte(job("7[].vm", "job_state=B", "array=True", "array_indices_remaining="+text))}
		if list, err := (Driver{}).parseNamed(out, []string{"7[].vm"}, nil); err == nil {
			t.Errorf("%q: got %v without an error", text, list)
		}
	}
}
