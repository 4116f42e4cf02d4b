package main

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/callback"
	"github.com/hpcsera/hpcsera/internal/settings"
)

// config is every setting of the server. Its JSON names are the keys of the
// file; in upper case, joined with _ and behind HPCSERAD_, they are the
// environment variables, which win over the file.
type config struct {
	Listen      string       `json:"listen"`       // HOST:PORT
	PublicURL   string       `json:"public_url"`   // "" is the listener's
	BehindProxy bool         `json:"behind_proxy"` // a proxy in front does TLS
	TLS         tlsConfig    `json:"tls"`
	DataDir     string       `json:"data_dir"`
	Database    string       `json:"database"` // "" is DATA_DIR/hpcsera.db
	KeyFile     string       `json:"key_file"` // "" is DATA_DIR/server.key
	AdminSocket string       `json:"admin_socket"`
	Metrics     string       `json:"metrics"` // HOST:PORT, "" is none
	Syslog      string       `json:"syslog"`  // socket for heads of the audit log, "" is /dev/log where there is one, none is none
	Auth        authConfig   `json:"auth"`
	Tokens      tokens       `json:"tokens"`
	Limits      limits       `json:"limits"`
	Log         settings.Log `json:"log"`

	keyGiven    bool // key_file is set, and not by default
	secretGiven bool // the same of auth.secret_file
}

type tlsConfig struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

// tokens is how long clients' tokens live, in days.
type tokens struct {
	Days    int `json:"days"`     // when nobody says
	MaxDays int `json:"max_days"` // at most
}

// longestTokens is the most that a site may allow. What is never renewed is
// never looked at again.
const longestTokens = 366

type limits struct {
	Body  hpcsera.Bytes    `json:"body"`  // of a JSON request
	Grace hpcsera.Duration `json:"grace"` // for requests in flight when the server stops
	// InstitutionCheck is the time between two questions of the Auth app inside
	// whether a person is still at their institution.
	InstitutionCheck hpcsera.Duration `json:"institution_check"`
}

// defaults is what holds where neither file nor environment says otherwise.
func defaults() config {
	return config{
		Listen: "127.0.0.1:8470", DataDir: "data", Auth: authConfig{Name: "hpcsera"},
		Tokens: tokens{Days: 30, MaxDays: 90},
		Limits: limits{Body: 64 << 20, Grace: hpcsera.Duration(30 * time.Second), InstitutionCheck: hpcsera.Duration(30 * time.Minute)},
		Log:    settings.Log{Format: "text", Level: "info"},
	}
}

// loadConfig reads and checks the settings. Relative paths are relative to the
// file's folder.
func (p *program) loadConfig() (config, error) {
	c := defaults()
	source := settings.Source{
		Prefix: "HPCSERAD_", Environ: p.environ, File: p.config, Usual: []string{"hpcserad.yaml", "/etc/hpcsera/hpcserad.yaml"},
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
	abs(&c.KeyFile, "server.key")
	abs(&c.AdminSocket, "admin.sock")
	abs(&c.Auth.KeyFile, "deployment.key")
	c.secretGiven = c.Auth.SecretFile != ""
	abs(&c.Auth.SecretFile, "auth.key")
	for i := range c.Auth.OldSecretFiles {
		if c.Auth.OldSecretFiles[i] != "" {
			abs(&c.Auth.OldSecretFiles[i], "")
		}
	}
	if !settings.Elsewhere(c.Database) {
		c.Database = strings.TrimPrefix(c.Database, "sqlite:")
		abs(&c.Database, "hpcsera.db")
	}
	switch {
	case c.Auth.Database == "" && settings.Elsewhere(c.Database):
		c.Auth.Database = c.Database
	case !settings.Elsewhere(c.Auth.Database):
		c.Auth.Database = strings.TrimPrefix(c.Auth.Database, "sqlite:")
		abs(&c.Auth.Database, "auth.db")
	}
	for _, path := range append(authapp.SecretFiles(&c.Auth.Mail, c.Auth.Institutions), &c.TLS.Certificate, &c.TLS.Key) {
		if *path != "" {
			abs(path, "")
		}
	}
}

// ready refuses a data folder that init did not make. A key file of a place of
// its own says nothing of the folder.
func (c config) ready() error {
	if c.keyGiven {
		return command.Ready("hpcserad", c.DataDir, c.DataDir)
	}
	return command.Ready("hpcserad", c.DataDir, c.KeyFile)
}

func (c *config) check() error {
	for _, database := range []string{c.Database, c.Auth.Database} {
		if err := settings.CheckDatabase(database); err != nil {
			return err
		}
	}
	if err := c.Log.Check(); err != nil {
		return err
	}
	refuse := func(field, format string, args ...any) error {
		return hpcsera.Errorf(hpcsera.InvalidField, format, args...).At(field)
	}
	for _, field := range []struct {
		name, like string
		url        *string
	}{{"public_url", "https://hpc.example.org", &c.PublicURL}, {"auth.url", "https://auth.example.org", &c.Auth.URL}} {
		if *field.url == "" {
			continue
		}
		u, err := url.Parse(*field.url)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return refuse(field.name, "%q is not a URL like %s.", *field.url, field.like)
		}
		*field.url = strings.TrimRight(*field.url, "/")
	}
	if _, err := callback.ParseNetworks(c.Auth.PrivateNetworks); err != nil {
		return refuse("auth.private_networks", "%w", err)
	}
	if err := c.Auth.Mail.Check("auth.mail"); err != nil {
		return err
	}
	if slices.Contains(c.Auth.OldSecretFiles, "") {
		return refuse("auth.old_secret_files", "an entry names no file.")
	}
	switch {
	case c.Auth.URL != "" && c.Auth.Mail.Server != "":
		return refuse("auth.mail", "the Auth app at auth.url sends all mails. Write it there.")
	case c.Auth.URL != "" && len(c.Auth.Institutions) > 0:
		return refuse("auth.institutions", "people sign in at the Auth app at auth.url. Write it there.")
	case (c.TLS.Certificate == "") != (c.TLS.Key == ""):
		return refuse("tls", "certificate and key are needed both.")
	case c.TLS.Certificate != "" && c.BehindProxy:
		return refuse("behind_proxy", "with tls the server needs no proxy to encrypt.")
	case !hpcsera.ValidName(c.Auth.Name):
		return refuse("auth.name", "%q is not a name.", c.Auth.Name)
	case c.Tokens.MaxDays < 1 || c.Tokens.MaxDays > longestTokens:
		return refuse("tokens.max_days", "%d is not a number of days from 1 to %d.", c.Tokens.MaxDays, longestTokens)
	case c.Tokens.Days < 1 || c.Tokens.Days > c.Tokens.MaxDays:
		return refuse("tokens.days", "%d is not a number of days from 1 to tokens.max_days, %d.", c.Tokens.Days, c.Tokens.MaxDays)
	case c.Limits.InstitutionCheck < hpcsera.Duration(time.Second) || c.Limits.InstitutionCheck > hpcsera.Duration(45*time.Minute):
		return refuse("limits.institution_check", "%v is neither a second nor 45 minutes nor between: a leaver is out within the hour.", c.Limits.InstitutionCheck)
	case c.Limits.Body < 64<<10:
		return refuse("limits.body", "%v is too little for a job with a script; 64KiB is the least.", c.Limits.Body)
	}
	return nil
}
