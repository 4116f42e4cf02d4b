package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// Pin makes the status lists of an Auth app count: from now on nothing starts
// without a current one. file holds the line of the Auth app's key, as its page
// shows it ("-" is the input's first line); the fingerprint is typed, as for
// keys that sign. A second key of the same Auth app is added, so that it can
// change its key without a gap; a third waits until one is unpinned. Another Auth
// app replaces the one before. The number of the last list stays.
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
	pin := AuthApp{Issuer: form, Key: key.String()}
	if t.AuthApp != nil && t.AuthApp.Issuer == form {
		if pin, err = t.AuthApp.with(key); err != nil {
			return err
		}
	}
	if err := c.confirm("key of an Auth app", key.Fingerprint(), "the page of "+form+" shows them", fingerprint, in); err != nil {
		return err
	}
	t.AuthApp = &pin
	if err := t.Save(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Pinned %s %s.\nNothing starts here without its current status list, and nothing that the list withdraws.\n", form, key.Fingerprint())
	if pin.Other != "" {
		fmt.Fprintf(c.Out, "Lists by either of its two keys count. When the Auth app has changed: hpcsera-agent trust unpin %s\n", fingerprintOf(pin.Key))
	}
	return nil
}

// with adds a second key, the newest last.
func (a AuthApp) with(key approval.AuthKey) (AuthApp, error) {
	switch {
	case slices.Contains(a.keys(), key.String()):
		return a, hpcsera.Errorf(hpcsera.Conflict, "%s is pinned already.", key.Fingerprint())
	case a.Other != "":
		return a, hpcsera.Errorf(hpcsera.Conflict, "two keys of %s are pinned already.", a.Issuer).
			Hint("Unpin the one that it uses no more: hpcsera-agent trust unpin %s", fingerprintOf(a.Key))
	}
	a.Other = key.String()
	return a, nil
}

// fingerprintOf returns the fingerprint of a pinned line, which was checked.
func fingerprintOf(line string) string {
	key, err := approval.ParseAuthKey(line)
	if err != nil {
		return ""
	}
	return key.Fingerprint()
}

// Unpin takes back the pinned key with a fingerprint, or all for "". Without any
// jobs start without a status list again.
func (c Commands) Unpin(fingerprint string) error {
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	if t.AuthApp == nil {
		return hpcsera.Errorf(hpcsera.NotFound, "no Auth app is pinned here.")
	}
	was := *t.AuthApp
	left := slices.DeleteFunc(was.keys(), func(line string) bool { return fingerprint == "" || fingerprintOf(line) == fingerprint })
	switch {
	case len(left) == len(was.keys()):
		return hpcsera.Errorf(hpcsera.NotFound, "no key %s of %s is pinned here.", fingerprint, was.Issuer).Hint("See hpcsera-agent trust list.")
	case len(left) == 1:
		t.AuthApp = &AuthApp{Issuer: was.Issuer, Key: left[0]}
	default:
		t.AuthApp = nil
	}
	if err := t.Save(); err != nil {
		return err
	}
	if t.AuthApp != nil {
		fmt.Fprintf(c.Out, "Unpinned %s. Status lists of %s count by its key %s alone.\n", fingerprint, was.Issuer, fingerprintOf(left[0]))
		return nil
	}
	fmt.Fprintf(c.Out, "Unpinned %s. What is withdrawn there counts here no more; only hpcsera-agent trust withdraw does.\n", was.Issuer)
	return nil
}
