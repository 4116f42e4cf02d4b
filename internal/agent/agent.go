package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/agent/container"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/agent/syslog"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// System is a batch system as the agent uses it: a scheduler.Scheduler.
type System interface {
	System() string
	Environment() scheduler.Environment
	Submit(context.Context, scheduler.Submission) ([]scheduler.Ref, error)
	SubmitDelay() time.Duration
	Statuses(context.Context, []scheduler.Ref) (map[scheduler.Ref]scheduler.Status, error)
	Act(context.Context, scheduler.Action, []scheduler.Ref) error
	Probe(context.Context) (hpcsera.Facts, error)
}

// Deps are what an agent works with.
type Deps struct {
	Config  Config
	Version string
	API     *client.Agent
	Key     *client.Key
	Batch   System // of batch steps
	Login   System // of login steps, on this host
	Log     *slog.Logger
	Binary  string // this program, for the wrapper
	Account string // the user's on this system
	// Site is where the site's policy stands, and Syslog the socket of this host's
	// log; the zero values are the system's own. Tests alone set them.
	Site   policy.SiteFiles
	Syslog string
}

// Agent is one instance: one process of one enrolment.
type Agent struct {
	config   Config
	log      *slog.Logger
	api      *client.Agent
	key      *client.Key
	batch    System
	login    System
	actors   map[System]*actor
	images   *container.Store
	spool    *spool.Spool
	journal  *journal.Journal
	engine   *engine
	report   *reporter
	asker    *asker
	state    *board
	witness  *witness
	site     policy.SiteFiles
	version  string
	account  string
	judged   policy.Memory
	binary   string
	host     string
	instance string
	granted  atomic.Int64 // this instance's term; 0 before
	facts    atomic.Pointer[hpcsera.Facts]
	counted  scheduler.Stats // what the server was told of commands; the work loop's own
	lastList string          // the status list that was last looked at; the work loop's own
	patience patience

	spoolFailing atomic.Bool
	stageSlots   chan struct{}
	submitSlots  chan struct{}
	collectSlots chan struct{}
}

// New reads the journal and prepares an instance. Nothing is sent or started
// yet.
func New(d Deps) (*Agent, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	if err := ownDir(d.Config.StateDir); err != nil {
		return nil, err
	}
	if err := spool.Mark(d.Config.WorkRoot); err != nil {
		return nil, fmt.Errorf("work_root: %w", err)
	}
	s, err := spool.Open(d.Config.SpoolDir)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		config: d.Config, log: d.Log, api: d.API, key: d.Key, batch: d.Batch, login: d.Login,
		actors: map[System]*actor{d.Batch: newActor(d.Batch), d.Login: newActor(d.Login)},
		images: container.NewStore(filepath.Join(d.Config.WorkRoot, ".images"), d.Config.Container),
		spool:  s, report: newReporter(), asker: newAsker(), host: host, instance: hpcsera.NewID("i"), patience: defaultPatience,
		version: d.Version, account: d.Account, site: d.Site,
		stageSlots: make(chan struct{}, 8), submitSlots: make(chan struct{}, 2), collectSlots: make(chan struct{}, 4),
	}
	if a.site == (policy.SiteFiles{}) {
		a.site = policy.SystemFiles()
	}
	a.witness = newWitness(d.Config.User, cmp.Or(d.Syslog, syslog.Socket), d.Log)
	a.warn()
	if a.binary, err = s.Binary(d.Binary); err != nil {
		return nil, err
	}
	a.state = newBoard(d.Config.StateDir)
	a.facts.Store(&hpcsera.Facts{Version: d.Version, Host: host, System: d.Batch.System(), FromCron: d.Config.once, Software: d.Config.software()})
	a.engine = newEngine(a)
	head := journal.Entry{Instance: a.instance, Host: host, At: time.Now().UTC()}
	if a.journal, err = journal.Open(a.journalDir(), head, a.engine.fold); err != nil {
		return nil, err
	}
	a.engine.safe = a.engine.cursor
	return a, nil
}

