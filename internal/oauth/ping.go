package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
)

// ping tells a client that it can collect (CIBA Core section 10.2). It says
// which request, not what was decided.
type ping struct {
	grant  string // the request's id
	client string
	token  string // the client's own, by which it knows us
	body   []byte
}

// maxPings bounds those that wait. A client that is not told polls in the end,
// as CIBA Core lets it.
const maxPings = 1000

// pingTries are the pauses before each try.
var pingTries = [...]time.Duration{0, 2 * time.Second, 10 * time.Second}

// notify puts a ping on its way. Only the replica that applied the decision
// does, after its commit.
func (s *Service) notify(g grant) {
	body, err := json.Marshal(map[string]string{"auth_req_id": s.reference(cibaFlow, g.Request.ID)})
	if err == nil {
		select {
		case s.pings <- ping{grant: g.Request.ID, client: g.Client, token: g.Notify, body: body}:
			return
		default:
		}
	}
	s.cfg.Log.Warn("a client is not notified: too many wait", "request", g.Request.ID)
}

// pingLoop notifies, a few clients at a time, so that a slow one holds up few.
func (s *Service) pingLoop(ctx context.Context) error {
	const atOnce = 8
	slots := make(chan struct{}, atOnce)
	for {
		select {
		case <-ctx.Done():
			for range atOnce {
				slots <- struct{}{} // until the last one has ended
			}
			return nil
		case p := <-s.pings:
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				s.deliver(ctx, p)
			}()
		}
	}
}

// deliver tries to notify a client. The URL is looked up now: one that was
// changed in between is not told.
func (s *Service) deliver(ctx context.Context, p ping) {
	var err error
	for _, pause := range pingTries {
		if !sleep(ctx, pause) {
			return
		}
		if err = s.deliverOnce(ctx, p); err == nil {
			return
		}
	}
	s.cfg.Log.Warn("a client was not notified; it can still poll", "request", p.grant, "client", p.client, "err", err)
}

func (s *Service) deliverOnce(ctx context.Context, p ping) error {
	var row *store.Registration
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		row, err = s.cfg.Access.Registered(r, p.client)
		return err
	})
	if err != nil || row.Notify == "" {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, row.Notify, strings.NewReader(string(p.body)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.cfg.Notify.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4<<10)) // nothing in it is for us
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("it answers %s", res.Status)
	}
	return nil
}
