package container

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func newRequest(url string) (*http.Request, error) { return http.NewRequest(http.MethodGet, url, nil) }

// refusing stands for the network.
type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("sent") }

// TestPresetsSayWhatTheirToolsTake: after the manuals of the tools; only
// Charliecloud is here to be asked.
func TestPresetsSayWhatTheirToolsTake(t *testing.T) {
	image := Image{Path: "/w/.images/x/image", Name: "hpcsera-9f2c"}
	c := hpcsera.Container{Mounts: []string{"/scratch/a b:/data:ro", "/s:/t"}}
	for runtime, want := range map[string]string{
		"apptainer":   "apptainer|exec|--no-home|--pwd|/hpcsera/job|--bind|/job:/hpcsera/job|--bind|/step:/hpcsera/step:ro|--bind|/scratch/a b:/data:ro|--bind|/s:/t|/w/.images/x/image",
		"singularity": "singularity|exec|--no-home|--pwd|/hpcsera/job|--bind|/job:/hpcsera/job|--bind|/step:/hpcsera/step:ro|--bind|/scratch/a b:/data:ro|--bind|/s:/t|/w/.images/x/image",
		"podman-hpc":  "podman-hpc|run|--rm|--env-host|--workdir|/hpcsera/job|--volume|/job:/hpcsera/job|--volume|/step:/hpcsera/step:ro|--volume|/scratch/a b:/data:ro|--volume|/s:/t|localhost/hpcsera-9f2c:latest",
		"sarus": "sarus|run|--workdir=/hpcsera/job|--mount=type=bind,source=/job,destination=/hpcsera/job|--mount=type=bind,source=/step,destination=/hpcsera/step,readonly" +
			"|--mount=type=bind,source=/scratch/a b,destination=/data,readonly|--mount=type=bind,source=/s,destination=/t|load/library/hpcsera-9f2c",
	} {
		r := Runtime{Runtime: runtime}
		if err := errors.Join(r.Check(), r.Accepts(c)); err != nil {
			t.Errorf("%s: %v", runtime, err)
		}
		if got := strings.Join(r.Command(image, c, "/job", "/step"), "|"); got != want {
			t.Errorf("%s: got\n%s, want\n%s", runtime, got, want)
		}
	}
	c.Mounts = c.Mounts[1:]
	if got := (Runtime{Runtime: "charliecloud"}).Command(image, c, "/job", "/step"); !slices.Equal(got, []string{
		"ch-run", "--cd", "/hpcsera/job", "--bind", "/job:/hpcsera/job", "--bind", "/step:/hpcsera/step", "--bind", "/s:/t", "/w/.images/x/image", "--",
	}) {
		t.Errorf("charliecloud: got %q", got)
	}
}

func TestWhatASiteCannotRunIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		runtime string
		mounts  []string
		field   string
	}{
		"no runtime":             {"", nil, "container"},
		"no read-only mounts":    {"charliecloud", []string{"/a:/b", "/c:/d:ro"}, "container.mounts[1]"},
		"read-only mounts":       {"apptainer", []string{"/a:/b:ro"}, ""},
		"mounts that are enough": {"charliecloud", []string{"/a:/b"}, ""},
	} {
		err := Runtime{Runtime: c.runtime}.Accepts(hpcsera.Container{Mounts: c.mounts})
		var e *hpcsera.Error
		if c.field == "" && err != nil || c.field != "" && (!errors.As(err, &e) || e.Field != c.field || e.Code != hpcsera.NotSupportedBySite || e.Advice == "") {
			t.Errorf("%s: got %v, want an error at %q with advice", name, err, c.field)
		}
	}
}

func TestSettingsByWhichNothingCouldRunAreRefused(t *testing.T) {
	mount := []string{"-v", "{source}:{target}"}
	run := []string{"tool", "{mounts}", "{image}"}
	for name, c := range map[string]struct {
		runtime Runtime
		field   string
	}{
		"none":                     {Runtime{}, ""},
		"a preset":                 {Runtime{Runtime: "sarus"}, ""},
		"a preset with another":    {Runtime{Runtime: "apptainer", Run: []string{"/opt/apptainer/bin/apptainer", "run", "{mounts}", "{image}"}}, ""},
		"own":                      {Runtime{Runtime: "own", Run: run, Mount: mount}, ""},
		"an unknown one":           {Runtime{Runtime: "docker"}, "container.runtime"},
		"commands of nothing":      {Runtime{Run: run}, "container.runtime"},
		"own without commands":     {Runtime{Runtime: "own"}, "container.run"},
		"no place for mounts":      {Runtime{Runtime: "apptainer", Run: []string{"apptainer", "run", "{image}"}}, "container.run"},
		"mounts within a word":     {Runtime{Runtime: "apptainer", Run: []string{"apptainer", "--bind={mounts}", "{image}"}}, "container.run"},
		"a mount of nothing":       {Runtime{Runtime: "own", Run: run, Mount: []string{"-v", "{source}"}}, "container.mount"},
		"a read-only mount of all": {Runtime{Runtime: "own", Run: run, Mount: mount, ReadOnly: []string{"-v"}}, "container.read_only"},
		"a misspelt placeholder":   {Runtime{Runtime: "apptainer", Prepare: [][]string{{"apptainer", "build", "{imge}"}}}, "container.prepare"},
		"an empty command":         {Runtime{Runtime: "own", Run: run, Mount: mount, Prepare: [][]string{{}}}, "container.prepare"},
	} {
		err := c.runtime.Check()
		var e *hpcsera.Error
		if c.field == "" && err != nil || c.field != "" && (!errors.As(err, &e) || e.Field != c.field) {
			t.Errorf("%s: got %v, want an error at %q", name, err, c.field)
		}
	}
}
