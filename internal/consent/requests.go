package consent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// The limits that keep somebody who asks again and again from getting a yes
// out of a tired user, and a deployment from filling the database.
const (
	maxOpen        = 30   // requests of one user
	maxOpenOfOne   = 3    // of one client to one user, other than code
	maxOpenCode    = 10   // of one client to one user, for code
	maxPosts       = 10   // by one client to one user, within postWindow
	maxCodePosts   = 60   // of code, within postWindow
	maxUntyped     = 600  // of one kind by one client for whoever types a code, within postWindow
	maxAll         = 6000 // by one deployment, of all kinds, within postWindow
	postWindow     = 10 * time.Minute
	longestRequest = 7 * 24 * time.Hour
)

// Post takes a deployment's request. Posting the same again is no error.
func (s *Service) Post(ctx context.Context, d Deployment, r decision.Request) error {
	if err := r.Validate(); err != nil {
		return err
	}
	now := s.cfg.Now()
	if !now.Before(r.Expires) || r.Expires.Sub(now) > longestRequest {
		return hpcsera.Errorf(hpcsera.InvalidField, "the request would be open until %s.", r.Expires.UTC().Format(time.RFC3339)).At("expires").
			Hint("Seven days are the longest.")
	}
	if r.Code != nil {
		if err := checkCode(d, r.Code); err != nil {
			return err
		}
	}
	p := pending{Deployment: d.Name, Request: r, Posted: now.UTC(), User: r.User}
	return s.cfg.Store.Write(ctx, func(tx records.Tx) error { return s.post(tx, p) })
}

// checkCode refuses consent for another server, and bytes that are not those
// that the manifest names: what is shown must be what would run.
func checkCode(d Deployment, c *decision.CodeDetails) error {
	if plain, err := approval.Deployment(c.Deployment); err != nil || plain != c.Deployment || plain != d.URL {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the URL under which %s is registered, %s.", c.Deployment, d.Name, d.URL).At("code.deployment")
	}
	if err := checkContents(c.Manifest, c.Contents); err != nil {
		return err.At("code.contents")
	}
	if c.Last != nil {
		if err := checkContents(c.Last.Manifest, c.Last.Contents); err != nil {
			return err.At("code.last.contents")
		}
	}
	return nil
}

func checkContents(m hpcsera.Manifest, contents map[string][]byte) *hpcsera.Error {
	total := 0
	for path, text := range contents {
		total += len(text)
		f, ok := m.File(path)
		if !ok || hpcsera.DigestOf(text) != "sha256:"+f.SHA256 || int64(len(text)) != f.Size {
			return hpcsera.Errorf(hpcsera.DigestMismatch, "the bytes of a file are not those that the manifest names.").At("code.contents")
		}
	}
	if total > decision.MaxContents {
		return hpcsera.Errorf(hpcsera.BodyTooLarge, "the files have more than %d bytes together.", decision.MaxContents).
			Hint("Leave out the longest; the page says which are not shown.")
	}
	return nil
}

func (s *Service) post(tx records.Tx, p pending) error {
	switch old, found, err := get[pending](tx, kindRequest, p.key()); {
	case err != nil:
		return err
	case found:
		if same(old.Request, p.Request) {
			return nil
		}
		return hpcsera.Errorf(hpcsera.Conflict, "another request has this id.").At("id")
	}
	shown, err := p.Shown()
	if err != nil {
		return err
	}
	switch closed, found, err := get[string](tx, kindClosed, p.key()); {
	case err != nil:
		return err
	case found && closed == shown:
		return nil // its answer was lost; it does not open again
	case found:
		return hpcsera.Errorf(hpcsera.Conflict, "another request had this id.").At("id")
	}
	if err := s.admit(tx, p); err != nil {
		return err
	}
	if p.Request.CodeHash != "" {
		switch err := tx.Insert(kindUserCode, p.Request.CodeHash, named{p.key()}, records.Options{Ends: p.Request.Expires}); {
		case errors.Is(err, records.ErrExists):
			return hpcsera.Errorf(hpcsera.Conflict, "another open request has this code.").At("code_hash").Hint("Make a new code.")
		case err != nil:
			return err
		}
	}
	if err := tx.Put(kindRequest, p.key(), p, p.options()); err != nil {
		return fmt.Errorf("keep request %s: %w", p.key(), err)
	}
	return s.note(tx, p.Deployment, "request.post", p.User, p.Request.ID, string(p.Request.Kind)+" for "+p.asker())
}

// same reports whether two requests are one that was sent twice.
func same(a, b decision.Request) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// asker names who asks, for logs and limits.
func (p pending) asker() string {
	if p.Request.Client != "" {
		return p.Request.Client
	}
	return string(p.Request.Kind)
}

func (p pending) muteKey() string { return p.User + "/" + p.Deployment + "/" + p.asker() }

