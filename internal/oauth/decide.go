package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/errgroup"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// The loop's times.
const (
	decisionsWait = 30 * time.Second // of one long poll
	firstPause    = time.Second      // after a failure, doubled up to
	longestPause  = 30 * time.Second
	sweepEvery    = 10 * time.Minute
)

// Run fetches decisions and applies them, notifies clients, and forgets what
// ended, until ctx ends. It is to be run once, in a goroutine of the server;
// every replica runs it, and each decision counts once.
func (s *Service) Run(ctx context.Context) error {
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return s.decisionLoop(ctx) })
	work.Go(func() error { return s.pingLoop(ctx) })
	work.Go(func() error { return s.sweepLoop(ctx) })
	return work.Wait()
}

// decisionLoop fetches and applies.
func (s *Service) decisionLoop(ctx context.Context) error {
	pause := firstPause
	for ctx.Err() == nil {
		err := s.fetch(ctx)
		if err == nil {
			pause = firstPause
			continue
		}
		if ctx.Err() != nil {
			break
		}
		level := slog.LevelDebug
		if pause == firstPause { // once for each time that it is away
			level = slog.LevelWarn
		}
		s.cfg.Log.LogAttrs(ctx, level, "decisions were not fetched; trying on", slog.String("error", err.Error()))
		sleep(ctx, pause/2+rand.N(pause/2))
		pause = min(2*pause, longestPause)
	}
	return nil
}

// sweepLoop deletes documents that ended.
func (s *Service) sweepLoop(ctx context.Context) error {
	for sleep(ctx, sweepEvery) {
		err := s.cfg.Store.Write(ctx, func(tx store.Tx) error { return tx.SweepDocuments(s.now()) })
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("documents that ended were not deleted", "err", err)
		}
	}
	return nil
}

// sleep waits, and reports whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fetch does one long poll and applies what it brings.
func (s *Service) fetch(ctx context.Context) error {
	texts, err := s.cfg.Inbox.Decisions(ctx, decisionsWait)
	if err != nil {
		return err
	}
	var done []string
	var failed error
	for _, text := range texts {
		id, err := s.Apply(ctx, text)
		switch {
		case err == nil:
			done = append(done, id)
		case final(err):
			// It can never be applied: the sender is not to send it again. What
			// is acknowledged is its sender's word, which costs only the sender.
			s.cfg.Log.Warn("a decision was refused", "err", err)
			if id = claimedID(text); id != "" {
				done = append(done, id)
			} else {
				failed = errors.Join(failed, err)
			}
		default:
			failed = errors.Join(failed, err)
		}
	}
	if len(done) > 0 {
		failed = errors.Join(failed, s.cfg.Inbox.Ack(ctx, done...))
	}
	return failed
}

// claimedID reads the id of a decision that was refused.
func claimedID(text string) string {
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return ""
	}
	var c struct {
		ID string `json:"jti"`
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &c); err != nil || !hpcsera.ValidID("dc", c.ID) {
		return ""
	}
	return c.ID
}

// Apply verifies a decision and makes its grant granted or denied, in one
// transaction. A decision about a grant that is not pending changes nothing,
// so it counts once, and a second, different one not at all. It returns the
// decision's id.
func (s *Service) Apply(ctx context.Context, text string) (id string, err error) {
	d, err := s.verified(ctx, text)
	if err != nil {
		return "", err
	}
	if d.Kind == decision.Code {
		if s.cfg.Consent == nil {
			return "", hpcsera.Errorf(hpcsera.NotFound, "the decision %s is about code, and no code was asked about.", d.ID)
		}
		return d.ID, s.cfg.Consent(ctx, d)
	}
	var g grant
	changed := false
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		g, changed = grant{}, false
		err := tx.Document(grants, d.Request, s.now(), &g)
		if errors.Is(err, store.ErrNotFound) {
			return nil // it ended long ago
		}
		if err != nil || g.State != pending {
			return err
		}
		if err := d.Answers(g.Request); err != nil {
			return err
		}
		changed = true
		return s.settle(tx, &g, d)
	})
	if err != nil {
		return "", store.Failed("apply decision "+d.ID, err)
	}
	if changed && g.Notify != "" {
		s.notify(g)
	}
	return d.ID, nil
}

// settle changes a pending grant as the user decided.
func (s *Service) settle(tx store.Tx, g *grant, d decision.Decision) error {
	g.User, g.Decided, g.State = d.User, s.now(), denied
	line := s.line(*g, "grant.decide", "user:"+d.User)
	what := "denied: "
	switch user, err := tx.User(d.User); {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case err != nil || user.Disabled:
		line.Refused, line.User = hpcsera.Forbidden, d.User
	case !d.Granted:
	case !s.now().Before(g.Request.Expires):
		line.Refused, what = hpcsera.Conflict, "too late: "
	default:
		g.State, g.Roles, g.Until, what = decided, d.Roles, d.Until, "granted: "
		if d.Kind == decision.Token {
			line.Detail = fmt.Sprintf("a token for %s: %s, until %s", g.Request.Client, d.Roles, d.Until.Format(time.RFC3339))
		}
	}
	line.Detail = what + line.Detail
	if err := tx.PutDocument(g.document(), *g); err != nil {
		return err
	}
	return tx.Note(line)
}

// keyCache keeps the Auth app's keys. They are asked for again when a decision
// names another one. Decisions come from the Auth app alone, so nobody else can
// make us ask.
type keyCache struct {
	mu   sync.Mutex
	keys []jose.JSONWebKey
}

// verified verifies a decision, with fresh keys where the known ones do not
// fit.
func (s *Service) verified(ctx context.Context, text string) (decision.Decision, error) {
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	expect := decision.Expected{Issuer: s.cfg.Issuer, Audience: s.cfg.Deployment, Keys: s.keys.keys, Now: s.now()}
	if knows(expect.Keys, text) {
		return decision.Verify(text, expect)
	}
	fresh, err := s.cfg.Inbox.Keys(ctx)
	if err != nil {
		return decision.Decision{}, err
	}
	s.keys.keys, expect.Keys = fresh, fresh
	return decision.Verify(text, expect)
}

// knows reports whether a text is signed with one of keys, or with none that
// could be looked up.
func knows(keys []jose.JSONWebKey, text string) bool {
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return true
	}
	return slices.ContainsFunc(keys, func(k jose.JSONWebKey) bool { return k.KeyID == jws.Signatures[0].Protected.KeyID })
}
