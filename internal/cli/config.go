package cli

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"github.com/hpcsera/hpcsera"
)

// config is the contexts file, ~/.config/hpcsera/config.yaml: the servers a
// user works with. It holds no token.
type config struct {
	Current  string             `yaml:"current,omitempty" json:"current,omitempty"`
	Contexts map[string]profile `yaml:"contexts,omitempty" json:"contexts"`

	path string
}

// profile is one context: a server and what the user knows of it without
// asking it.
type profile struct {
	Server string `yaml:"server" json:"server"`
	// Deployment is the URL by which agents know the server, where this machine
	// reaches it by another one (a tunnel). Statements name it.
	Deployment string `yaml:"deployment,omitempty" json:"deployment,omitempty"`
	User       string `yaml:"user,omitempty" json:"user,omitempty"`
	Project    string `yaml:"project,omitempty" json:"project,omitempty"`
	Site       string `yaml:"site,omitempty" json:"site,omitempty"`
	// Agents are the thumbprints of the user's own agents, as
	// hpcsera-agent status prints them on the site.
	Agents    []string `yaml:"agents,omitempty" json:"agents,omitempty"`
	SignKey   string   `yaml:"sign_key,omitempty" json:"sign_key,omitempty"`
	CA        string   `yaml:"ca,omitempty" json:"ca,omitempty"`
	AllowHTTP bool     `yaml:"allow_http,omitempty" json:"allow_http,omitempty"`
	// Token says where the token is: keyring, file, or nowhere.
	Token string `yaml:"token,omitempty" json:"token,omitempty"`
	// Session says the same of the session of hpcsera login.
	Session string `yaml:"session,omitempty" json:"session,omitempty"`
}

// configDir returns where the client keeps its files, following XDG.
func configDir(env map[string]string) (string, error) {
	if dir := env["XDG_CONFIG_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "hpcsera"), nil
	}
	if home := env["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".config", "hpcsera"), nil
	}
	return "", noHome()
}

// loadConfig reads the contexts file; one that does not exist is empty.
func loadConfig(env map[string]string) (*config, error) {
	c := &config{Contexts: map[string]profile{}}
	dir, err := configDir(env)
	if err != nil {
		return c, nil //nolint:nilerr // in a container without HOME the environment alone is enough
	}
	c.path = filepath.Join(dir, "config.yaml")
	text, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(c); err != nil && len(bytes.TrimSpace(text)) > 0 {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%s cannot be read: %s", c.path, yaml.FormatError(err, false, false)).
			Hint("Mend it, or remove it and add the contexts again.")
	}
	if c.Contexts == nil {
		c.Contexts = map[string]profile{}
	}
	return c, nil
}

// save writes the file whole, readable by its owner alone.
func (c *config) save() error {
	if c.path == "" {
		return noHome()
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return writePrivate(c.path, text)
}

// writePrivate replaces a file in one step; nobody but its owner can read it
// at any moment.
func writePrivate(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func noHome() error {
	return hpcsera.Errorf(hpcsera.InvalidField, "neither XDG_CONFIG_HOME nor HOME names a directory, so there is no place for contexts.").
		Hint("Set HPCSERA_SERVER and HPCSERA_TOKEN instead.")
}