// admit refuses what would bother the user too much. It says so to the
// deployment, which tells its client: there is nothing to gain by trying
// again.
func (s *Service) admit(tx records.Tx, p pending) error {
	if ok, err := s.count(tx, "all/"+p.Deployment, maxAll, postWindow); err != nil || !ok {
		if err == nil {
			err = hpcsera.Errorf(hpcsera.QuotaExceeded, "%s posts too many requests.", p.Deployment).Hint("Try again later.")
		}
		return err
	}
	if p.User == "" {
		// Strangers can ask in a public client's name: that is to stop neither
		// other clients nor our own programs.
		ok, err := s.count(tx, "untyped/"+p.Deployment+"/"+string(p.Request.Kind)+"/"+p.asker(), maxUntyped, postWindow)
		if err == nil && !ok {
			err = hpcsera.Errorf(hpcsera.QuotaExceeded, "%s posts too many requests of %s.", p.Deployment, p.asker()).Hint("Try again later.")
		}
		return err
	}
	if _, muted, err := get[mute](tx, kindMute, p.muteKey()); err != nil || muted {
		if err == nil {
			err = hpcsera.Errorf(hpcsera.Forbidden, "%s does not want to be asked by %s.", p.User, p.asker())
		}
		return err
	}
	open, err := list[pending](tx, kindRequest, p.User)
	if err != nil {
		return err
	}
	ofOne, mostOfOne, posts := 0, maxOpenOfOne, maxPosts
	if p.Request.Kind == decision.Code {
		mostOfOne, posts = maxOpenCode, maxCodePosts
	}
	for _, o := range open {
		if o.Deployment == p.Deployment && o.asker() == p.asker() && (o.Request.Kind == decision.Code) == (p.Request.Kind == decision.Code) {
			ofOne++
		}
	}
	if len(open) >= maxOpen || ofOne >= mostOfOne {
		return hpcsera.Errorf(hpcsera.QuotaExceeded, "%s has open requests of %s.", p.User, p.asker()).Hint("Let the user decide those first.")
	}
	ok, err := s.count(tx, "post/"+string(p.Request.Kind)+"/"+p.muteKey(), posts, postWindow)
	if err == nil && !ok {
		err = hpcsera.Errorf(hpcsera.QuotaExceeded, "%s was asked too often by %s.", p.User, p.asker()).Hint("Try again later.")
	}
	return err
}

// forget takes a request away with its code. Until its end no other can come
// under its id.
func (s *Service) forget(tx records.Tx, p pending) error {
	shown, err := p.Shown()
	if err != nil {
		return err
	}
	if err := tx.Put(kindClosed, p.key(), shown, records.Options{Ends: p.Request.Expires}); err != nil {
		return err
	}
	if err := tx.Delete(kindRequest, p.key()); err != nil {
		return err
	}
	if p.Request.CodeHash == "" {
		return nil
	}
	return tx.Delete(kindUserCode, p.Request.CodeHash)
}

// requestOf returns an open request that user may decide. Others' do not exist.
func (s *Service) requestOf(r records.Reader, user, deployment, id string) (pending, error) {
	p, found, err := get[pending](r, kindRequest, deployment+"/"+id)
	if err != nil {
		return p, err
	}
	if !found || p.User != user {
		return p, notFound("there is no such request, or it is not open any more.").Hint("Look into the list of requests.")
	}
	return p, nil
}

// The limits of typing codes: 34 bits are enough only beside them.
const (
	maxWrongCodes = 5
	codeWindow    = 10 * time.Minute
)

// Type finds the request whose code user typed. The first who types a code is
// the one who decides: nobody else sees the request afterwards.
func (s *Service) Type(ctx context.Context, user, typed string) (key string, err error) {
	hash, formed := decision.HashUserCode(typed)
	wrong := hpcsera.Errorf(hpcsera.InvalidField, "There is no open request with this code.").At("code").
		Hint("Codes look like WDJB-MJHT, hold for some minutes, and have none of A, E, I, O, U, Y.")
	if !formed {
		return "", wrong
	}
	var refusal error
	err = s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		refusal, key = nil, ""
		ok, err := s.underLimit(tx, user)
		if err != nil {
			return err
		}
		if !ok {
			refusal = hpcsera.Errorf(hpcsera.QuotaExceeded, "Too many wrong codes.").At("code").Hint("Wait ten minutes, and type the code from the terminal again.")
			return s.noteRefused(tx, user, "code.type", user, "", "too many wrong codes")
		}
		found, p, err := s.typed(tx, hash)
		if err != nil {
			return err
		}
		if !found || p.User != "" && p.User != user {
			refusal = wrong
			if _, err := s.count(tx, "wrong-code/"+user, maxWrongCodes, codeWindow); err != nil {
				return err
			}
			return s.noteRefused(tx, user, "code.type", user, "", "no such code")
		}
		key, p.User = p.key(), user
		return tx.Put(kindRequest, p.key(), p, p.options())
	})
	if err == nil {
		err = refusal
	}
	return key, err
}

// underLimit reports whether user may type another code.
func (s *Service) underLimit(r records.Reader, user string) (bool, error) {
	c, _, err := get[struct {
		Count int `json:"count"`
	}](r, kindRate, "wrong-code/"+user)
	return c.Count < maxWrongCodes, err
}

func (s *Service) typed(r records.Reader, hash string) (bool, pending, error) {
	at, found, err := get[named](r, kindUserCode, hash)
	if err != nil || !found {
		return false, pending{}, err
	}
	p, found, err := get[pending](r, kindRequest, at.Key)
	return found, p, err
}

// mute says whom a user does not want to be asked by.
type mute struct {
	Deployment string    `json:"deployment"`
	Client     string    `json:"client"`
	Until      time.Time `json:"until"`
}

// writeProblem answers with a problem whose type is set already.
func writeProblem(w http.ResponseWriter, status int, p decision.Problem) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p) // whoever asked is gone if this fails
}
