package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/zalando/go-keyring"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// tokens keeps the tokens of contexts: in the system's keyring where there is
// one, else in a file each that only its owner can read.
type tokens struct {
	dir     string
	keyring bool
}

// keyringService is the name under which tokens stand in the keyring.
const keyringService = "hpcsera"

// Where a context's token is, as its profile says.
const (
	inKeyring = "keyring"
	inFile    = "file"
)

// tokenStore returns where tokens are kept for a user with this environment.
// On a Unix without a session bus (a login node, a CI job) asking for the
// keyring would start one, so it is not asked.
func tokenStore(env map[string]string) (*tokens, error) {
	dir, err := configDir(env)
	if err != nil {
		return nil, err
	}
	desktop := runtime.GOOS == "darwin" || runtime.GOOS == "windows" || env["DBUS_SESSION_BUS_ADDRESS"] != ""
	return &tokens{dir: filepath.Join(dir, "tokens"), keyring: desktop && env["CI"] == ""}, nil
}

// put stores a context's token and says where.
func (t *tokens) put(context string, secret client.Secret) (where string, err error) {
	if t.keyring && keyring.Set(keyringService, context, secret.Reveal()) == nil {
		os.Remove(t.file(context)) // an older copy would outlive the new token
		return inKeyring, nil
	}
	return inFile, writePrivate(t.file(context), []byte(secret.Reveal()+"\n"))
}

// get returns a context's token from where its profile says it is.
func (t *tokens) get(context, where string) (client.Secret, error) {
	switch where {
	case inKeyring:
		text, err := keyring.Get(keyringService, context)
		if err != nil {
			return client.Secret{}, hpcsera.Errorf(hpcsera.Unauthenticated, "the keyring does not give the token of context %s: %v.", context, err).
				Hint("Unlock it, or store the token again: hpcsera context add %s --replace ….", context)
		}
		return client.NewSecret(text), nil
	case inFile:
		return t.read(context)
	}
	return client.Secret{}, nil
}

func (t *tokens) read(context string) (client.Secret, error) {
	path := t.file(context)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return client.Secret{}, hpcsera.Errorf(hpcsera.Unauthenticated, "the token of context %s is gone: %s does not exist.", context, path).
			Hint("Store it again: hpcsera context add %s --replace ….", context)
	}
	if err != nil {
		return client.Secret{}, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return client.Secret{}, hpcsera.Errorf(hpcsera.Unauthenticated, "%s can be read by others, so its token may be known to them.", path).
			Hint("Have the token revoked, or, if you are sure: chmod 600 %s.", path)
	}
	text, err := os.ReadFile(path)
	return client.NewSecret(strings.TrimSpace(string(text))), err
}

// drop removes a context's token wherever it is.
func (t *tokens) drop(context, where string) error {
	if where == inKeyring {
		if err := keyring.Delete(keyringService, context); err != nil && !errors.Is(err, keyring.ErrNotFound) {
			return err
		}
	}
	if err := os.Remove(t.file(context)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (t *tokens) file(context string) string { return filepath.Join(t.dir, context) }
