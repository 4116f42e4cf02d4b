package e2e

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// TestAnArtifactOutlivesItsCarriers kills the server between two parts of an
// artifact, and then the agent that was sending it.
func TestAnArtifactOutlivesItsCarriers(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "server.after-part=kill@2")
	l := newLogin(t, d, "slurm")
	first := l.startAgent(t, "")
	// 32 MiB and a bit, no two parts alike; the job says what they are.
	m := manifest("big", marking(`seq 1 9000000 | head -c 33559143 > big
printf '{"digest": "sha256:%s"}' "$(sha256sum big | cut -d' ' -f1)" > result.json`))
	m.Artifacts, m.Result = []hpcsera.ArtifactPattern{{Path: "big"}}, "result.json"
	id := l.submit(t, l.approve(t, m))
	eventually(t, 90*time.Second, "the server at its second part", func() bool { return d.server.dead() })
	first.kill()
	<-first.done
	var result struct{ Digest string }
	if err := json.Unmarshal([]byte(read(t, l.jobDir(id)+"/result.json")), &result); err != nil {
		t.Fatal(err)
	}

	d.startServer("")
	res := d.call("HEAD", "/blobs/"+result.Digest, nil, nil)
	if have, _ := strconv.Atoi(res.Header.Get("Upload-Offset")); res.StatusCode != 404 || have != 2*8<<20 {
		t.Errorf("the new server says %s and has %d bytes, want the two parts that came", res.Status, have)
	}
	l.startAgent(t, "")
	j := d.await(id, 90*time.Second)
	if runs := l.runs(t, id); j.State != hpcsera.Succeeded || runs != 1 {
		t.Fatalf("job is %s (%s: %s), ran %d times, want succeeded, 1", j.State, j.Reason, j.Message, runs)
	}
	if got := hpcsera.DigestOf([]byte(d.get("/jobs/" + id + "/artifacts/big"))); got != result.Digest {
		t.Errorf("the artifact has the digest %s, the job wrote %s", got, result.Digest)
	}
}
