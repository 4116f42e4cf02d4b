package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/syslog"
	"github.com/hpcsera/hpcsera/internal/agent/trial"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// examination is one run of the doctor.
type examination struct {
	*program
	submit, jobs, yes bool
	only, record      string
	patience          time.Duration
	queue, account    string
	custom            map[string]string

	config agent.Config
	batch  *scheduler.Scheduler
	ledger trial.Ledger
	mask   trial.Mask
	report trial.Report
}

func (p *program) doctorCommand() *cobra.Command {
	e := &examination{program: p}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look whether server, spool and batch system are as the agent needs them", Args: cobra.NoArgs,
		Long: `doctor checks the server, the clock, the credential, the batch system and the
spool, and runs one empty batch job to see the spool from a compute node. It
touches no other job.

With --jobs it also runs HPCSerA's own conformance suite on your batch system and
ends with a report for a bug report: some dozens of jobs, one after the other, of
one core, a second or so each and five minutes at most. Those that remain, also
after Ctrl-C, are cancelled. It takes minutes, longer where jobs have to wait in the
queue. In the report and in recordings stand-ins take the place of your account,
your home folder, this host and the server.

With --record it keeps what every command of the batch system printed in a folder,
for HPCSerA's tests; the README there says what to look for before you send it.

It ends with status 0 only if all is well.`,
		Example: "  hpcsera-agent doctor\n" +
			"  hpcsera-agent doctor --jobs --queue short --account chem\n" +
			"  hpcsera-agent doctor --jobs --yes -o json > report.json\n" +
			"  hpcsera-agent doctor --jobs --record recording",
		RunE: func(cmd *cobra.Command, _ []string) error { return e.run(cmd.Context()) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&e.submit, "submit", true, "run one empty batch job")
	flags.BoolVar(&e.jobs, "jobs", false, "run the conformance suite, and report")
	flags.BoolVarP(&e.yes, "yes", "y", false, "do not ask before the suite's jobs")
	flags.StringVar(&e.only, "case", "", "run only the suite's cases with these words in their name")
	flags.DurationVar(&e.patience, "patience", 10*time.Minute, "with one job of the suite that waits in the queue")
	flags.StringVar(&e.record, "record", "", "new folder for what the batch system's commands print")
	flags.StringVar(&e.queue, "queue", "", "queue of the jobs")
	flags.StringVar(&e.account, "account", "", "account of the jobs")
	flags.StringToStringVar(&e.custom, "custom", nil, "custom attributes of the jobs, such as qos=short")
	return cmd
}

func (e *examination) run(ctx context.Context) error {
	if e.only != "" && !e.jobs {
		return usage.Error{Err: errors.New("--case chooses among the cases of --jobs. See: hpcsera-agent doctor --help")}
	}
	if err := e.prepare(); err != nil {
		return err
	}
	well, err := e.examine(ctx)
	if err != nil {
		return err
	}
	if e.jobs {
		good, err := e.try(ctx)
		if err != nil {
			return err
		}
		well = well && good
	}
	if err := e.conclude(ctx, well); err != nil {
		return err
	}
	if !well {
		return errors.New("not all is well")
	}
	return nil
}

