package access

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// The documents of clients that get tokens on demand.
const (
	registrations store.Kind = "client_registration" // store.Registration, by client
	enabled       store.Kind = "client_enabled"      // Enabling, by user and client; owned by the user
)

// NewRegistration registers a client for tokens on demand, in place of what
// was registered before. With Method secret and NewSecret false an earlier
// secret stays.
type NewRegistration struct {
	Client    string               `json:"client"`
	Method    hpcsera.ClientMethod `json:"method"`
	NewSecret bool                 `json:"new_secret,omitempty"`
	Keys      string               `json:"jwks,omitempty"` // a JWK Set of public keys
	CIBA      hpcsera.CIBAMode     `json:"ciba,omitempty"`
	Notify    string               `json:"notify,omitempty"`
}

// RegistrationMade is a registration; Secret is "" where none was made. It is
// shown once and kept nowhere.
type RegistrationMade struct {
	Registration hpcsera.Registration `json:"registration"`
	Secret       string               `json:"secret,omitempty"`
}

// Register sets how a client gets tokens on demand. Its owner does it in
// person: whoever holds the secret or a key may ask that client's users.
func (s *Service) Register(ctx context.Context, by *auth.Principal, r NewRegistration) (RegistrationMade, error) {
	target, err := s.ofClient(ctx, r.Client)
	if err != nil {
		return RegistrationMade{}, err
	}
	if r.Client == hpcsera.CLIClient || r.Client == hpcsera.AgentClient {
		return RegistrationMade{}, hpcsera.Errorf(hpcsera.Conflict, "the client %s is built in.", r.Client).At("client").Hint("Register yours under a name of its own.")
	}
	if err := s.allow(by, auth.ChangeClient, target, r.Client); err != nil {
		return RegistrationMade{}, err
	}
	made := RegistrationMade{Registration: hpcsera.Registration{Client: r.Client, Method: r.Method, Keys: []byte(r.Keys), CIBA: r.CIBA, Notify: r.Notify}}
	if err := checkRegistration(made.Registration); err != nil {
		return RegistrationMade{}, err
	}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		var row store.Registration
		if err := tx.Document(registrations, r.Client, s.now(), &row); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		row.Registration, made.Secret = made.Registration, ""
		switch {
		case r.Method != hpcsera.SecretClient:
			row.Secret = nil
		case row.Secret == nil || r.NewSecret:
			// The same form as a token's, so that secret scanners find it.
			made.Secret, _ = hpcsera.NewSecret(hpcsera.NewID("cs"))
			sum := sha256.Sum256([]byte(made.Secret))
			row.Secret = sum[:]
		}
		if err := tx.PutDocument(store.Document{Kind: registrations, Key: r.Client, Owner: target.User}, row); err != nil {
			return err
		}
		return s.note(tx, by, auth.ChangeClient, target, r.Client, "tokens on demand: "+string(r.Method)+" "+string(r.CIBA))
	})
	if err != nil {
		return RegistrationMade{}, store.Failed("register client "+r.Client, err)
	}
	return made, nil
}

func checkRegistration(r hpcsera.Registration) error {
	refuse := func(field, format string, args ...any) *hpcsera.Error {
		return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(field)
	}
	switch r.Method {
	case hpcsera.PublicClient, hpcsera.SecretClient:
		if len(r.Keys) > 0 {
			return refuse("jwks", "keys belong to private_key_jwt.")
		}
	case hpcsera.KeyClient:
		if err := checkKeys(r.Keys); err != nil {
			return err
		}
	default:
		return refuse("method", "%q is no way to authenticate.", r.Method).Hint("Use none, secret or private_key_jwt.")
	}
	if r.CIBA != "" && r.CIBA != hpcsera.Poll && r.CIBA != hpcsera.Ping {
		return refuse("ciba", "%q is no mode of CIBA.", r.CIBA).Hint("Use poll or ping, or leave it out.")
	}
	if r.CIBA != "" && r.Method == hpcsera.PublicClient {
		return refuse("ciba", "a client that proves nothing cannot ask users by their names.").Hint("Give it a secret or a key.")
	}
	if (r.Notify != "") != (r.CIBA == hpcsera.Ping) {
		return refuse("notify", "ping, and nothing else, needs the URL that is notified.")
	}
	if r.Notify == "" {
		return nil
	}
	u, err := url.Parse(r.Notify)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || len(r.Notify) > 2000 {
		return refuse("notify", "%q is not a URL like https://client.example.org/hpcsera.", r.Notify)
	}
	return nil
}

