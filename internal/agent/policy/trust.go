package policy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// Trust is the trust file: whose signature this agent accepts, and what was
// taken back. It is not safe for concurrent use.
type Trust struct {
	Keys      []Key     `json:"keys,omitempty"`
	Withdrawn Withdrawn `json:"withdrawn,omitzero"`
	AuthApp   *AuthApp  `json:"auth_app,omitempty"`
	Imported  []string  `json:"imported,omitempty"` // ids of the trust statements that were followed

	path     string
	read     []byte                // the file as Load found it, nil where there was none
	site     func() (*Site, error) // the site's policy of that moment, of Read alone
	replaced map[string]string     // dead approval to its replacement
}

// Withdrawn are approvals and keys that count no more, whoever signed and
// whoever adds them again.
type Withdrawn struct {
	Approvals []string `json:"approvals,omitempty"` // ids
	Keys      []string `json:"keys,omitempty"`      // fingerprints
}

// AuthApp pins the Auth app whose status lists count. With it, nothing starts
// without a current list.
type AuthApp struct {
	Issuer string `json:"issuer"` // its URL, in the form of approval.Deployment
	Key    string `json:"key"`    // the line of an approval.AuthKey
	// Other is a second key, while the Auth app changes from one to the other: a
	// list signed by either counts.
	Other string `json:"other_key,omitempty"`
}

// Load reads the trust file at path. A file that is not there trusts nobody.
// A file or directory that others can read or that belongs to somebody else
// is refused, since whoever can write there decides what runs.
//
// Errors that come from this host and not from the file's words have the code
// hpcsera.Unavailable: nothing is decided, and a later try can succeed.
func Load(path string) (*Trust, error) { return load(path, nil) }

func load(path string, m *Memory) (*Trust, error) {
	if err := checkOwner(filepath.Dir(path), true); err != nil {
		return nil, err
	}
	text, err := readOwned(path)
	if err != nil {
		return nil, err
	}
	var t Trust
	if text != nil {
		if t, err = remembered(m, "trust", func() (Trust, error) { return parseTrust(path, text) }, []byte(path), text); err != nil {
			return nil, unavailable(err)
		}
	}
	t.path, t.read, t.replaced = path, text, map[string]string{}
	return &t, t.loadReplaced()
}

func parseTrust(path string, text []byte) (Trust, error) {
	var t Trust
	doc, err := strictyaml.Parse(path, text)
	if err == nil {
		err = doc.Decode(&t)
	}
	if err == nil {
		err = doc.Locate(t.validate())
	}
	for i := range t.Keys {
		t.Keys[i].print = t.Keys[i].fingerprint()
	}
	return t, err
}

func (t *Trust) validate() error {
	seen := map[string]bool{}
	for i, k := range t.Keys {
		at := fmt.Sprintf("keys[%d]", i)
		c, err := parseCredential([]byte(k.Key))
		if err != nil {
			return hpcsera.Errorf(hpcsera.InvalidField, "%w", err).At(at + ".key")
		}
		if c.passkey != nil && (k.Plain || c.name != "") {
			return hpcsera.Errorf(hpcsera.InvalidField, "a passkey is never plain, and its name stands beside its line.").At(at)
		}
		for _, id := range []string{c.fingerprint, k.Name} {
			if seen[id] {
				return hpcsera.Errorf(hpcsera.InvalidField, "%q stands there twice.", id).At(at)
			}
			seen[id] = true
		}
		if !validName(k.Name) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot name a key.", k.Name).At(at + ".name").
				Hint("Use 1 to 63 printable characters; not a fingerprint.")
		}
		if k.Runs < 0 {
			return hpcsera.Errorf(hpcsera.InvalidField, "%d is not a number of runs.", k.Runs).At(at + ".runs")
		}
	}
	for i, id := range t.Withdrawn.Approvals {
		if !hpcsera.ValidID("ap", id) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the id of an approval.", id).At(fmt.Sprintf("withdrawn.approvals[%d]", i))
		}
	}
	return t.AuthApp.validate()
}

func (a *AuthApp) validate() error {
	if a == nil {
		return nil
	}
	if form, err := approval.Deployment(a.Issuer); err != nil || form != a.Issuer {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the URL of an Auth app.", a.Issuer).At("auth_app.issuer")
	}
	if _, err := approval.ParseAuthKey(a.Key); err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "%w", err).At("auth_app.key")
	}
	if a.Other == "" {
		return nil
	}
	if _, err := approval.ParseAuthKey(a.Other); err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "%w", err).At("auth_app.other_key")
	}
	if a.Other == a.Key {
		return hpcsera.Errorf(hpcsera.InvalidField, "it is the same key twice.").At("auth_app.other_key")
	}
	return nil
}

