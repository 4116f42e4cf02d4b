// Package store is the seam between the features and the database: what can
// be read and written, and the promises that every engine keeps.
//
// All writes go through [Store.Write]. It groups the closures of many requests
// into one transaction, each in its own savepoint, and returns only after the
// commit; so a closure must be pure apart from what it does to its [Tx],
// because it can be run again. It runs in the caller's goroutine, and while it
// runs nobody else writes: it must not wait for anything, least of all for
// another Write. What it reads stays true until the commit, on every engine and
// with any number of replicas. [Tx.NextSeq] takes numbers from a one-row
// counter inside the transaction, so commit order is seq order on every
// engine and with any number of replicas. Each [Change] appended in a
// transaction reaches the [Feed] of every replica after the commit, in seq
// order; the feed is what waiters wait for, so no waiter queries.
//
// Stores know no rights: who may see what is decided before (internal/auth).
// A row that does not exist is [ErrNotFound]. The suite in storetest is the
// specification; it runs on real SQLite and real PostgreSQL.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
)

// ErrNotFound says that a row does not exist.
var ErrNotFound = errors.New("not found")

// ErrFull says that the database cannot grow: its disk is full. Nothing of
// the transaction was kept.
var ErrFull = errors.New("database storage is full")

// Store is a database.
type Store interface {
	// Read runs fn on a snapshot.
	Read(ctx context.Context, fn func(Reader) error) error
	// Write runs fn in a transaction that may be shared with other writes and
	// returns after its commit. An error of fn undoes fn's changes only and is
	// returned as it is; ErrNotFound and ErrExists of a Tx need not be returned.
	// When ctx ends first, Write returns its error, and whether fn was committed
	// is unknown: callers treat it as a lost answer. The same holds for an error
	// with the code unavailable. ErrFull keeps nothing.
	Write(ctx context.Context, fn func(Tx) error) error
	// Feed wakes waiters after commits, on every replica.
	Feed() *Feed
	// AccessVersion returns a number that is another one after a Write, on any
	// replica, that changed who there is (AccessWriter). It is read after the
	// call began, so what was read of that after one call is good in a later call
	// that returns the same number: nothing that ends an access is missed. Many
	// may call at once; where it takes a query, they share it.
	AccessVersion(ctx context.Context) (int64, error)
	Close() error
}

// Reader is what a read sees.
type Reader interface {
	JobReader
	CodeReader
	AccessReader
	AgentReader
	Audited
	DocumentReader
}

// Tx is what a write sees and changes.
type Tx interface {
	Reader
	JobWriter
	CodeWriter
	AccessWriter
	AgentWriter
	Auditor
	DocumentWriter
	// NextSeq takes the next number of the deployment's one sequence.
	NextSeq() (int64, error)
	// NewEpoch begins another life of the deployment after a backup was restored:
	// it mints an epoch above the present one and takes Lift numbers at once, so
	// that none of the lost hours' numbers is given twice.
	NewEpoch(now time.Time) (int64, error)
}

// Lift is how far a new epoch lifts the sequence: further than it can have come
// in the hours that a restored backup lacks.
const Lift = 1_000_000_000

// Job is a job's row: what the API shows, what was asked for, and what the
// server alone needs to know.
type Job struct {
	hpcsera.Job
	Run         hpcsera.RunPart // as accepted; PATCH changes it before delivery
	Idempotency string          // the scope it was made under, or ""
	Token       string          // the token that made it
	Ready       bool            // approved and free of dependencies: an agent may take it
	Revision    int64           // of Desired
	OrderSeq    int64           // seq of the last change of the order; 0 before delivery
	Delivered   int64           // seq at which an agent took it; 0 before
	ReportSeq   int64           // of the last applied report
	CancelAt    *time.Time      // when cancel was asked for
}

// JobFilter selects jobs for a list. Zero fields select all. User, Client and
// Projects are set by the caller to what the principal reaches.
type JobFilter struct {
	Projects []string
	User     string
	Client   string
	Site     string
	State    hpcsera.State
	Name     string
	Label    [2]string // key, value; key "" selects all
	Note     [2]string // the same for annotations
	After    time.Time // created at or after
	Before   time.Time // created before
	Older    int64     // only jobs with a Created seq below this: the cursor
	Limit    int       // at most 1001: a page, and one job more that tells whether there is another
}

