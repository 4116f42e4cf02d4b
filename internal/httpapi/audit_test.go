package httpapi_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

func TestEveryRefusalIsToldToTheAuditLogWithoutTheSecret(t *testing.T) {
	d := newDeployment(t)
	viewer := d.token("1")
	d.call("", "GET", "/api/v1/jobs", nil).refused(t, 401, hpcsera.Unauthenticated, "")
	d.call(viewer[:len(viewer)-1], "GET", "/api/v1/code", nil).refused(t, 401, hpcsera.Unauthenticated, "")
	d.call(viewer, "POST", "/api/v1/code", script("hello").Manifest).refused(t, 403, hpcsera.Forbidden, "")
	d.call(viewer, "GET", "/api/v1/jobs/j_00000000000000000000", nil).refused(t, 404, hpcsera.NotFound, "")
	d.refused.mu.Lock()
	defer d.refused.mu.Unlock()
	got := []string{}
	for _, line := range d.refused.lines {
		actor, _, _ := strings.Cut(line.Actor, ":")
		got = append(got, strings.Join([]string{actor, line.Action, string(line.Refused), line.User, line.Project}, " "))
		if strings.Contains(line.Actor+line.About+line.Detail, viewer[12:]) {
			t.Errorf("%+v holds the token", line)
		}
	}
	want := []string{"address listJobs unauthenticated  ", "address listCode unauthenticated  ", "token postCode forbidden alice cfd"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCodeAndApprovalsLeaveTheirLinesInTheAuditLog(t *testing.T) {
	d := newDeployment(t)
	d.submitted(d.token(everyone))
	var actions []string
	err := d.db.Read(t.Context(), func(r store.Reader) error {
		lines, err := r.Audit(store.AuditFilter{User: "alice"})
		for _, l := range lines {
			if strings.HasPrefix(l.Action, "code.") && strings.HasPrefix(l.Actor, "token:t_") && l.Project == "cfd" {
				actions = append(actions, l.Action)
			}
		}
		return err
	})
	if err != nil || !slices.Contains(actions, "code.file") {
		t.Errorf("got %v, %v, want code.file by alice's token", actions, err)
	}
}