// warn tells at the start of settings that believe more than is usual, and of
// those that the site decides.
func (a *Agent) warn() {
	if a.config.Trust.PasskeySameOrigin {
		a.log.Warn("trust.passkey_same_origin: passkeys count on pages of the API server itself; whoever takes it over can have you sign what you do not see")
	}
	if a.config.Trust.Code == codeServer {
		a.log.Warn("trust.code is server: whatever the server on this host sends runs with your rights, signed or not")
	}
	if len(a.config.overruled) > 0 {
		a.log.Warn("the site's settings hold in place of yours", "settings", a.config.overruled)
	}
}

// Run serves until ctx ends (then it returns nil after handing back its
// term), or until another instance has taken over.
func (a *Agent) Run(ctx context.Context) error {
	err := a.serve(ctx, a.workLoop)
	a.log.Info("stopped; jobs in the batch system go on", "jobs", len(a.engine.jobs), "reports", len(a.engine.unsent))
	return err
}

// serve runs the engine and the loops around main, which ends it.
func (a *Agent) serve(ctx context.Context, main func(context.Context) error) error {
	defer a.journal.Close()
	defer a.witness.host.Close()
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	go a.engine.run(engineCtx)
	loopCtx, stopLoops := context.WithCancel(ctx)
	defer stopLoops()
	var wg sync.WaitGroup
	failed := make(chan error, 8)
	start := func(loop func(context.Context) error) {
		wg.Go(func() {
			if err := loop(loopCtx); err != nil {
				failed <- err
				stopLoops()
			}
		})
	}
	for _, c := range a.actors {
		start(c.loop)
	}
	start(a.inboxLoop)
	start(a.pollLoop)
	start(a.logLoop)
	start(a.cleanLoop)
	start(a.reportLoop)
	start(a.boardLoop)
	start(a.factsLoop)
	start(a.siteLoop)
	err := main(loopCtx)
	stopLoops()
	wg.Wait()
	stopEngine()
	<-a.engine.quit
	select {
	case loopErr := <-failed:
		err = errors.Join(err, loopErr)
	default:
	}
	a.sayGoodbye()
	a.publishEnd(err)
	return err
}

// Once does what there is to do and returns: for cron. It asks the server once,
// and again only where a slow batch system outlasts the lead that the answer
// gave: without it nothing is decided, and it would never end. Another living
// instance is no error: it does the work.
func (a *Agent) Once(ctx context.Context) error {
	err := a.serve(ctx, func(ctx context.Context) error {
		if err := a.poll(ctx, 0, true); err != nil {
			return err
		}
		a.answerRings(ctx)
		if _, _, err := a.ask(ctx); err != nil {
			a.log.Warn("the batch system did not answer; the next run asks again", "error", err)
		}
		began := time.Now()
		for quiet := 0; quiet < 3 && ctx.Err() == nil; {
			var busy, leads bool
			var failing error
			err := a.engine.read(ctx, func() {
				now := time.Now()
				busy = a.engine.busy(now) || now.Sub(began) < onceWaits && a.engine.unsettled()
				failing, leads = a.engine.failing, a.engine.leads(now)
			})
			if err != nil {
				return nil
			}
			if failing != nil {
				return failing
			}
			if quiet++; busy {
				quiet = 0
			}
			if busy && !leads {
				if err := a.poll(ctx, 0, false); err != nil {
					return err
				}
			}
			sleep(ctx, 200*time.Millisecond)
		}
		return nil
	})
	if errors.Is(err, errStopped) && hpcsera.CodeOf(err) == hpcsera.AgentActive {
		a.log.Info("another instance of this agent is running; nothing to do")
		return nil
	}
	return err
}

// busy reports whether something is under way that this run should finish.
func (e *engine) busy(now time.Time) bool {
	if len(e.unsent) > 0 || len(e.touched)+len(e.entered) > 0 {
		return true
	}
	for _, j := range e.jobs {
		if j.busy || j.decide(now, e.open(now), e.agent.patience).do != doNothing {
			return true
		}
	}
	return false
}

// onceWaits is how long a run from cron waits for what a moment settles.
const onceWaits = 30 * time.Second

