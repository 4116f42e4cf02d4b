package sqlstore

import (
	"maps"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// Token returns a token and the SHA-256 of its secret.
func (r *reader) Token(id string) (*hpcsera.Token, []byte, error) {
	row, err := r.q.Token(r.ctx, id)
	if err != nil {
		return nil, nil, r.failed(err, "token %s", id)
	}
	t := tokenOf(row)
	return &t, row.Hash, nil
}

func tokenOf(row gen.Token) hpcsera.Token {
	return hpcsera.Token{
		ID: row.ID, User: row.User, Project: row.Project, Client: row.Client, Site: row.Site,
		Scope: hpcsera.Scope(row.Scope), Roles: hpcsera.Roles(row.Roles),
		Created: moment(row.Created), NotBefore: moment(row.NotBefore), Expires: moment(row.Expires), Revoked: momentOrNil(row.Revoked), Used: momentOrNil(row.Used),
	}
}

// Tokens returns a user's tokens, or everybody's for "", newest first.
func (r *reader) Tokens(user string) ([]*hpcsera.Token, error) {
	rows, err := r.q.Tokens(r.ctx, user)
	if err != nil {
		return nil, r.failed(err, "tokens of %s", user)
	}
	list := make([]*hpcsera.Token, len(rows))
	for i, row := range rows {
		t := tokenOf(row)
		list[i] = &t
	}
	return list, nil
}

// Principal returns a token with the state of everything it hangs on. A user
// or client that does not exist counts as disabled.
func (r *reader) Principal(token string) (*store.Principal, error) {
	row, err := r.q.Principal(r.ctx, token)
	if err != nil {
		return nil, r.failed(err, "token %s", token)
	}
	return &store.Principal{
		Token: tokenOf(row.Token), Hash: row.Token.Hash, UserDisabled: row.UserDisabled, ClientDisabled: row.ClientDisabled,
		Member: hpcsera.MemberRole(row.Member),
	}, nil
}

// InsertToken files a token.
func (t *tx) InsertToken(token hpcsera.Token, hash []byte) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	var revoked int64
	if token.Revoked != nil {
		revoked = micros(*token.Revoked)
	}
	n, err := t.q.InsertToken(t.ctx, gen.InsertTokenParams{
		ID: token.ID, User: token.User, Project: token.Project, Client: token.Client, Site: token.Site,
		Scope: string(token.Scope), Roles: int64(token.Roles),
		Created: micros(token.Created), NotBefore: micros(token.NotBefore), Expires: micros(token.Expires), Revoked: revoked, Hash: nonNil(hash),
	})
	return t.inserted(n, err, "token", token.ID)
}

// RevokeToken ends a token; the time of its first revocation stays.
func (t *tx) RevokeToken(id string, at time.Time) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.RevokeToken(t.ctx, gen.RevokeTokenParams{Revoked: micros(at), ID: id})
	return t.changed(n, err, "revoke token %s", id)
}

// UsedTokens stores when tokens were last used.
func (t *tx) UsedTokens(seen map[string]time.Time) error {
	if err := t.touch(); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if err := t.q.UsedToken(t.ctx, gen.UsedTokenParams{Used: micros(seen[id]), ID: id}); err != nil {
			return t.failed(err, "used token %s", id)
		}
	}
	return nil
}