// checkKeys refuses everything but public keys that are named and serve
// signatures that the token endpoint takes.
func checkKeys(text []byte) error {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) == 0 || len(set.Keys) > 10 {
		return hpcsera.Errorf(hpcsera.InvalidField, "this is no JWK Set of 1 to 10 keys.").At("jwks").Hint(`It is written as {"keys": [...]}.`)
	}
	for _, key := range set.Keys {
		if !key.Valid() || !key.IsPublic() {
			return hpcsera.Errorf(hpcsera.InvalidField, "only public keys belong here.").At("jwks").
				Hint("If a private or secret key stood here, it is not secret any more: make another one.")
		}
	}
	return nil
}

// Registration returns how a client gets tokens on demand. Method is "" for one
// that was not registered, which is no error: it gets none.
func (s *Service) Registration(ctx context.Context, by *auth.Principal, r Named) (hpcsera.Registration, error) {
	if err := auth.Allow(by, auth.ListClients, auth.Target{User: by.User()}); err != nil {
		return hpcsera.Registration{}, err
	}
	row := store.Registration{}
	err := s.cfg.Store.Read(ctx, func(rd store.Reader) error {
		found, err := s.Registered(rd, r.Name)
		if err == nil {
			row = *found
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return hpcsera.Registration{Client: r.Name}, nil
	}
	return row.Registration, store.Failed("read the registration of "+r.Name, err)
}

// Registered returns a client's registration to the OAuth endpoints, which
// authenticate the client with it; ErrNotFound where it has none.
func (s *Service) Registered(r store.Reader, client string) (*store.Registration, error) {
	row := &store.Registration{}
	if err := r.Document(registrations, client, s.now(), row); err != nil {
		return nil, err
	}
	return row, nil
}

// Enabling lets a client ask a user out of band (CIBA), or no more.
type Enabling struct {
	User    string    `json:"user"`
	Client  string    `json:"client"`
	Enabled bool      `json:"enabled"`
	Since   time.Time `json:"since,omitzero"` // filled in
}

// EnableClient lets a client ask the user for tokens at any time, or stops it.
// Without it nobody who knows a user's name can make requests pop up.
func (s *Service) EnableClient(ctx context.Context, by *auth.Principal, r Enabling) (Enabling, error) {
	target := auth.Target{User: r.User, Client: r.Client}
	// To stop it takes something back, which needs no second factor.
	action := auth.EnableClient
	if !r.Enabled {
		action = auth.RevokeToken
	}
	if err := s.allow(by, action, target, r.Client); err != nil {
		return Enabling{}, err
	}
	r.Since = s.now()
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if _, err := tx.User(r.User); err != nil {
			return missing(err, "user", r.User)
		}
		if _, err := tx.Client(r.Client); err != nil {
			return missing(err, "client", r.Client)
		}
		err := tx.DeleteDocument(enabled, enabledKey(r.User, r.Client))
		if r.Enabled {
			err = tx.PutDocument(store.Document{Kind: enabled, Key: enabledKey(r.User, r.Client), Owner: r.User}, r)
		}
		if err != nil {
			return err
		}
		return s.note(tx, by, auth.EnableClient, target, r.Client, map[bool]string{true: "may ask", false: "may not ask any more"}[r.Enabled])
	})
	return r, s.failed(err, "client", r.Client)
}

// EnabledClients lists the clients that may ask a user.
func (s *Service) EnabledClients(ctx context.Context, by *auth.Principal, f Filter) ([]*Enabling, error) {
	return list(ctx, s, by, auth.ListTokens, auth.Target{User: f.User}, func(r store.Reader) (all []*Enabling, err error) {
		err = r.Documents(enabled, f.User, s.now(), func(_ string, doc []byte) error {
			e := &Enabling{}
			all = append(all, e)
			return json.Unmarshal(doc, e)
		})
		return all, err
	})
}

// Enabled reports whether a client may ask a user.
func (s *Service) Enabled(r store.Reader, user, client string) (bool, error) {
	err := r.Document(enabled, enabledKey(user, client), s.now(), &Enabling{})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// enabledKey joins two names, neither of which holds a slash.
func enabledKey(user, client string) string { return user + "/" + client }

// ofClient is the target of what concerns a client: its owner's.
func (s *Service) ofClient(ctx context.Context, name string) (t auth.Target, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		c, err := r.Client(name)
		if err == nil {
			t = auth.Target{User: c.Owner, Client: name}
		}
		return err
	})
	return t, s.failed(err, "client", name)
}
