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
	"slices"
	"time"

	"golang.org/x/term"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/custom"
	"github.com/hpcsera/hpcsera/internal/scheduler/local"
	"github.com/hpcsera/hpcsera/internal/scheduler/lsf"
	"github.com/hpcsera/hpcsera/internal/scheduler/oar"
	"github.com/hpcsera/hpcsera/internal/scheduler/pbs"
	"github.com/hpcsera/hpcsera/internal/scheduler/sge"
	"github.com/hpcsera/hpcsera/internal/scheduler/slurm"
)

// drivers is the list of the batch systems there are, in the order in which
// they are looked for. account is the user's own, cluster that of the settings.
func drivers(account, cluster string) []scheduler.Driver {
	return []scheduler.Driver{
		slurm.Driver{Cluster: cluster},
		pbs.Driver{User: account},
		lsf.Driver{},
		sge.Driver{User: account},
		oar.Driver{User: account},
	}
}

// systems returns the batch system of batch steps and that of login steps.
func (p *program) systems(c agent.Config, binary string, log *slog.Logger) (batch, login *scheduler.Scheduler, err error) {
	config := scheduler.Config{
		Commands: map[string]string{local.Command: binary}, Environment: p.environ,
		SubmitTimeout: c.SubmitTimeout.Std(), QueryTimeout: c.QueryTimeout.Std(), Log: log,
	}
	for name, path := range c.Commands {
		config.Commands[name] = path
	}
	own := config // processes on this host are nobody's burden
	config.PerMinute, config.AtOnce = c.PerMinute, c.MaxCommands
	loginSystem := scheduler.New(local.Driver{Dir: filepath.Join(c.StateDir, "login"), Slots: c.LoginSteps}, own)
	processes := scheduler.New(local.Driver{Dir: filepath.Join(c.StateDir, "local")}, own)
	all := drivers(account(), c.Cluster)
	if c.Scheduler == "auto" {
		batch, err = p.found(all, config)
		if batch == nil && err == nil {
			batch = processes
		}
		return batch, loginSystem, err
	}
	if c.Scheduler == processes.System() {
		return processes, loginSystem, nil
	}
	if filepath.IsAbs(c.Scheduler) {
		d, err := custom.Load(c.Scheduler, account())
		if err != nil {
			return nil, nil, err
		}
		return p.scheduler(d, config), loginSystem, nil
	}
	for _, d := range all {
		if d.System() == c.Scheduler {
			return p.scheduler(d, config), loginSystem, nil
		}
	}
	return nil, nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a batch system this agent knows.", c.Scheduler).At("scheduler")
}

// scheduler looks first for commands where that batch system's own are: those
// of PBS and Grid Engine have the same names.
func (p *program) scheduler(d scheduler.Driver, config scheduler.Config) *scheduler.Scheduler {
	own := map[string][]string{
		"pbs": {"/opt/pbs/bin", "/opt/pbs/default/bin"},
		"lsf": {p.getenv("LSF_BINDIR")},
		// Debian's commands in /usr/bin are slow scripts around these.
		"sge": {filepath.Join(p.getenv("SGE_ROOT"), "bin", p.getenv("SGE_ARCH")), "/usr/lib/gridengine"},
	}[d.System()]
	own = slices.DeleteFunc(own, func(dir string) bool { return !filepath.IsAbs(dir) })
	config.Path = append(own, scheduler.DefaultPath...)
	return scheduler.New(d, config)
}

// found returns the batch system that answers here, or nil where no commands of
// any are. One that is installed and does not answer is an error: with another
// the agent would do something else than its user expects.
func (p *program) found(all []scheduler.Driver, config scheduler.Config) (*scheduler.Scheduler, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var silent error
	for _, d := range all {
		candidate := p.scheduler(d, config)
		_, err := candidate.Probe(ctx)
		if err == nil {
			return candidate, nil
		}
		if refused, ok := errors.AsType[*scheduler.Refused](err); silent == nil && !(ok && refused.Unreached) {
			silent = fmt.Errorf("a batch system seems to be installed but does not answer (%w). Say in agent.yaml which one to use, such as scheduler: %s, or scheduler: local", err, d.System())
		}
	}
	return nil, silent
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
