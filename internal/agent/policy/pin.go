package policy

import (
	"fmt"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// Pin makes the status lists of an Auth app count: from now on nothing starts
// without a current one. file holds the line of the Auth app's key, as its page
// shows it ("-" is the input's first line); the fingerprint is typed, as for
// keys that sign. Pinning again replaces the key; the number of the last list
// stays.
func (c Commands) Pin(issuer, file, fingerprint string) error {
	in := c.input()
	form, err := approval.Deployment(issuer)
	if err != nil {
		return err
	}
	line, err := c.keyText(file, in)
	if err != nil {
		return err
	}
	key, err := approval.ParseAuthKey(strings.TrimSpace(string(line)))
	if err != nil {
		return err
	}
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	if err := c.confirm("key of an Auth app", key.Fingerprint(), "the page of "+form+" shows them", fingerprint, in); err != nil {
		return err
	}
	t.AuthApp = &AuthApp{Issuer: form, Key: key.String()}
	if err := t.Save(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Pinned %s %s.\nNothing starts here without its current status list, and nothing that the list withdraws.\n", form, key.Fingerprint())
	return nil
}

// Unpin lets jobs start without a status list again.
func (c Commands) Unpin() error {
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	if t.AuthApp == nil {
		return hpcsera.Errorf(hpcsera.NotFound, "no Auth app is pinned here.")
	}
	issuer := t.AuthApp.Issuer
	t.AuthApp = nil
	if err := t.Save(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Unpinned %s. What is withdrawn there counts here no more; only hpcsera-agent trust withdraw does.\n", issuer)
	return nil
}
