package jobfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/jobfile"
)

func TestTheJobInTheREADMEIsOne(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "```yaml\n")
	block, _, found := strings.Cut(block, "```\n")
	if !found {
		t.Fatal("README.md shows no job")
	}
	f, err := jobfile.Open(filepath.Join(dir(t, map[string]string{"job.yaml": block}), "job.yaml"))
	if err == nil {
		err = f.Check()
	}
	if err != nil {
		t.Errorf("got %v, want it taken as it stands", err)
	}
}
