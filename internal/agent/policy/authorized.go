package policy

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
)

// AddAuthorized goes through an authorized_keys file and trusts what the user
// says yes to, key by key. Who may log in is not thereby who may sign code, so
// nothing is taken without a yes, and never a line with options: they would
// restrict the login and not the code. It says what it left out and why.
func (c Commands) AddAuthorized(file string) error {
	if !c.Terminal {
		return hpcsera.Errorf(hpcsera.InvalidField, "keys are taken over one by one, by somebody at a terminal.").
			Hint("Add each with hpcsera-agent trust add FILE.pub --fingerprint SHA256:….")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "the keys cannot be read: %w.", err).At("key")
	}
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	in, added := c.input(), 0
	lines := bufio.NewScanner(bytes.NewReader(text))
	for number := 1; lines.Scan(); number++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		entry, left := t.fromAuthorized(line)
		if left == nil {
			left = c.ask(entry, in)
		}
		if left != nil {
			fmt.Fprintf(c.Out, "Left out line %d: %v\n", number, left)
			continue
		}
		t.Keys = append(t.Keys, entry)
		added++
	}
	if err := lines.Err(); err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "the keys cannot be read: %w.", err).At("key")
	}
	if added > 0 {
		if err := t.Save(); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.Out, "Added %d of the keys in %s.\n", added, file)
	return nil
}

// fromAuthorized makes an entry of a line, or says why none can be made.
func (t *Trust) fromAuthorized(line []byte) (Key, error) {
	public, err := parsePublic(line)
	if err != nil {
		return Key{}, err
	}
	_, comment, _, _, _ := ssh.ParseAuthorizedKey(line)
	key := credential{ssh: public, fingerprint: ssh.FingerprintSHA256(public), name: strings.TrimSpace(comment)}
	k := Key{Key: key.line(), Name: key.name, Plain: !key.proves()}
	if _, taken := t.find(k.Name); taken || !validName(k.Name) {
		k.Name = "key " + key.fingerprint[len(key.fingerprint)-confirmed:]
	}
	return k, t.mayAdd(key, AddOptions{Name: k.Name, Plain: k.Plain})
}

// ask wants a yes, spelled out.
func (c Commands) ask(k Key, in *bufio.Reader) error {
	warning := ""
	if k.Plain {
		warning = "It is a plain key: whoever copies its file can then run code as you.\n"
	}
	fmt.Fprintf(c.Out, "%s %s\n%sMay code that it signs run here? Type yes, or press Return: ", k.Name, k.fingerprint(), warning)
	answer, err := in.ReadString('\n')
	if strings.TrimSpace(answer) == "yes" {
		return nil
	}
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "nobody answered.")
	}
	return hpcsera.Errorf(hpcsera.InvalidField, "you did not say yes.")
}