// Listed is one row of a list with the cursor that continues after it.
type Listed struct {
	hpcsera.Job
	Cursor int64
}

// JobReader reads jobs, their events, and answers to idempotent requests.
type JobReader interface {
	Job(id string) (*Job, error)
	// Taken returns those of the ids that jobs have.
	Taken(ids []string) (map[string]bool, error)
	Jobs(JobFilter) ([]Listed, error) // newest first
	// Orders returns the unfinished jobs of an agent whose OrderSeq is above
	// seq, oldest order first.
	Orders(agent string, seq int64, limit int) ([]*Job, error)
	// Ready returns jobs that no agent has taken yet and that an agent of user
	// at site, of those projects, may take, oldest first: Ready is set, Delivered
	// is 0, and they are not final. Whether Desired holds them is not looked at.
	Ready(user, site string, projects []string, limit int) ([]*Job, error)
	// AwaitingApproval returns the jobs of a user's project in state pending
	// with reason waiting_for_approval that run that code.
	AwaitingApproval(user, project, digest string) ([]*Job, error)
	// Awaited returns for which code jobs wait for an approval, at most limit, in
	// the order of user, project and digest; only what comes behind after.
	Awaited(after Awaited, limit int) ([]Awaited, error)
	// Dependents returns the unfinished jobs that depend on a job.
	Dependents(job string) ([]*Job, error)
	// UnfinishedByAgent counts.
	UnfinishedByAgent(agent string) (int, error)
	Events(EventFilter) ([]Change, error) // by seq
	Idempotent(scope, key string) (*Answer, error)
	// Epoch and LastSeq describe the sequence.
	Epoch() (int64, error)
	LastSeq() (int64, error)
}

// Awaited is code that a user's jobs in a project wait to have approved.
type Awaited struct{ User, Project, Digest string }

// EventFilter selects events. Zero fields select all.
type EventFilter struct {
	Job      string
	Projects []string
	User     string
	Client   string
	After    int64 // only events with a higher seq
	Limit    int   // at most 10 000
}

// Answer is a 2xx answer kept under an idempotency key.
type Answer struct {
	User       string // who asked, and alone gets it again
	BodySHA256 string // of the request, hexadecimal
	Status     int
	Body       []byte
	Created    time.Time
}

// JobWriter changes jobs. Every change of a job the API shows takes a seq,
// sets the job's Version to it and appends a Change.
type JobWriter interface {
	// InsertJobs files jobs, whose Version is a number taken in this transaction.
	// An id that is taken is ErrExists; with several jobs fn must fail then. The
	// engine may find out later: it runs fn again, alone.
	InsertJobs(jobs []*Job) error
	// UpdateJobs changes all but id, project, user, client and dependencies.
	UpdateJobs(jobs ...*Job) error
	DeleteJob(id string) error // and its events but the last
	// Append adds an event, whose Seq was taken in this transaction.
	Append(Change) error
	// KeepAnswer replaces an earlier answer under the same key.
	KeepAnswer(scope, key string, a Answer) error
	DropAnswers(before time.Time) error
}

// Change is an event with what waiters need to know whether it is theirs.
type Change struct {
	hpcsera.Event
	User   string
	Client string
	Site   string
	Agent  string // "" while no agent has the job
}

// CodeReader reads code parts, which blobs a project has, and approvals.
type CodeReader interface {
	// Code returns a code part of a project. Its Missing is not filled. Its
	// Manifest may be shared and must not be changed.
	Code(project, digest string) (*Code, error)
	CodeList(project, user, client string, limit int) ([]*Code, error)
	// HasBlob reports whether someone of the project handed in these bytes.
	HasBlob(project, digest string) (bool, error)
	Approval(id string) (*Approval, error)
	// Approvals returns a user's approvals in a project, newest first: those
	// that count for the jobs of a client, with "" only those that count for all
	// of them, with [EveryClient] whatever was filed. digest and name narrow the
	// list where they are not "".
	Approvals(user, project, client, digest, name string, limit int) ([]*Approval, error)
}

