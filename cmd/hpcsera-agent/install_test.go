package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestOnlyWhatTheAgentNeedsIsCarriedOver(t *testing.T) {
	var told bytes.Buffer
	p := &program{stderr: &told, environ: []string{
		"HOME=/home/ada", "PATH=/bin", "LD_PRELOAD=/evil.so", "HPCSERA_TOKEN=secret", "HPCSERA_AGENT_CONFIG=/x", "SSH_AUTH_SOCK=/s",
		"SLURM_CONF=/etc/slurm.conf", "SGE_ROOT=/opt/sge", "HPCSERA_AGENT_MAX_JOBS=7", "NO_PROXY=localhost", "HTTPS_PROXY=http://ada:word@proxy:3128",
	}}
	want := []string{"HPCSERA_AGENT_MAX_JOBS=7", "NO_PROXY=localhost", "SGE_ROOT=/opt/sge", "SLURM_CONF=/etc/slurm.conf"}
	if got := p.carried(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if text := told.String(); !strings.Contains(text, "HTTPS_PROXY has a password") || strings.Contains(text, "word@") {
		t.Errorf("told %q, want the proxy named and its password not", text)
	}
}
