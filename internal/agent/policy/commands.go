package policy

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// Commands are those of hpcsera-agent trust. Each reads the trust file,
// changes it, writes it back, and says in one or two lines what holds now. A
// running agent sees the change with its next job.
type Commands struct {
	Path string    // the trust file; its directory exists
	In   io.Reader // answers, and keys given as "-"; nil where nobody can be asked
	Out  io.Writer
	// Terminal says that somebody sits at In. What is asked key by key is asked
	// nobody else.
	Terminal bool
}

// AddOptions say what a key is trusted for.
type AddOptions struct {
	File        string // a file with a public SSH key or a passkey's line, or "-" for the input's first line
	Name        string // default: the key's comment, or the file's name
	Fingerprint string // SHA256:…; asked for where it is empty
	Plain       bool
	Projects    []string
	Limits      *Caps
	NotAfter    *time.Time
	Runs        int
}

// confirmed is how many of the fingerprint's last characters are typed: 72
// bits, so that nobody makes a second key that ends alike.
const confirmed = 12

// Add trusts a key, after the user has shown by its fingerprint that it is the
// one meant: whoever could swap the file cannot swap what the user sees
// elsewhere.
func (c Commands) Add(o AddOptions) error {
	in := c.input()
	line, err := c.keyText(o.File, in)
	if err != nil {
		return err
	}
	key, err := parseCredential(line)
	if err != nil {
		return err
	}
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	if o.Name = nameFor(key, o); !validName(o.Name) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot name a key.", o.Name).At("name").Hint("Use 1 to 63 printable characters; not a fingerprint.")
	}
	if err := t.mayAdd(key, o); err != nil {
		return err
	}
	if err := c.confirm(key.what(), key.fingerprint, key.source(), o.Fingerprint, in); err != nil {
		return err
	}
	entry := Key{
		Key: key.line(), Name: o.Name,
		Plain: o.Plain, Projects: o.Projects, Limits: o.Limits, NotAfter: o.NotAfter, Runs: o.Runs,
	}
	t.Keys = append(t.Keys, entry)
	if err := t.Save(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Added %s %s.\nCode that it signs may run here, %s.\n", entry.Name, key.fingerprint, entry.scope())
	return nil
}

func (c Commands) input() *bufio.Reader {
	if c.In == nil {
		return bufio.NewReader(strings.NewReader(""))
	}
	return bufio.NewReader(c.In)
}

// what names the credential's kind for people.
func (c credential) what() string {
	if c.passkey != nil {
		return "passkey of " + c.passkey.Origin
	}
	return c.ssh.Type()
}

// source says where its user finds the true fingerprint.
func (c credential) source() string {
	if c.passkey != nil {
		return "the Auth app shows them beside the passkey"
	}
	return "ssh-keygen -lf shows them where the key was made"
}

func (c Commands) keyText(file string, in *bufio.Reader) ([]byte, error) {
	if file == "-" {
		line, err := in.ReadBytes('\n')
		if err != nil && len(line) == 0 {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "no key was given: %w.", err).At("key")
		}
		return line, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the key cannot be read: %w.", err).At("key")
	}
	if strings.Contains(string(text), "PRIVATE KEY-----") {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%s is a private key, which stays where it was made.", file).At("key").
			Hint("Add its public half: %s.pub", file)
	}
	return text, nil
}

// mayAdd refuses before anything is asked.
func (t *Trust) mayAdd(key credential, o AddOptions) error {
	if i, known := t.find(key.fingerprint); known {
		return hpcsera.Errorf(hpcsera.Conflict, "this key is trusted already, as %q.", t.Keys[i].Name).
			Hint("To change it: hpcsera-agent trust remove %s, and add it again.", key.fingerprint)
	}
	if _, known := t.find(o.Name); known {
		return hpcsera.Errorf(hpcsera.Conflict, "another key is called %q.", o.Name).At("name").Hint("Give this one a name of its own: --name NAME.")
	}
	if slices.Contains(t.Withdrawn.Keys, key.fingerprint) {
		return hpcsera.Errorf(hpcsera.Conflict, "this key was withdrawn: %s.", key.fingerprint).
			Hint("If that was a mistake, remove it from withdrawn in %s.", t.path)
	}
	if o.Plain && key.passkey != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "a passkey proves that its user was there, so it is never plain.").At("plain").Hint("Leave out --plain.")
	}
	if !o.Plain && !key.proves() {
		return hpcsera.Errorf(hpcsera.InvalidField, "this is a plain key: whoever copies its file can sign code that runs with your rights.").At("plain").
			Hint("Better use a security key (ssh-keygen -t ed25519-sk -O verify-required). To accept a plain one all the same, add --plain.")
	}
	return nil
}

