package web

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// stateOf says why a token does not work, and how bad that is; "" for one that
// does.
func stateOf(t *hpcsera.Token, now time.Time) (state, kind string) {
	switch {
	case t.Revoked != nil:
		return "revoked", "bad"
	case !now.Before(t.Expires):
		return "ended", ""
	}
	return "", ""
}

// tokenRow is a token in the list.
type tokenRow struct {
	*hpcsera.Token
	Preset      string // the name of its set of roles, or ""
	State, Kind string
	Soon        bool // ends soon
}

// clientTokens are the tokens of one client that work.
type clientTokens struct {
	Client string
	Tokens []tokenRow
}

// tokens lists a user's tokens, those that work by client.
func (s *Site) tokens(v *visit) error {
	user := v.subject()
	all, err := s.cfg.Access.Tokens(v.Context(), v.by, access.Filter{User: user})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *hpcsera.Token) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	data := struct {
		User, Other string
		Working     []clientTokens
		Count       int
		Gone        []tokenRow
	}{User: user, Other: other(v, user)}
	now := s.cfg.Now()
	for _, t := range all {
		row := tokenRow{Token: t, Preset: presetOf(t.Roles), Soon: t.Expires.Sub(now) < tokenSoon}
		if row.State, row.Kind = stateOf(t, now); row.State != "" {
			data.Gone = append(data.Gone, row)
			continue
		}
		data.Count++
		if n := len(data.Working); n == 0 || data.Working[n-1].Client != t.Client {
			data.Working = append(data.Working, clientTokens{Client: t.Client})
		}
		last := &data.Working[len(data.Working)-1]
		last.Tokens = append(last.Tokens, row)
	}
	return s.show(v, "tokens", data)
}

// other returns the user when it is not the visitor.
func other(v *visit, user string) string {
	if user == v.user() {
		return ""
	}
	return user
}

func presetOf(roles hpcsera.Roles) string {
	for name, set := range hpcsera.Presets {
		if set == roles {
			return name
		}
	}
	return ""
}

// preset is a set of roles that people choose by purpose.
type preset struct {
	Name, Purpose string
	Roles         hpcsera.Roles
}

// presets are in the order in which people should think of them: the least
// first.
var presets = []preset{
	{"viewer", "Only look: dashboards, monitoring", hpcsera.Presets["viewer"]},
	{"ci", "Start jobs from code that you approved: a pipeline, a portal", hpcsera.Presets["ci"]},
	{"engine", "The same, and steer jobs: a workflow engine", hpcsera.Presets["engine"]},
	{"ci-code", "Hand in new code, too: a pipeline that builds what it runs", hpcsera.Presets["ci-code"]},
}

// tokenForm is the page to make a token.
type tokenForm struct {
	Projects []*hpcsera.Project
	Clients  []*hpcsera.Client
	Sites    []*hpcsera.Site
	Presets  []preset
	Roles    []hpcsera.Role
	Usual    int
	Most     int
	Is       func(name, value string) bool // whether a field has a value already
	Days     string
}

// newToken is the form, with what the query or an earlier try chose.
func (s *Site) newToken(v *visit) error {
	var f tokenForm
	var err error
	if f.Projects, err = s.ownProjects(v); err != nil {
		return err
	}
	if f.Clients, err = s.cfg.Access.Clients(v.Context(), v.by, access.Filter{}); err != nil {
		return err
	}
	f.Clients = slices.DeleteFunc(f.Clients, func(c *hpcsera.Client) bool { return c.Disabled })
	if f.Sites, err = s.cfg.Access.Sites(v.Context(), v.by, access.Filter{}); err != nil {
		return err
	}
	f.Usual, f.Most = s.cfg.Access.TokenDays()
	f.Presets, f.Roles, f.Days = presets, hpcsera.Roles(255).List(), cmp.Or(v.text("days"), strconv.Itoa(f.Usual))
	f.Is = func(name, value string) bool { return slices.Contains(v.Form[name], value) }
	return s.show(v, "token_new", f)
}

// ownProjects are those whose member the visitor is.
func (s *Site) ownProjects(v *visit) ([]*hpcsera.Project, error) {
	all, err := s.cfg.Access.Projects(v.Context(), v.by, access.Filter{})
	return slices.DeleteFunc(all, func(p *hpcsera.Project) bool { return p.Members[v.user()] == "" }), err
}

// createToken makes a token and shows it: the only time that anybody sees it.
func (s *Site) createToken(v *visit) error {
	days, err := strconv.Atoi(cmp.Or(v.text("days"), "0"))
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is no number of days.", v.text("days")).At("days")
	}
	r := access.NewToken{
		User: v.user(), Project: v.text("project"), Client: v.text("client"), Site: v.text("site"), Scope: hpcsera.Scope(v.text("scope")), Days: days,
		Preset: v.text("for"), Roles: strings.Join(v.Form["roles"], ","),
	}
	switch {
	case r.Preset == "own" && r.Roles == "":
		return hpcsera.Errorf(hpcsera.InvalidField, "you chose the roles one by one, and chose none.").At("roles")
	case r.Preset == "own":
		r.Preset = ""
	case r.Preset == "":
		return hpcsera.Errorf(hpcsera.InvalidField, "say what the token is for.").At("for")
	default:
		// What a purpose needs is its own; the boxes below count for nothing then.
		r.Roles = ""
	}
	made, err := s.cfg.Access.CreateToken(v.Context(), v.by, r)
	if err != nil {
		return err
	}
	return s.show(v, "token_made", struct {
		access.TokenMade
		Preset, Server string
	}{made, presetOf(made.Token.Roles), s.cfg.URL})
}

// revocation is what is about to be revoked: one token, all of a client, all.
type revocation struct {
	User, Other string
	Token       *hpcsera.Token
	Client      string
	Count       int
}

// askRevoke says what revoking will do, and asks whether jobs end as well.
func (s *Site) askRevoke(v *visit) error {
	user := v.subject()
	tokens, err := s.cfg.Access.Tokens(v.Context(), v.by, access.Filter{User: user})
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	data := revocation{User: user, Other: other(v, user), Client: v.text("client")}
	id := v.text("token")
	for _, t := range tokens {
		state, _ := stateOf(t, now)
		if state != "" || id != "" && t.ID != id || data.Client != "" && t.Client != data.Client {
			continue
		}
		data.Count++
		if id != "" {
			data.Token = t
		}
	}
	if data.Count == 0 {
		return s.done(v, "revoked-none", tokensOf(data.Other))
	}
	return s.show(v, "token_revoke", data)
}

func tokensOf(other string) string {
	if other == "" {
		return "/tokens"
	}
	return "/tokens?" + url.Values{"user": {other}}.Encode()
}

func (s *Site) revoke(v *visit) error {
	user, stop := v.subject(), v.text("stop") == "yes"
	var err error
	count := 1
	if id := v.text("token"); id != "" {
		_, err = s.cfg.Access.RevokeToken(v.Context(), v.by, access.Revocation{ID: id, Stop: stop})
	} else {
		count, err = s.cfg.Access.RevokeTokens(v.Context(), v.by, access.Revocations{User: user, Client: v.text("client"), Stop: stop})
	}
	if err != nil {
		return err
	}
	if count == 0 {
		return s.done(v, "revoked-none", tokensOf(other(v, user)))
	}
	return s.done(v, "revoked", tokensOf(other(v, user)))
}