// validName refuses names that could be taken for another key, or that a
// terminal would not show as they are.
func validName(s string) bool {
	return s != "" && len(s) <= 63 && s == strings.TrimSpace(s) && !strings.HasPrefix(s, "SHA256:") &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
}

// find returns the entry that name or fingerprint stands for.
func (t *Trust) find(id string) (int, bool) {
	i := slices.IndexFunc(t.Keys, func(k Key) bool { return k.Name == id || k.fingerprint() == id })
	return i, i >= 0
}

const header = "# Whose signature this agent accepts. Change it with hpcsera-agent trust;\n# the server never does.\n"

// Save writes the file in place of the one that Load read: whole, or not at
// all. It refuses when somebody else changed the file meanwhile.
func (t *Trust) Save() error {
	if err := t.validate(); err != nil {
		return err
	}
	text, err := json.Marshal(t)
	if err == nil {
		text, err = strictyaml.Format(text)
	}
	if err != nil {
		return hpcsera.Errorf(hpcsera.Internal, "the trust file cannot be written: %w.", err)
	}
	text = append([]byte(header), text...)
	if err := t.readsBack(text); err != nil {
		return err
	}
	now, err := readOwned(t.path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, t.read) {
		return hpcsera.Errorf(hpcsera.Conflict, "%s was changed meanwhile.", t.path).Hint("Try again.")
	}
	if err := replaceFile(t.path, text); err != nil {
		return unavailable(err)
	}
	t.read = text
	return nil
}

// readsBack checks that the text means t: what a user withdrew must not come
// back because of an escape.
func (t *Trust) readsBack(text []byte) error {
	var again Trust
	doc, err := strictyaml.Parse(t.path, text)
	if err == nil {
		err = doc.Decode(&again)
	}
	if err != nil {
		return hpcsera.Errorf(hpcsera.Internal, "the trust file would not read back: %w", err)
	}
	want, _ := json.Marshal(t)
	if got, _ := json.Marshal(again); !bytes.Equal(got, want) {
		return hpcsera.Errorf(hpcsera.Internal, "the trust file would read back as something else.")
	}
	return nil
}

// replaceFile writes text beside path and renames it into place, durably.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".trust-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	defer f.Close()
	if _, err = f.Write(text); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// checkOwner refuses what others can open, and what is not ours.
func checkOwner(path string, directory bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return unavailable(err)
	}
	if info.IsDir() != directory || !directory && !info.Mode().IsRegular() {
		return hpcsera.Errorf(hpcsera.Unavailable, "%s is neither a plain file nor a directory of ours.", path)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return hpcsera.Errorf(hpcsera.Unavailable, "%s belongs to somebody else.", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return hpcsera.Errorf(hpcsera.Unavailable, "%s can be opened by others (mode %04o).", path, info.Mode().Perm()).
			Hint("Run: chmod go= %s", path)
	}
	return nil
}

// readOwned returns a file's bytes, nil where there is none.
func readOwned(path string) ([]byte, error) {
	err := checkOwner(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unavailable(err)
	}
	return append([]byte{}, text...), nil
}

func unavailable(err error) error {
	return hpcsera.Errorf(hpcsera.Unavailable, "the trust file cannot be used: %w", err)
}

// replacedPath is the agent's own note beside the trust file: which approvals
// died because it saw their replacement. A line is the dead one's id and its
// replacement's.
func (t *Trust) replacedPath() string { return filepath.Join(filepath.Dir(t.path), "trust.replaced") }

func (t *Trust) loadReplaced() error {
	text, err := readOwned(t.replacedPath())
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		// A line cut short by a crash was never acted upon.
		if dead, by, ok := strings.Cut(lines.Text(), " "); ok && hpcsera.ValidID("ap", dead) && hpcsera.ValidID("ap", by) {
			t.replaced[dead] = by
		}
	}
	return lines.Err()
}

// noteReplaced makes durable that an approval is dead, before anything runs
// by its replacement. Lines are appended whole, so that two instances of the
// agent lose none of each other's.
func (t *Trust) noteReplaced(dead, by string) error {
	if _, known := t.replaced[dead]; known {
		return nil
	}
	f, err := os.OpenFile(t.replacedPath(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return unavailable(err)
	}
	defer f.Close()
	// The line feed before closes what a crash may have cut short.
	if _, err := f.WriteString("\n" + dead + " " + by + "\n"); err != nil {
		return unavailable(err)
	}
	if err := f.Sync(); err != nil {
		return unavailable(err)
	}
	if err := syncDirectory(filepath.Dir(t.path)); err != nil {
		return unavailable(err)
	}
	t.replaced[dead] = by
	return nil
}
