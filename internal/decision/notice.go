package decision

import (
	"context"
	"net/http"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Notice is the body of POST /api/notices: a mail to a user in a deployment's
// words. The Auth app knows the address, and tells nobody.
type Notice struct {
	User    string `json:"user"`
	Subject string `json:"subject"`
	Text    string `json:"text"` // lines
}

// What a notice can be long, in characters.
const (
	MaxSubject = 120
	MaxNotice  = 4000
)

// Validate checks what can be checked of a notice alone; both sides do.
func (n Notice) Validate() error {
	for _, c := range []struct {
		field, value string
		ok           bool
	}{
		{"user", n.User, hpcsera.ValidName(n.User)},
		{"subject", n.Subject, n.Subject != "" && printable(n.Subject, MaxSubject)},
		{"text", n.Text, strings.TrimSpace(n.Text) != "" && printable(strings.ReplaceAll(n.Text, "\n", " "), MaxNotice)},
	} {
		if !c.ok {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot stand here.", brief(c.value)).At(c.field)
		}
	}
	return nil
}

// Mail has the Auth app send a mail to a user. An error says that it was not
// sent, or that nobody knows; trying again may then send a second one.
func (c *Client) Mail(ctx context.Context, user, subject, text string) error {
	n := Notice{user, subject, text}
	if err := n.Validate(); err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, "/api/notices", n, nil)
}
