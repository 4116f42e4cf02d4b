package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/local"
	"github.com/hpcsera/hpcsera/internal/scheduler/slurm"
)

// systems returns the batch system of batch steps and that of login steps.
// This is the list of the batch systems there are.
func (p *program) systems(c agent.Config, binary string, log *slog.Logger) (batch, login *scheduler.Scheduler, err error) {
	config := scheduler.Config{
		Commands: map[string]string{local.Command: binary}, Environment: p.environ,
		SubmitTimeout: c.SubmitTimeout.Std(), QueryTimeout: c.QueryTimeout.Std(), Log: log,
	}
	for name, path := range c.Commands {
		config.Commands[name] = path
	}
	loginSystem := scheduler.New(local.Driver{Dir: filepath.Join(c.StateDir, "login"), Slots: 8}, config)
	switch c.Scheduler {
	case "slurm":
		return scheduler.New(slurm.Driver{}, config), loginSystem, nil
	case "local":
		return scheduler.New(local.Driver{Dir: filepath.Join(c.StateDir, "local")}, config), loginSystem, nil
	case "auto":
		candidate := scheduler.New(slurm.Driver{}, config)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := candidate.Probe(ctx); err == nil {
			return candidate, loginSystem, nil
		} else if _, missing := os.Stat("/etc/slurm"); missing == nil || p.getenv("SLURM_CONF") != "" {
			return nil, nil, fmt.Errorf("Slurm seems to be installed but does not answer (%w). Say in agent.yaml which batch system to use: scheduler: slurm, or scheduler: local", err)
		}
		return scheduler.New(local.Driver{Dir: filepath.Join(c.StateDir, "local")}, config), loginSystem, nil
	}
	return nil, nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a batch system this agent knows.", c.Scheduler).At("scheduler")
}

// launcher is the configured launch line for MPI programs, or the batch
// system's own. Slurm's srun reads the job's shape from its environment, but
// since 22.05 not the cores of each process. Where there is none it is empty,
// and the agent refuses jobs that need one.
func launcher(c agent.Config, batch *scheduler.Scheduler) string {
	if c.Launcher != "" || batch.System() != "slurm" {
		return c.Launcher
	}
	srun, err := batch.Command("srun")
	if err != nil {
		return ""
	}
	return srun + " --cpus-per-task={cpu_cores_per_process}"
}

// newTransport speaks HTTPS through HTTPS_PROXY where that is set, and trusts
// the site's own authority beside the system's.
func newTransport(c agent.Config) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, VerifyConnection: policy.SystemFiles().VerifyConnection(c.Server)}
	t.ResponseHeaderTimeout = 2 * time.Minute
	t.MaxIdleConnsPerHost = 8
	if c.CAFile == "" {
		return advised{t}, nil
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("ca_file: %s holds no certificate", c.CAFile)
	}
	t.TLSClientConfig.RootCAs = pool
	return advised{t}, nil
}

// advised tells of a certificate that nobody here trusts by this program's own
// setting; the SDK knows only the client's flag.
type advised struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a advised) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := a.RoundTripper.RoundTrip(req)
	var own *hpcsera.Error
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) && !errors.As(err, &own) {
		err = hpcsera.Errorf(hpcsera.Unavailable, "%s cannot be reached: %w.", req.URL.Scheme+"://"+req.URL.Host, err).
			Hint("If it has a certificate authority of its own, name its file (PEM) in agent.yaml: ca_file: /PATH/ca.pem")
	}
	return res, err
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