// unsettled reports whether an end record is on its way, or the batch system's
// word about an end or a requeue.
func (e *engine) unsettled() bool {
	for _, j := range e.jobs {
		if j.outcome == nil && j.tag != "" && (j.awaitsWord() || !j.endedAt.IsZero()) {
			return true
		}
	}
	return false
}

// sayGoodbye gives the term back, so that the next instance need not wait.
func (a *Agent) sayGoodbye() {
	if a.granted.Load() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	asked, _ := a.stats()
	_, err := a.api.Work(ctx, hpcsera.WorkRequest{Instance: a.instance, Term: a.granted.Load(), Epoch: a.engine.epoch, Acked: a.engine.safe, Stopping: true,
		Commands: since(asked, a.counted)})
	if err != nil {
		a.log.Warn("the server was not told that this agent stops", "error", err)
	}
	endInstance(a.config.StateDir, a.instance)
}

// factsEvery is how often the site is asked what it offers.
const factsEvery = 10 * time.Minute

// factsLoop asks the batch system what the site offers, until it has
// answered, and again now and then. Jobs do not wait for it.
func (a *Agent) factsLoop(ctx context.Context) error {
	back := backoff{first: 10 * time.Second, most: factsEvery}
	for ctx.Err() == nil {
		found, err := a.batch.Probe(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.log.Warn("batch system not explored", "system", a.batch.System(), "error", err)
			}
			sleep(ctx, back.next())
			continue
		}
		a.learn(found)
		back.reset()
		sleep(ctx, factsEvery)
	}
	return nil
}

// learn takes over what the batch system told. What did not change is not told
// to the server again.
func (a *Agent) learn(found hpcsera.Facts) {
	known := a.facts.Load()
	facts := found
	facts.SystemVersion = found.Version
	facts.Version, facts.Host, facts.System, facts.FromCron = known.Version, known.Host, known.System, known.FromCron
	if !reflect.DeepEqual(facts, *known) {
		a.facts.Store(&facts)
	}
}

func (a *Agent) system(s hpcsera.Step) System {
	if s.Type == hpcsera.LoginStep {
		return a.login
	}
	return a.batch
}

// judge is what holds jobs against the user's signature and the site's policy
// at one moment.
type judge func(hpcsera.OrderSpec) (*policy.Verdict, error)

// verify checks one job.
func (a *Agent) verify(spec hpcsera.OrderSpec) (*policy.Verdict, error) { return a.judge()(spec) }

// judge reads what the user trusts, once for all jobs that are judged now. It
// is not kept, so that what was withdrawn or forbidden counts at once.
func (a *Agent) judge() judge {
	in := policy.Context{
		Deployment: a.config.Server, User: a.config.User, Site: a.config.Site, Projects: a.config.Projects,
		Thumbprint: a.key.Thumbprint(), Now: time.Now(),
		Unsigned: a.config.Trust.Code == codeServer, PasskeySameOrigin: a.config.Trust.PasskeySameOrigin,
		Version: a.version, Account: a.account, Files: a.site, Memory: &a.judged,
	}
	trust, err := policy.Read(a.trustFile(), in)
	return func(spec hpcsera.OrderSpec) (*policy.Verdict, error) {
		if err != nil {
			return nil, err
		}
		return trust.Verify(spec, in)
	}
}

func (a *Agent) trustFile() string { return filepath.Join(a.config.StateDir, "trust.yaml") }

func (a *Agent) jobDir(job string) string { return filepath.Join(a.config.WorkRoot, job) }
func (a *Agent) journalDir() string       { return filepath.Join(a.config.StateDir, "journal") }

// spoolTrouble learns whether the spool could be used just now.
func (a *Agent) spoolTrouble(err error) {
	if a.spoolFailing.Swap(err != nil) != (err != nil) {
		a.state.set(func(s *Status) { s.Spool = errorText(err) })
		if err != nil {
			a.log.Error("spool cannot be used; no new work is taken until it can", "error", err)
		} else {
			a.log.Info("spool can be used again")
		}
	}
}

// ownDir makes a directory for its owner alone, and refuses a looser one.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("state_dir: %s can be entered by others (mode %04o). Type: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return nil
}
