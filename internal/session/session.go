package session

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// The cookies. They name records and say nothing themselves.
const (
	sessionCookie = "hpcsera-auth"
	visitCookie   = "hpcsera-auth-visit"
)

// Session is one browser that a person is signed in with.
type Session struct {
	ID          string // names it to its owner, and to deployments as sid; it opens nothing
	User        string
	Operator    bool `json:"-"`
	Began       time.Time
	Seen        time.Time
	Stepped     time.Time // when a second factor was last verified
	Methods     []string  // how, as in RFC 8176: pwd, otp, hwk, user, mfa; fed for an institution
	Institution string    // that it came from
	Abroad      string    // its name there
	Browser     string    // what the browser says it is
	Address     string
}

// SteppedUp reports whether a second factor was verified so shortly before
// that something may be decided.
func (s *Session) SteppedUp(now time.Time) bool {
	return !s.Stepped.IsZero() && now.Sub(s.Stepped) < stepUpLife
}

// Verified is when the person last proved to be there: the auth_time of OpenID
// Connect.
func (s *Session) Verified() time.Time {
	if s.Stepped.After(s.Began) {
		return s.Stepped
	}
	return s.Began
}

// begin makes a session within a transaction and returns its cookie.
func (s *Service) begin(tx records.Tx, r *http.Request, a *account, methods []string, change ...func(*Session)) (cookie string, err error) {
	now := s.cfg.Now()
	n := stored{Session: Session{
		ID: hpcsera.NewID("se"), User: a.Name, Began: now, Seen: now, Methods: methods,
		Browser: browser(r), Address: s.cfg.Address(r),
	}}
	for _, c := range change {
		c(&n.Session)
	}
	cookie, key := newSecret()
	if err := s.putSession(tx, key, &n); err != nil {
		return "", err
	}
	return cookie, tx.Note(s.line(r, a.Name, a.Name, "session.begin", n.ID, how(methods)))
}

// how says to people how somebody signed in.
func how(methods []string) string {
	var list []string
	for _, m := range methods {
		if word, ok := map[string]string{
			"pwd": "password", "otp": "authenticator app", "hwk": "passkey", "recovery": "recovery code", "fed": "institution",
		}[m]; ok {
			list = append(list, word)
		}
	}
	return "by " + strings.Join(list, " and ")
}

// verified marks a session as begun with a second factor.
func (s *Service) verified(n *Session) { n.Stepped = s.cfg.Now() }

func (s *Service) putSession(tx records.Tx, key string, n *stored) error {
	ends := n.Began.Add(sessionLife)
	if idle := n.Seen.Add(sessionIdle); idle.Before(ends) {
		ends = idle
	}
	return tx.Put(sessionKind, key, n, records.Options{Owner: n.User, Ends: ends})
}

// browser keeps what a browser says of itself short.
func browser(r *http.Request) string {
	text := r.UserAgent()
	if len(text) > 200 {
		text = text[:200]
	}
	return text
}

