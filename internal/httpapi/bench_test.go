package httpapi_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// The benchmarks go through the whole edge: network, authentication,
// validation, feature and database. `make bench` measures the program; these
// are for looking where the time goes (-cpuprofile).

func BenchmarkTokenSelf(b *testing.B) {
	d := newDeployment(b)
	token := d.token("1")
	for b.Loop() {
		d.call(token, "GET", "/api/v1/tokens/self", nil)
	}
}

func BenchmarkGetJob(b *testing.B) {
	d := newDeployment(b)
	token := d.token(everyone)
	job := d.submitted(token)
	for b.Loop() {
		d.call(token, "GET", jobPath(job, ""), nil)
	}
}

func BenchmarkSubmitMany(b *testing.B) {
	d := newDeployment(b)
	token := d.token(everyone)
	job := d.submitted(token)
	list := make([]hpcsera.JobSpec, 10_000)
	for i := range list {
		list[i] = hpcsera.JobSpec{Code: job.Code.Digest, RunPart: hpcsera.RunPart{Site: "lab", Labels: map[string]string{"n": fmt.Sprint(i)}}}
	}
	body, err := json.Marshal(hpcsera.BulkRequest{Jobs: list})
	must(b, err)
	for b.Loop() {
		as[hpcsera.BulkAnswer](b, d.call(token, "POST", "/api/v1/jobs", string(body)), 201)
	}
}
