package httpapi_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// TestWhatJobsCostTheBatchSystemIsAMetric: commands and jobs of agents add up
// by site, so that commands per thousand jobs can be drawn.
func TestWhatJobsCostTheBatchSystemIsAMetric(t *testing.T) {
	d := newDeployment(t)
	agent, request := d.agent(), hpcsera.WorkRequest{Instance: hpcsera.NewID("i")}
	for _, commands := range []*hpcsera.Commands{{Jobs: 1000, Submit: 3, Queue: 4}, nil, {Queue: 2, Act: 1}, {Submit: -5}} {
		request.Commands = commands
		answer, err := agent.Work(t.Context(), request)
		if commands != nil && commands.Submit < 0 {
			refusedWith(t, "less than nothing", err, hpcsera.InvalidField)
			continue
		}
		must(t, err)
		request.Term, request.Epoch = answer.Term, answer.Epoch
	}
	page := httptest.NewRecorder()
	d.metrics.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`hpcsera_scheduler_jobs_total{site="lab"} 1000`,
		`hpcsera_scheduler_commands_total{kind="submit",site="lab"} 3`,
		`hpcsera_scheduler_commands_total{kind="queue",site="lab"} 6`,
		`hpcsera_scheduler_commands_total{kind="act",site="lab"} 1`,
	} {
		if !strings.Contains(page.Body.String(), want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}
