package agent

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// credentialsFile is the user's own, in the state folder. It is read when a job
// needs it, so that a change counts at once; nothing of it is ever sent to the
// server, written down or logged.
const credentialsFile = "credentials.yaml"

// credential is what one host may be told about who the user is.
type credential struct {
	Host     string `json:"host"` // with its port, where it has one
	Username string `json:"username"`
	Password string `json:"password"` // or a token
}

// credential returns the credential of a name for a host. One that is bound to
// another host is refused: signed code chooses the name, and must not carry what
// it stands for elsewhere.
func (a *Agent) credential(field, name, host string) (credential, error) {
	file := filepath.Join(a.config.StateDir, credentialsFile)
	refuse := func(format string, args ...any) (credential, error) {
		return credential{}, hpcsera.Errorf(hpcsera.NotSupportedBySite, format, args...).At(field).
			Hint("Write it into %s, readable by you alone: %s: {host: %s, username: NAME, password: SECRET}", file, name, host)
	}
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse("this agent has no credential %s.", name)
	}
	if err != nil {
		return credential{}, local(err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return refuse("%s can be read by others (mode %04o).", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return credential{}, local(err)
	}
	var all map[string]credential
	doc, err := strictyaml.Parse(file, text)
	if err == nil {
		err = doc.Decode(&all)
	}
	if err != nil {
		return credential{}, unreadable(field, file, err)
	}
	c, ok := all[name]
	switch {
	case !ok:
		return refuse("this agent has no credential %s; it has %s.", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	case c.Host != host:
		return refuse("the credential %s is for %s, not for %s.", name, c.Host, host)
	case c.Username == "" || c.Password == "":
		return refuse("the credential %s lacks username or password.", name)
	}
	return c, nil
}

// unreadable tells where a file of secrets is wrong, and nothing of what stands
// there: the error's own words may quote it.
func unreadable(field, file string, err error) error {
	var e *hpcsera.Error
	if errors.As(err, &e) {
		line, _, _ := strings.Cut(strings.TrimPrefix(e.Field, file), " ") // behind it is a key, which may be a secret
		file += line
	}
	return hpcsera.Errorf(hpcsera.NotSupportedBySite, "%s cannot be read.", file).At(field).
		Hint("Write one line for each: NAME: {host: HOST, username: NAME, password: SECRET}")
}
