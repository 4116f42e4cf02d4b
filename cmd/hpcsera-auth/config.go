package main

import (
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/settings"
)

// config is every setting of the Auth app. Its JSON names are the keys of the
// file; in upper case, joined with _ and behind HPCSERA_AUTH_, they are the
// environment variables, which win over the file.
type config struct {
	Listen       string                `json:"listen"`       // HOST:PORT
	PublicURL    string                `json:"public_url"`   // "" is the listener's, as localhost
	BehindProxy  bool                  `json:"behind_proxy"` // a proxy in front does TLS, and says where requests come from
	TLS          tlsConfig             `json:"tls"`
	DataDir      string                `json:"data_dir"`
	Database     string                `json:"database"`      // "" is DATA_DIR/auth.db
	KeyFile      string                `json:"key_file"`      // "" is DATA_DIR/auth.key
	OldKeyFiles  []string              `json:"old_key_files"` // were key_file before; what they sealed is still read
	AdminSocket  string                `json:"admin_socket"`
	Syslog       string                `json:"syslog"`  // socket for heads of the audit log, "" is /dev/log where there is one, none is none
	Product      string                `json:"product"` // the name above every page
	Mail         authapp.Mail          `json:"mail"`
	Institutions []authapp.Institution `json:"institutions"`
	Limits       limits                `json:"limits"`
	Log          settings.Log          `json:"log"`

	keyGiven bool // key_file is set, and not by default
}

type tlsConfig struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

type limits struct {
	Grace            hpcsera.Duration `json:"grace"`             // for requests in flight when the program stops
	InstitutionCheck hpcsera.Duration `json:"institution_check"` // between two questions whether a person is still there
}

// defaults is what holds where neither file nor environment says otherwise.
func defaults() config {
	return config{
		Listen: "127.0.0.1:8471", DataDir: "data", Product: "HPCSerA",
		Limits: limits{Grace: hpcsera.Duration(30 * time.Second), InstitutionCheck: hpcsera.Duration(30 * time.Minute)},
		Log:    settings.Log{Format: "text", Level: "info"},
	}
}

// loadConfig reads and checks the settings. Relative paths are relative to the
// file's folder.
func (p *program) loadConfig() (config, error) {
	c := defaults()
	source := settings.Source{
		Prefix: "HPCSERA_AUTH_", Environ: p.environ, File: p.config,
		Usual: []string{"hpcsera-auth.yaml", "/etc/hpcsera/hpcsera-auth.yaml"},
	}
	dir, err := source.Load(&c)
	if err != nil {
		return c, err
	}
	c.locate(dir)
	return c, c.check()
}

// locate makes paths absolute and fills in those that follow from others.
func (c *config) locate(dir string) {
	abs := func(path *string, name string) {
		switch {
		case *path == "":
			*path = filepath.Join(c.DataDir, name)
		case !filepath.IsAbs(*path):
			*path = filepath.Join(dir, *path)
		}
	}
	c.keyGiven = c.KeyFile != ""
	abs(&c.DataDir, "")
	abs(&c.KeyFile, "auth.key")
	abs(&c.AdminSocket, "admin.sock")
	if !settings.Elsewhere(c.Database) {
		c.Database = strings.TrimPrefix(c.Database, "sqlite:")
		abs(&c.Database, "auth.db")
	}
	for i := range c.OldKeyFiles {
		if c.OldKeyFiles[i] != "" {
			abs(&c.OldKeyFiles[i], "")
		}
	}
	for _, path := range append(authapp.SecretFiles(&c.Mail, c.Institutions), &c.TLS.Certificate, &c.TLS.Key) {
		if *path != "" {
			abs(path, "")
		}
	}
}

func (c *config) check() error {
	refuse := func(field, format string, args ...any) *hpcsera.Error {
		return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(field)
	}
	if err := settings.CheckDatabase(c.Database); err != nil {
		return err
	}
	if c.PublicURL != "" {
		u, err := url.Parse(c.PublicURL)
		switch {
		case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return refuse("public_url", "%q is not a URL like https://auth.example.org.", c.PublicURL)
		case net.ParseIP(u.Hostname()) != nil:
			return refuse("public_url", "%q names an address, and passkeys are bound to a name.", c.PublicURL).Hint("For a trial write http://localhost:PORT.")
		case u.Scheme == "http" && u.Hostname() != "localhost":
			return refuse("public_url", "%q would send passwords without TLS, and browsers allow no passkeys there.", c.PublicURL).Hint("Write https://…")
		}
		c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	}
	switch {
	case slices.Contains(c.OldKeyFiles, ""):
		return refuse("old_key_files", "an entry names no file.")
	case (c.TLS.Certificate == "") != (c.TLS.Key == ""):
		return refuse("tls", "certificate and key are needed both.")
	case c.TLS.Certificate != "" && c.BehindProxy:
		return refuse("behind_proxy", "with tls the program needs no proxy to encrypt.")
	}
	if err := c.Mail.Check("mail"); err != nil {
		return err
	}
	return c.Log.Check()
}
