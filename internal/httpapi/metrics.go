package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Metrics counts what the API does, for Prometheus. Counting costs no query.
type Metrics struct {
	registry *prometheus.Registry
	answers  *prometheus.CounterVec
	took     *prometheus.HistogramVec
	events   *prometheus.CounterVec
	commands *prometheus.CounterVec
	taken    *prometheus.CounterVec
}

// NewMetrics returns metrics of their own registry, with those of the process.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hpcsera_requests_total", Help: "Answers by operation of the contract and HTTP status.",
		}, []string{"operation", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hpcsera_request_seconds", Help: "Time to answer by operation; long polls and streams wait on purpose.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"operation"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hpcsera_job_events_total", Help: "Events of jobs by type and state, as this replica saw them.",
		}, []string{"type", "state"}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hpcsera_scheduler_commands_total", Help: "Commands that agents ran at sites' batch systems, by kind, as they told this replica.",
		}, []string{"site", "kind"}),
		taken: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hpcsera_scheduler_jobs_total", Help: "Jobs that sites' batch systems took from agents, as they told this replica.",
		}, []string{"site"}),
	}
	m.registry.MustRegister(m.answers, m.took, m.events, m.commands, m.taken, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Register adds collectors of other parts, such as the database's commits.
func (m *Metrics) Register(c ...prometheus.Collector) { m.registry.MustRegister(c...) }

// Watch counts what happens to jobs until ctx ends. It is to be run once, in a
// goroutine of the server.
func (m *Metrics) Watch(ctx context.Context, feed *store.Feed) error {
	sub := feed.Subscribe(func(*store.Change) bool { return true })
	defer sub.Close()
	for ctx.Err() == nil {
		changes, _ := sub.Wait(ctx) // what was lost to slowness is not counted
		for i := range changes {
			m.events.WithLabelValues(changes[i].Type, string(changes[i].State)).Inc()
		}
	}
	return nil
}

// Handler serves /metrics. It has no authentication: it belongs on a listener
// of its own.
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}

// answered counts one answer; nil metrics count nothing. Status 0 is a client
// that went away.
func (m *Metrics) answered(operation string, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.answers.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.took.WithLabelValues(operation).Observe(took.Seconds())
}

// asked counts what a batch system was asked to do for one agent since its last
// poll. A poll whose answer was lost may be counted twice; an agent's word is
// no more than that.
func (m *Metrics) asked(site string, c *hpcsera.Commands) {
	if m == nil || c == nil {
		return
	}
	for kind, n := range map[string]int64{"submit": c.Submit, "queue": c.Queue, "history": c.History, "act": c.Act, "probe": c.Probe} {
		m.commands.WithLabelValues(site, kind).Add(float64(max(0, n)))
	}
	m.taken.WithLabelValues(site).Add(float64(max(0, c.Jobs)))
}