// find returns the session of a request with its account.
func (s *Service) find(r records.Reader, key string) (*stored, *account, error) {
	var n stored
	if err := r.Get(sessionKind, key, &n); err != nil {
		return nil, nil, err
	}
	a, err := getAccount(r, n.User)
	if err == nil && !a.usable() {
		err = records.ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	n.Operator = a.Operator
	return &n, a, nil
}

// errNobody says that a request comes from nobody in particular.
var errNobody = hpcsera.Errorf(hpcsera.Unauthenticated, "You are not signed in.").Hint("Sign in first.")

// Session returns who sent a request, or unauthenticated. It asks the records
// each time: an end holds at once.
func (s *Service) Session(r *http.Request) (*Session, error) {
	key := s.sessionKey(r)
	if key == "" {
		return nil, errNobody
	}
	var n *stored
	err := s.cfg.Records.Read(r.Context(), func(rd records.Reader) (err error) {
		n, _, err = s.find(rd, key)
		return err
	})
	if errors.Is(err, records.ErrNotFound) {
		return nil, errNobody
	}
	if err != nil {
		return nil, err
	}
	if s.cfg.Now().Sub(n.Seen) >= sightEvery {
		if err := s.sight(r.Context(), key); err != nil {
			s.cfg.Log.WarnContext(r.Context(), "a session's use was not noted", "error", err)
		}
	}
	return &n.Session, nil
}

// sight notes that a session is used, unless it ended in between.
func (s *Service) sight(ctx context.Context, key string) error {
	return s.cfg.Records.Write(ctx, func(tx records.Tx) error {
		n, _, err := s.find(tx, key)
		if errors.Is(err, records.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		n.Seen = s.cfg.Now()
		return s.putSession(tx, key, n)
	})
}

func (s *Service) sessionKey(r *http.Request) string {
	if secret := s.cfg.Frame.Cookie(r, sessionCookie); secret != "" {
		return keyOf(secret)
	}
	return ""
}

// Level is how sure a page must be of who asks.
type Level int

// The levels.
const (
	SignedIn  Level = iota // some time in the last hours
	SteppedUp              // with a second factor in the last five minutes
)

// Require returns the session of a request that has the level. Otherwise it
// has answered, by sending the browser to sign in or to verify a factor and
// then back to this page, and ok is false.
func (s *Service) Require(w http.ResponseWriter, r *http.Request, level Level) (n *Session, ok bool) {
	n, err := s.Session(r)
	switch {
	case hpcsera.CodeOf(err) == hpcsera.Unauthenticated:
		s.cfg.Frame.Redirect(w, r, "/signin?return="+url.QueryEscape(s.here(r)))
	case err != nil:
		s.cfg.Frame.Fail(w, r, "", err)
	case level == SteppedUp && !n.SteppedUp(s.cfg.Now()):
		s.cfg.Frame.Redirect(w, r, "/stepup?return="+url.QueryEscape(s.here(r)))
	default:
		return n, true
	}
	return nil, false
}

// here is the page that a request belongs to: of a form, the page it stands
// on, since what it would have done is lost.
func (s *Service) here(r *http.Request) string {
	if r.Method == http.MethodGet {
		return r.URL.RequestURI()
	}
	from, err := url.Parse(r.Referer())
	if err != nil || from.Host != r.Host {
		return ""
	}
	return from.RequestURI()
}

// home is where a person goes who wanted to go nowhere in particular.
const home = "/"

// back returns a path of ours that a request named, or home. Anything else
// would let a link to our sign-in page end on somebody else's.
func (s *Service) back(path string) string {
	prefix := s.cfg.Frame.Path("/")
	u, err := url.Parse(path)
	switch {
	case err != nil, u.Scheme != "", u.Host != "", u.Opaque != "", u.User != nil, u.Fragment != "", !strings.HasPrefix(path, prefix),
		strings.HasPrefix(path, "//"), strings.Contains(path, `\`), strings.ContainsFunc(path+u.Path, unicode.IsControl),
		strings.Contains(u.Path, "/../"), strings.HasSuffix(u.Path, "/.."), strings.Contains(u.Path, "//"):
		return s.cfg.Frame.Path(home)
	}
	return u.RequestURI()
}

// enter gives the browser its session and sends it where it wanted to go.
func (s *Service) enter(w http.ResponseWriter, r *http.Request, cookie, to string) {
	s.cfg.Frame.SetCookie(w, sessionCookie, cookie, time.Time{})
	s.cfg.Frame.DropCookie(w, visitCookie)
	http.Redirect(w, r, s.back(to), http.StatusSeeOther)
}

// end ends a session within a transaction.
func (s *Service) end(tx records.Tx, key string, n *Session) error {
	if err := tx.Delete(sessionKind, key); err != nil {
		return err
	}
	return s.tell(tx, Event{Kind: SessionEnded, User: n.User, Session: n.ID})
}

// endAll ends the sessions of an account that which selects.
func (s *Service) endAll(tx records.Tx, user string, which func(key string, n *Session) bool) (ended int, err error) {
	err = each(tx, sessionKind, user, func(key string, n *stored) error {
		if !which(key, &n.Session) {
			return nil
		}
		ended++
		return s.end(tx, key, &n.Session)
	})
	return ended, err
}

func (s *Service) tell(tx records.Tx, e Event) error {
	if s.cfg.Watch == nil {
		return nil
	}
	return s.cfg.Watch(tx, e)
}

// line is an audit line of something that happened through a page.
func (s *Service) line(r *http.Request, actor, user, action, about, detail string) records.AuditLine {
	if detail != "" {
		detail += " "
	}
	return records.AuditLine{
		At: s.cfg.Now(), Actor: actor, User: user, Action: action, About: about, Detail: detail + "from " + s.cfg.Address(r),
	}
}