// prepare wires the batch system, of which all commands are seen.
func (e *examination) prepare() (err error) {
	if e.config, err = e.checked(); err != nil {
		return err
	}
	e.ledger.Begin("first checks")
	e.ledger.Dir = e.trialDir()
	if e.jobs || e.record != "" {
		names := append(trial.Names(account()), [2]string{e.config.User, "alice"}, [2]string{e.account, "account1"})
		if u, err := url.Parse(e.config.Server); err == nil {
			names = append(names, [2]string{u.Hostname(), "hpcsera.example.org"})
		}
		e.mask = trial.NewMask(names...)
	}
	if e.record != "" {
		if e.ledger.Record, err = trial.NewRecording(e.record, e.mask); err != nil {
			return err
		}
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	batch, _, err := e.systems(e.config, binary, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	e.batch = batch.With(func(c *scheduler.Config) { c.Seen = e.ledger.Seen })
	e.config.Launcher = launcher(e.config, e.batch)
	return nil
}

func (e *examination) trialDir() string { return filepath.Join(e.config.WorkRoot, "doctor") }

// job gives a job what this site wants.
func (e *examination) job(sub *scheduler.Submission) {
	sub.Attributes.QueueName, sub.Attributes.Account, sub.Custom = e.queue, e.account, maps.Clone(e.custom)
}

// examine makes the doctor's own checks.
func (e *examination) examine(ctx context.Context) (bool, error) {
	transport, err := newTransport(e.config)
	if err != nil {
		return false, err
	}
	api, keyErr := e.enrolled(e.config, transport)
	if keyErr != nil {
		e.tell(agent.Finding{Check: "credential", Found: keyErr.Error(), Advice: "Without a key of its own and its credential the agent cannot speak to the server."})
	}
	d := &agent.Doctor{Config: e.config, HTTP: transport, API: api, Batch: e.batch, Version: version, Account: account(), Site: policy.SystemFiles(), Syslog: syslog.Socket,
		Submit: e.submit, Job: e.job, Tell: e.tell}
	if d.Binary, err = os.Executable(); err != nil {
		return false, err
	}
	return d.Examine(ctx) && keyErr == nil, nil
}

// try runs the suite.
func (e *examination) try(ctx context.Context) (bool, error) {
	r := &trial.Trial{Batch: e.batch, Dir: e.trialDir(), Patience: e.patience, Job: e.job, Only: e.only, Begin: e.ledger.Begin, Tell: e.outcome}
	cases := len(r.Cases())
	if cases == 0 {
		return false, hpcsera.Errorf(hpcsera.InvalidField, "no case of the suite has %q in its name.", e.only).At("--case")
	}
	say := fmt.Sprintf("The suite has %d cases for %s and submits at most %d jobs, of one core and at most %v each.", cases, e.batch.System(), r.Jobs(), hpcsera.Duration(trial.Limit))
	f, ok := e.stdin.(*os.File)
	switch {
	case !e.yes && !(ok && isTerminal(f)):
		return false, fmt.Errorf("%s Nobody is there to be asked: add --yes", say)
	case !e.yes:
		fmt.Fprintf(e.stderr, "%s\nGo on? [y/N] ", say)
		if answer, _ := bufio.NewReader(f).ReadString('\n'); !strings.EqualFold(strings.TrimSpace(answer), "y") {
			return false, errors.New("no job was submitted")
		}
	case e.output != "json":
		fmt.Fprintf(e.stdout, "\n%s\n", say)
	}
	return r.Run(ctx)
}

// conclude writes the report, or says how to come to one.
func (e *examination) conclude(ctx context.Context, well bool) error {
	if r := e.ledger.Record; r != nil {
		if r.Err() != nil {
			return r.Err()
		}
		fmt.Fprintf(e.stderr, "%d commands are recorded in %s. Read the README there before you send it.\n", r.Count(), e.record)
	}
	if !e.jobs && e.output != "json" {
		if well {
			fmt.Fprintln(e.stdout, "\nTo hold the batch system to all that the agent relies on, and for a bug report: hpcsera-agent doctor --jobs")
		}
		return nil
	}
	e.ledger.Begin("the report")
	facts, err := e.batch.Probe(context.WithoutCancel(ctx))
	if err != nil {
		facts.Version = "unknown: " + e.mask.Text(err.Error())
	}
	report := trial.NewReport(version, e.batch.System(), facts)
	report.OK, report.Findings, report.Cases = well, append(report.Findings, e.report.Findings...), append(report.Cases, e.report.Cases...)
	for _, c := range e.ledger.Commands() {
		report.Commands = append(report.Commands, c.Mask(e.mask))
	}
	if e.output == "json" {
		return json.NewEncoder(e.stdout).Encode(report)
	}
	report.Print(e.stdout)
	return nil
}

// outcome tells how a case of the suite went.
func (e *examination) outcome(o trial.Outcome) {
	o = o.Mask(e.mask)
	e.report.Cases = append(e.report.Cases, o)
	if e.output != "json" {
		o.Print(e.stdout)
	}
}

// tell tells a finding.
func (e *examination) tell(f agent.Finding) {
	f.Found, f.Advice = e.mask.Text(f.Found), e.mask.Text(f.Advice)
	e.report.Findings = append(e.report.Findings, f)
	if e.output == "json" {
		return
	}
	mark := "ok  "
	if !f.OK {
		mark = "FAIL"
	}
	fmt.Fprintf(e.stdout, "%s  %-12s  %s\n", mark, f.Check, f.Found)
	if f.Advice != "" {
		fmt.Fprintf(e.stdout, "%20s%s\n", "", f.Advice)
	}
}

// enrolled returns the agent's connection, nil before it has a credential.
func (p *program) enrolled(c agent.Config, transport http.RoundTripper) (*client.Agent, error) {
	credential, err := readCredential(c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := p.key(c)
	if err != nil {
		return nil, err
	}
	return client.NewAgent(c.Server, credential, key, transport)
}
