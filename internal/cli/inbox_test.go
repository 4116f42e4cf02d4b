package cli

import (
	"context"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/oauth"
)

const authApp = "https://auth.example.org"

// inbox is an Auth app in which alice decides what a script says. Its messages
// are real.
type inbox struct {
	key    decision.Key
	grants *oauth.Service
	posted chan decision.Request
}

func (i *inbox) Post(_ context.Context, r decision.Request) error {
	i.posted <- r
	return r.Validate()
}

func (i *inbox) Cancel(context.Context, string) error { return nil }
func (i *inbox) RequestURL(id string) string          { return authApp + "/requests/test/" + id }
func (i *inbox) CodeURL() string                      { return authApp + "/code" }
func (i *inbox) Ack(context.Context, ...string) error { return nil }

func (i *inbox) Decisions(ctx context.Context, _ time.Duration) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (i *inbox) Keys(context.Context) ([]jose.JSONWebKey, error) {
	return []jose.JSONWebKey{i.key.Public()}, nil
}

// decide decides the next request; without takes roles out of what is granted.
func (i *inbox) decide(granted bool, without hpcsera.Roles) (decision.Request, error) {
	var r decision.Request
	select {
	case r = <-i.posted:
	case <-time.After(patienceOfScripts):
		return r, errors.New("alice is asked nothing")
	}
	now := time.Now()
	d := decision.Decision{
		ID: hpcsera.NewID("dc"), Issuer: authApp, Audience: "test", Request: r.ID, Kind: r.Kind, User: "alice", Granted: granted,
		Decided: now, Expires: now.Add(time.Hour),
	}
	if granted {
		d.Roles, d.Until = r.Roles&^without, r.Until
	}
	text, err := d.Sign(i.key)
	if err != nil {
		return r, err
	}
	_, err = i.grants.Apply(context.Background(), text)
	return r, err
}
