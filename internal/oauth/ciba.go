package oauth

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// cibaAnswer acknowledges a request (CIBA Core section 7.3).
type cibaAnswer struct {
	ID       string `json:"auth_req_id"`
	Expires  int    `json:"expires_in"`
	Interval int    `json:"interval"`
}

// bearer is what a notification token may look like (RFC 6750 section 2.1), and
// maxBearer how long it may be (CIBA Core section 7.1).
var bearer = regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`)

const maxBearer = 1024

// backchannelAuthorization asks a user by name (CIBA Core section 7.1).
func (s *Service) backchannelAuthorization(r *request) (any, error) {
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	if c.public || c.registration.CIBA == "" {
		return nil, bad(unauthorizedClient, "the client is not registered for CIBA")
	}
	life, err := cibaForm(r.form, c.registration.CIBA)
	if err != nil {
		return nil, err
	}
	d, err := s.wanted(r.form)
	if err != nil {
		return nil, err
	}
	if d.Type != tokenDetails {
		return nil, bad(invalidDetails, "the type must be hpcsera")
	}
	g := grant{Flow: cibaFlow, Client: c.name, Request: d.request(c.name, ""), ByScope: d.byScope, Interval: s.cfg.Interval}
	g.Request.User, g.Request.Words = r.form["login_hint"], r.form["binding_message"]
	g.Request.Expires = s.now().Truncate(time.Second).Add(life)
	if c.registration.CIBA == hpcsera.Ping {
		g.Notify = r.form["client_notification_token"]
	}
	if !hpcsera.ValidName(g.Request.User) {
		return nil, bad(unknownUser, "no user of that name can be asked")
	}
	if !decision.ValidWords(g.Request.Words) {
		return nil, bad(invalidWords, "at most 64 printable characters")
	}
	if err := d.valid(g.Request); err != nil {
		return nil, err
	}
	if err := s.mayAsk(r, g); err != nil {
		return nil, err
	}
	if err := s.open(r.Context(), g, "client:"+c.name); err != nil {
		return nil, err
	}
	return cibaAnswer{ID: s.reference(cibaFlow, g.Request.ID), Expires: int(life.Seconds()), Interval: int(s.cfg.Interval.Seconds())}, nil
}

// cibaForm checks the parameters that only CIBA has, and returns how long the
// request is to live.
func cibaForm(f form, mode hpcsera.CIBAMode) (time.Duration, error) {
	life := cibaLife
	if text := f["requested_expiry"]; text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 {
			return 0, bad(invalidRequest, "requested_expiry must be a number of seconds")
		}
		life = min(time.Duration(min(seconds, 1<<20))*time.Second, maxCIBALife)
	}
	switch {
	case !slices.Contains(strings.Fields(f["scope"]), "openid"):
		return 0, bad(invalidScope, "the scope must contain openid")
	case f["request"] != "":
		return 0, bad(invalidRequest, "signed requests are not offered")
	case f["login_hint_token"] != "" || f["id_token_hint"] != "":
		return 0, bad(invalidRequest, "the user is named by login_hint only")
	case f["login_hint"] == "":
		return 0, bad(invalidRequest, "login_hint, the user's name, is missing")
	case mode == hpcsera.Ping && (len(f["client_notification_token"]) > maxBearer || !bearer.MatchString(f["client_notification_token"])):
		return 0, bad(invalidRequest, "ping needs a client_notification_token that can stand in a header")
	case f["dpop_jkt"] != "":
		return 0, bad(invalidRequest, "tokens are not bound to a key: leave dpop_jkt out")
	}
	return life, nil
}

// mayAsk refuses a client that the user did not enable. That a user does not
// exist, is disabled, or did not enable the client is one answer: a client
// learns nothing about people who do not want it.
func (s *Service) mayAsk(r *request, g grant) error {
	var cannot error
	err := s.cfg.Store.Read(r.Context(), func(rd store.Reader) error {
		user, err := rd.User(g.Request.User)
		if err != nil {
			return err
		}
		enabled, err := s.cfg.Access.Enabled(rd, g.Request.User, g.Client)
		if err != nil {
			return err
		}
		if user.Disabled || !enabled {
			return store.ErrNotFound
		}
		cannot = s.cfg.Access.Usable(rd, token(g))
		return nil
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		s.refused(g, "client:"+g.Client, hpcsera.Forbidden, "")
		return bad(unknownUser, "no user of that name can be asked")
	case err != nil:
		return store.Failed("look up user "+g.Request.User, err)
	case cannot != nil:
		s.refused(g, "client:"+g.Client, hpcsera.CodeOf(cannot), "")
		return fault{403, accessDenied, "the user cannot grant that"}
	}
	return nil
}