// Code is a code part's row.
type Code struct {
	hpcsera.CodeEntry
	User   string
	Client string
}

// Approval is an approval's row. No signature is proven before an agent has
// seen it, so what a client filed by a token for itself counts for its own jobs
// only: it would otherwise stand before, and replace, what others filed.
type Approval struct {
	hpcsera.Approval
	Client string // whose token filed it, or "" where it counts for all
}

// EveryClient stands for whatever was filed. It is no client's name.
const EveryClient = "*"

// NoClient is of approvals that an agent brought with a job of lost hours: they
// count for that job alone. An agent is no client, and what its jobs had is not
// in the order of filing. Whoever may files the same in its place.
const NoClient = "!"

// CodeWriter files code parts, blobs and approvals. Filing twice is no error,
// and the first filing stays as it is, unless it is of [NoClient].
type CodeWriter interface {
	PutCode(Code) error
	DeleteCode(project, digest string) error
	PutBlob(project, digest string, size int64) error
	PutApproval(Approval) error
}

// AccessReader reads who there is.
type AccessReader interface {
	User(name string) (*hpcsera.User, error)
	Users() ([]*hpcsera.User, error)
	Project(name string) (*hpcsera.Project, error) // with its members
	Projects() ([]*hpcsera.Project, error)
	// Memberships returns the projects of which a user is a member, by name.
	Memberships(user string) ([]string, error)
	Client(name string) (*hpcsera.Client, error)
	Clients() ([]*hpcsera.Client, error)
	Site(name string) (*hpcsera.Site, error)
	Sites() ([]*hpcsera.Site, error)
	// Token returns a token and the SHA-256 of its secret.
	Token(id string) (*hpcsera.Token, []byte, error)
	Tokens(user string) ([]*hpcsera.Token, error) // all users' for ""
	// Principal returns in one query what every request needs: the token, its
	// hash, and whether user, client and project still exist and are enabled.
	Principal(token string) (*Principal, error)
}

// Principal is a token with the state of everything it hangs on.
type Principal struct {
	hpcsera.Token
	Hash           []byte
	UserDisabled   bool
	ClientDisabled bool
	Member         hpcsera.MemberRole // "" when the user is no member any more
}

// AccessWriter changes who there is. Inserting a name again is ErrExists.
type AccessWriter interface {
	InsertUser(hpcsera.User) error
	UpdateUser(hpcsera.User) error
	InsertProject(hpcsera.Project) error
	// SetMember gives a role, or takes it with "". Project and user must exist.
	SetMember(project, user string, role hpcsera.MemberRole) error
	InsertClient(hpcsera.Client) error
	UpdateClient(hpcsera.Client) error
	InsertSite(hpcsera.Site) error
	UpdateSite(hpcsera.Site) error
	InsertToken(t hpcsera.Token, hash []byte) error
	RevokeToken(id string, at time.Time) error // the first time stays
	// UsedTokens stores when tokens were last used, as SeenAgents does.
	UsedTokens(map[string]time.Time) error
}

// Registration is a client's registration as it is stored.
type Registration struct {
	hpcsera.Registration
	Secret []byte `json:"secret,omitempty"` // SHA-256 of the text of the client's secret
}

// ErrExists says that the name is taken.
var ErrExists = errors.New("exists")

// Agent is an enrolment's row.
type Agent struct {
	hpcsera.Agent
	Hash       []byte // SHA-256 of the credential's secret
	Renewed    []byte `json:",omitempty"` // of one that was renewed and not used yet
	Instance   string // the one that holds the term
	Term       int64
	Stopped    bool  // the instance said that it stopped
	AppliedSeq int64 // highest report seq applied
	Epoch      int64 // the newest one in which the agent said that it has told what it knows
	Removed    bool
}

// AgentReader reads enrolments.
type AgentReader interface {
	Agent(id string) (*Agent, error)
	Agents(user, site string) ([]*Agent, error) // not removed; "" selects all
}

// AgentWriter changes enrolments.
type AgentWriter interface {
	InsertAgent(Agent) error
	UpdateAgent(Agent) error // all but LastSeen
	// SeenAgents stores last-seen times; they are flushed together, now and
	// then, and never come with a seq. They never go back.
	SeenAgents(map[string]time.Time) error
}
