package consent

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// NewDeployment is an API server to register. Name and URL are what users are
// shown beside its requests, so the operator chooses them.
type NewDeployment struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	Key  string `json:"key"` // public, as JWK
}

// maxDeploymentKeys is the present key and the one before it.
const maxDeploymentKeys = 2

// AddDeployment registers an API server. Registering it again with another key
// adds the key and keeps the one before, so that it can change keys without a
// gap; with another URL it is refused.
func (s *Service) AddDeployment(ctx context.Context, n NewDeployment) (Deployment, error) {
	d, err := n.deployment()
	if err != nil {
		return d, err
	}
	d.Created = s.cfg.Now().UTC()
	err = s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		old, found, err := get[Deployment](tx, kindDeployment, d.Name)
		if err != nil {
			return err
		}
		if found {
			if old.URL != d.URL {
				return hpcsera.Errorf(hpcsera.Conflict, "%s is registered as %s.", d.Name, old.URL).At("name").
					Hint("Choose another name, or remove that one first: what is for one must not reach the other.")
			}
			key := d.Keys[0]
			d = old
			if !slices.ContainsFunc(d.Keys, func(k jose.JSONWebKey) bool { return k.KeyID == key.KeyID }) {
				d.Keys = append(d.Keys, key)
				d.Keys = d.Keys[max(0, len(d.Keys)-maxDeploymentKeys):]
			}
			d.Disabled = false
		}
		if err := tx.Put(kindDeployment, d.Name, d, records.Options{}); err != nil {
			return err
		}
		return s.note(tx, "operator", "deployment.add", "", d.Name, d.URL)
	})
	return d, err
}

// Own makes n the registration of the API server that the Auth app runs
// inside, whatever it was before: there its URL and key are known first hand.
// It may be called at every start.
func (s *Service) Own(ctx context.Context, n NewDeployment) error {
	if !s.cfg.InProcess {
		return hpcsera.Errorf(hpcsera.Conflict, "only the operator registers deployments of an Auth app on its own.")
	}
	d, err := n.deployment()
	if err != nil {
		return err
	}
	d.Created = s.cfg.Now().UTC()
	return s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		old, found, err := get[Deployment](tx, kindDeployment, d.Name)
		if err != nil || found && old.URL == d.URL && len(old.Keys) == 1 && old.Keys[0].KeyID == d.Keys[0].KeyID {
			return err
		}
		if err := tx.Put(kindDeployment, d.Name, d, records.Options{}); err != nil {
			return err
		}
		return s.note(tx, "operator", "deployment.add", "", d.Name, d.URL)
	})
}

func (n NewDeployment) deployment() (Deployment, error) {
	if !hpcsera.ValidName(n.Name) {
		return Deployment{}, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a name.", n.Name).At("name").Hint("Use 1 to 63 of a-z, 0-9 and the hyphen.")
	}
	plain, err := approval.Deployment(n.URL)
	if err != nil {
		return Deployment{}, hpcsera.Errorf(hpcsera.InvalidField, "%q is not the URL of a server.", n.URL).At("url").Hint("Write it as https://HOST[:PORT][/PATH].")
	}
	u, err := url.Parse(plain)
	if err != nil || u.Scheme != "https" && !loopback(u.Hostname()) {
		return Deployment{}, hpcsera.Errorf(hpcsera.InvalidField, "%q is reached without TLS.", n.URL).At("url").
			Hint("Only a server on this host can do without.")
	}
	key, err := decision.ParsePublicKey([]byte(n.Key))
	if err != nil {
		return Deployment{}, err
	}
	return Deployment{
		Name: n.Name, URL: plain, Keys: []jose.JSONWebKey{key},
		Redirects: []string{plain + decision.CallbackPath}, Logout: plain + decision.LogoutPath,
	}, nil
}

func loopback(host string) bool {
	return host == "localhost" || strings.HasPrefix(host, "127.") || host == "::1"
}

// Deployments lists all that are registered.
func (s *Service) Deployments(ctx context.Context) (all []Deployment, err error) {
	err = s.cfg.Store.Read(ctx, func(r records.Reader) error {
		all, err = list[Deployment](r, kindDeployment, "")
		return err
	})
	return all, err
}

// RemoveDeployment takes a registration back: its key, its open requests and
// its decisions are worth nothing from the next request on.
func (s *Service) RemoveDeployment(ctx context.Context, name string) error {
	return s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		if _, found, err := get[Deployment](tx, kindDeployment, name); err != nil || !found {
			return errors.Join(err, notFound("there is no deployment %s.", name))
		}
		open, err := list[pending](tx, kindRequest, "")
		if err != nil {
			return err
		}
		for _, p := range open {
			if p.Deployment == name {
				if err := s.forget(tx, p); err != nil {
					return err
				}
			}
		}
		for _, kind := range []string{kindDecision, kindEvent} {
			keys := []string{}
			err := tx.List(kind, name, func(key string, _ []byte) error {
				keys = append(keys, key)
				return nil
			})
			if err != nil {
				return err
			}
			for _, key := range keys {
				if err := tx.Delete(kind, key); err != nil {
					return err
				}
			}
		}
		if err := tx.Delete(kindDeployment, name); err != nil {
			return err
		}
		return s.note(tx, "operator", "deployment.remove", "", name, "")
	})
}

// authenticate returns the deployment that made an assertion. An assertion
// works once: its id is kept until it would have expired.
func (s *Service) authenticate(ctx context.Context, assertion string) (d Deployment, err error) {
	name, ok := decision.Sender(assertion)
	if !ok {
		return d, unknownDeployment()
	}
	err = s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		var found bool
		if d, found, err = get[Deployment](tx, kindDeployment, name); err != nil {
			return err
		}
		if !found || d.Disabled {
			return unknownDeployment()
		}
		id, end, err := decision.CheckAssertion(assertion, d.Name, s.cfg.Issuer, d.Keys, s.cfg.Now())
		if err != nil {
			return err
		}
		switch err := tx.Insert(kindAssertion, d.Name+"/"+id, named{}, records.Options{Ends: end}); {
		case errors.Is(err, records.ErrExists):
			return hpcsera.Errorf(hpcsera.Unauthenticated, "the assertion was used before.").Hint("Make a new one for each request.")
		case err != nil:
			return fmt.Errorf("remember assertion %s: %w", id, err)
		}
		return nil
	})
	return d, err
}

func unknownDeployment() error {
	return hpcsera.Errorf(hpcsera.Unauthenticated, "the request carries no assertion of a deployment that is registered here.").
		Hint("The operator registers one: hpcsera-auth deployment add NAME --url URL --key FILE.")
}
