package access

import (
	"cmp"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// What is here makes credentials inside a transaction of the caller's, so that
// a grant that a user decided is used up and what it grants is made together,
// or neither. A refusal leaves nothing behind; whoever calls tells the audit
// log of it, outside of the closure that fails.

// skew is how much later than by our own clock a limit may end: the end was
// computed when it was asked for, and is checked when it is granted.
const skew = time.Minute

// end checks the end of what is made now and lives for days at most.
func (s *Service) end(until time.Time, days int) error {
	now := s.now()
	if !until.After(now) {
		return hpcsera.Errorf(hpcsera.LimitExceeded, "its end, %s, is past.", until.UTC().Format(time.RFC3339)).At("end")
	}
	if until.After(now.Add(time.Duration(days)*24*time.Hour + skew)) {
		return hpcsera.Errorf(hpcsera.LimitExceeded, "its end, %s, is more than %d days away.", until.UTC().Format(time.RFC3339), days).At("end")
	}
	return nil
}

// IssueToken makes the token that t describes, all but its id and its creation,
// and returns it with its text.
func (s *Service) IssueToken(tx store.Tx, by *auth.Principal, t hpcsera.Token) (hpcsera.Token, string, error) {
	target := auth.Target{User: t.User, Project: t.Project, Client: t.Client}
	if err := auth.Allow(by, auth.CreateToken, target); err != nil {
		return t, "", err
	}
	if err := s.end(t.Expires, s.cfg.MaxTokenDays); err != nil {
		return t, "", err
	}
	if err := s.Usable(tx, t); err != nil {
		return t, "", err
	}
	t.ID, t.Created, t.Revoked, t.Used = hpcsera.NewID("t"), s.now(), nil, nil
	t.Scope = cmp.Or(t.Scope, hpcsera.ClientScope)
	secret, hash := hpcsera.NewSecret(t.ID)
	if err := tx.InsertToken(t, hash); err != nil {
		return t, "", err
	}
	return t, secret, s.note(tx, by, auth.CreateToken, target, t.ID, "for "+t.Client+": "+t.Roles.String())
}

// Usable checks that everything a token is for exists, is enabled, and is its
// user's.
func (s *Service) Usable(r store.Reader, t hpcsera.Token) error {
	if err := usable(r, t.User, []string{t.Project}); err != nil {
		return err
	}
	client, err := r.Client(t.Client)
	if err != nil {
		return missing(err, "client", t.Client)
	}
	if client.Disabled {
		return hpcsera.Errorf(hpcsera.Conflict, "the client %s is disabled.", t.Client).At("client")
	}
	if t.Site != "" {
		_, err = r.Site(t.Site)
	}
	return missing(err, "site", t.Site)
}

// IssueAgent makes the enrolment that a describes, all but its id and its
// creation, and returns it with its credential. With replace it takes the place
// of the one that the user has at the site: that keeps its id and its jobs, and
// gets the new key; the old key and credential open nothing any more.
func (s *Service) IssueAgent(tx store.Tx, by *auth.Principal, a hpcsera.Agent, replace bool) (hpcsera.Agent, string, error) {
	target := auth.Target{User: a.User, Site: a.Site}
	if err := auth.Allow(by, auth.CreateAgent, target); err != nil {
		return a, "", err
	}
	if err := checkAgent(a); err != nil {
		return a, "", err
	}
	if err := s.end(a.Expires, maxAgentDays); err != nil {
		return a, "", err
	}
	if err := usable(tx, a.User, a.Projects); err != nil {
		return a, "", err
	}
	if _, err := tx.Site(a.Site); err != nil {
		return a, "", missing(err, "site", a.Site)
	}
	others, err := tx.Agents(a.User, a.Site)
	if err != nil {
		return a, "", err
	}
	a.Projects = slices.Compact(slices.Sorted(slices.Values(a.Projects)))
	a.ID, a.Created, a.LastSeen, a.Facts = hpcsera.NewID("ag"), s.now(), nil, nil
	row, write, how := store.Agent{Agent: a}, tx.InsertAgent, "at "
	if len(others) > 0 {
		if !replace {
			return a, "", s.second(others[0])
		}
		// The instance of the old key cannot speak any more: the next one need
		// not wait for it.
		row, write, how = *others[0], tx.UpdateAgent, "in place of the key "+others[0].Thumbprint+" at "
		row.Thumbprint, row.Projects, row.Created, row.Expires, row.Stopped, row.Renewed = a.Thumbprint, a.Projects, a.Created, a.Expires, true, nil
	}
	var credential string
	credential, row.Hash = hpcsera.NewSecret(row.ID)
	if err := write(row); err != nil {
		return a, "", err
	}
	return row.Agent, credential, s.note(tx, by, auth.CreateAgent, target, row.ID, how+a.Site+", key "+a.Thumbprint)
}

// sessionLife is how long a session of hpcsera login lasts.
const sessionLife = 12 * time.Hour

// IssueSession makes the key-bound session that r describes, all but its id and
// its creation, and returns it with its credential. It ends after 12 hours, or
// sooner where r says so.
func (s *Service) IssueSession(tx store.Tx, by *auth.Principal, r hpcsera.Session) (hpcsera.Session, string, error) {
	target := auth.Target{User: r.User}
	if err := auth.Allow(by, auth.CreateSession, target); err != nil {
		return r, "", err
	}
	if err := usable(tx, r.User, nil); err != nil {
		return r, "", err
	}
	r.ID, r.Created = hpcsera.NewID("ls"), s.now()
	if last := r.Created.Add(sessionLife); r.Expires.IsZero() || r.Expires.After(last) {
		r.Expires = last
	}
	if err := s.end(r.Expires, 1); err != nil {
		return r, "", err
	}
	secret, hash := hpcsera.NewSecret(r.ID)
	row := auth.LoginSession{Session: r, Hash: hash}
	if err := tx.PutDocument(store.Document{Kind: auth.LoginSessions, Key: r.ID, Owner: r.User, Ends: r.Expires}, row); err != nil {
		return r, "", err
	}
	return r, secret, s.note(tx, by, auth.CreateSession, target, r.ID, "on "+r.Host+", key "+r.Thumbprint)
}