// confirm compares the fingerprint with the one given, or asks for its end.
// The end is not shown before: it must come from where the key is.
func (c Commands) confirm(what, fingerprint, source, given string, in *bufio.Reader) error {
	wrong := hpcsera.Errorf(hpcsera.InvalidField, "this is not the fingerprint of this key; nothing was added.").At("fingerprint").
		Hint("Compare: %s.", source)
	if given != "" {
		if given != fingerprint {
			return wrong
		}
		return nil
	}
	fmt.Fprintf(c.Out, "The key is a %s; its fingerprint begins with %s.\n"+
		"Type the last %d characters as %s: ", what, fingerprint[:14], confirmed, source)
	answer, err := in.ReadString('\n')
	if err != nil && answer == "" {
		return hpcsera.Errorf(hpcsera.InvalidField, "nobody answered; nothing was added: %w.", err).At("fingerprint").
			Hint("Without a terminal give --fingerprint SHA256:….")
	}
	answer = strings.TrimSpace(answer)
	if answer != fingerprint && answer != fingerprint[len(fingerprint)-confirmed:] {
		return wrong
	}
	return nil
}

// nameFor returns the entry's name: as given, else the line's own, else the
// file's name.
func nameFor(key credential, o AddOptions) string {
	file := strings.TrimSuffix(filepath.Base(o.File), ".pub")
	for _, name := range []string{o.Name, key.name, file} {
		if o.Name != "" || validName(name) && name != "-" {
			return name
		}
	}
	return "key"
}

// scope says in words what an entry restricts.
func (k Key) scope() string {
	words := []string{"for every project"}
	if len(k.Projects) > 0 {
		words[0] = "for project " + strings.Join(k.Projects, ", ")
	}
	if k.Limits != nil {
		words = append(words, k.Limits.words()...)
	}
	if k.Runs > 0 {
		words = append(words, fmt.Sprintf("at most %d times per approval", k.Runs))
	}
	if k.NotAfter != nil {
		words = append(words, "until "+k.NotAfter.UTC().Format(time.RFC3339))
	}
	return strings.Join(words, ", ")
}

// words say what each cap leaves.
func (c Caps) words() (words []string) {
	if c.NodeCount > 0 {
		words = append(words, fmt.Sprintf("at most %d nodes", c.NodeCount))
	}
	if c.Duration > 0 {
		words = append(words, "at most "+c.Duration.String())
	}
	if c.Memory > 0 {
		words = append(words, "at most "+c.Memory.String()+" of memory")
	}
	for _, list := range []struct {
		what  string
		names []string
	}{{"queue", c.QueueNames}, {"account", c.Accounts}, {"reservation", c.ReservationIDs}} {
		if list.names != nil {
			words = append(words, "only "+list.what+" "+strings.Join(list.names, ", "))
		}
	}
	if c.Requeue != nil && !*c.Requeue {
		words = append(words, "no requeue")
	}
	return words
}

// List shows what is trusted and what was withdrawn.
func (c Commands) List() error {
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	if len(t.Keys) == 0 {
		fmt.Fprintln(c.Out, "No key is trusted, so nothing runs here. Add one: hpcsera-agent trust add FILE.pub")
	} else {
		w := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tFINGERPRINT\tKIND\tACCEPTED")
		for _, k := range t.Keys {
			kind := "security key"
			switch {
			case k.Plain:
				kind = "plain"
			case approval.IsPasskeyEntry(k.Key):
				kind = "passkey"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", k.Name, k.fingerprint(), kind, k.scope())
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if t.AuthApp != nil {
		for _, line := range t.AuthApp.keys() {
			fmt.Fprintf(c.Out, "pinned: %s %s; nothing starts without its current status list\n", t.AuthApp.Issuer, fingerprintOf(line))
		}
	}
	for _, id := range slices.Concat(t.Withdrawn.Approvals, t.Withdrawn.Keys) {
		fmt.Fprintf(c.Out, "withdrawn: %s\n", id)
	}
	return nil
}

// Remove takes a key out of the trust file, by name or fingerprint. It can be
// added again; what must never count again is withdrawn.
func (c Commands) Remove(id string) error {
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	i, ok := t.find(id)
	if !ok {
		return hpcsera.Errorf(hpcsera.NotFound, "no key is called %q here.", id).Hint("See hpcsera-agent trust list.")
	}
	removed := t.Keys[i]
	t.Keys = slices.Delete(t.Keys, i, i+1)
	if err := t.Save(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Removed %s %s. What it signed starts here no more; running jobs go on.\n", removed.Name, removed.fingerprint())
	return nil
}

// Withdraw ends an approval (its id), or a key (name or fingerprint) with all
// that it ever signed. It needs no server and may be repeated.
func (c Commands) Withdraw(id string) error {
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	what := "approval " + id
	list := &t.Withdrawn.Approvals
	if !hpcsera.ValidID("ap", id) {
		list = &t.Withdrawn.Keys
		if i, known := t.find(id); known {
			id = t.Keys[i].fingerprint()
			t.Keys = slices.Delete(t.Keys, i, i+1)
		} else if !approval.ValidFingerprint(id) {
			return hpcsera.Errorf(hpcsera.NotFound, "%q is neither an approval's id (ap_…) nor a key.", id).Hint("See hpcsera-agent trust list.")
		}
		what = "key " + id
	}
	if !slices.Contains(*list, id) {
		*list = append(*list, id)
	}
	if err := t.Save(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Withdrew %s on this site. Nothing starts by it any more; running jobs go on (cancel them with hpcsera cancel).\n", what)
	return nil
}
