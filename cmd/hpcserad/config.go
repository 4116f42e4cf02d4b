package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/callback"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// config is every setting of the server. Its JSON names are the keys of the
// file; in upper case, joined with _ and behind HPCSERAD_, they are the
// environment variables, which win over the file.
type config struct {
	Listen      string     `json:"listen"`       // HOST:PORT
	PublicURL   string     `json:"public_url"`   // "" is the listener's
	BehindProxy bool       `json:"behind_proxy"` // a proxy in front does TLS
	TLS         tlsConfig  `json:"tls"`
	DataDir     string     `json:"data_dir"`
	Database    string     `json:"database"` // "" is DATA_DIR/hpcsera.db
	KeyFile     string     `json:"key_file"` // "" is DATA_DIR/server.key
	AdminSocket string     `json:"admin_socket"`
	Metrics     string     `json:"metrics"` // HOST:PORT, "" is none
	Syslog      string     `json:"syslog"`  // socket for heads of the audit log, "" is /dev/log where there is one, none is none
	Auth        authConfig `json:"auth"`
	Limits      limits     `json:"limits"`
	Log         logConfig  `json:"log"`

	keyGiven bool // key_file is set, and not by default
}

type tlsConfig struct {
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
}

type limits struct {
	Body  hpcsera.Bytes    `json:"body"`  // of a JSON request
	Grace hpcsera.Duration `json:"grace"` // for requests in flight when the server stops
}

type logConfig struct {
	Format string `json:"format"` // text or json
	Level  string `json:"level"`  // debug, info, warn or error
}

// defaults is what holds where neither file nor environment says otherwise.
func defaults() config {
	return config{
		Listen: "127.0.0.1:8470", DataDir: "data", Auth: authConfig{Name: "hpcsera"},
		Limits: limits{Body: 64 << 20, Grace: hpcsera.Duration(30 * time.Second)},
		Log:    logConfig{Format: "text", Level: "info"},
	}
}

const envPrefix = "HPCSERAD_"

// loadConfig reads the file that --config, HPCSERAD_CONFIG or the usual places
// name, then the environment, and checks the result. Relative paths are
// relative to the file's folder.
func (p *program) loadConfig() (config, error) {
	c := defaults()
	path, err := p.configPath()
	if err != nil {
		return c, err
	}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("read the configuration: %w", err)
		}
		doc, err := strictyaml.Parse(path, text)
		if err != nil {
			return c, err
		}
		if err := doc.Decode(&c); err != nil {
			return c, err
		}
	}
	if err := p.readEnvironment(&c); err != nil {
		return c, err
	}
	c.locate(filepath.Dir(path))
	return c, c.check()
}

func (p *program) configPath() (string, error) {
	if p.config != "" {
		return p.config, nil
	}
	if path, ok := p.getenv(envPrefix + "CONFIG"); ok {
		return path, nil
	}
	for _, path := range []string{"hpcserad.yaml", "/etc/hpcsera/hpcserad.yaml"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	for _, entry := range p.environ {
		if strings.HasPrefix(entry, envPrefix) {
			return "", nil // the environment alone can configure a container
		}
	}
	return "", errors.New("there is no configuration. Make one with: hpcserad init FOLDER")
}

// leaf is one setting with its path.
type leaf struct {
	path  []string
	value reflect.Value
}

func (l leaf) variable() string { return envPrefix + strings.ToUpper(strings.Join(l.path, "_")) }

// leaves lists the settings of a struct.
func leaves(v reflect.Value, at []string) []leaf {
	var list []leaf
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("json")
		if name == "" {
			continue
		}
		path := append(append([]string{}, at...), name)
		if v.Field(i).Kind() == reflect.Struct {
			list = append(list, leaves(v.Field(i), path)...)
			continue
		}
		list = append(list, leaf{path, v.Field(i)})
	}
	return list
}

func (p *program) readEnvironment(c *config) error {
	known := map[string]bool{envPrefix + "CONFIG": true}
	for _, l := range leaves(reflect.ValueOf(c).Elem(), nil) {
		known[l.variable()] = true
		text, ok := p.getenv(l.variable())
		if !ok {
			continue
		}
		raw, _ := json.Marshal(text)
		if l.value.Kind() == reflect.Bool {
			raw = []byte(text)
		}
		if err := hpcsera.Decode(raw, l.value.Addr().Interface()); err != nil {
			return fmt.Errorf("%s: %w", l.variable(), err)
		}
	}
	for _, entry := range p.environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && !known[name] {
			return fmt.Errorf("%s is not a setting; is it misspelt?", name)
		}
	}
	return nil
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
	if full, err := filepath.Abs(dir); err == nil {
		dir = full
	}
	c.keyGiven = c.KeyFile != ""
	abs(&c.DataDir, "")
	abs(&c.KeyFile, "server.key")
	abs(&c.AdminSocket, "admin.sock")
	abs(&c.Auth.KeyFile, "deployment.key")
	if !elsewhere(c.Database) {
		c.Database = strings.TrimPrefix(c.Database, "sqlite:")
		abs(&c.Database, "hpcsera.db")
	}
	for _, path := range []*string{&c.TLS.Certificate, &c.TLS.Key} {
		if *path != "" {
			abs(path, "")
		}
	}
}

// elsewhere says that a database is meant to be no file: a URL, or the words
// that PostgreSQL's own programs take. They can hold a password, which must not
// become a file's name.
func elsewhere(database string) bool {
	return strings.Contains(database, "://") || strings.Contains(database, "password=")
}

// checkDatabase refuses what is neither a file nor PostgreSQL, and a URL that
// can be read in two ways: one of them would take the password for something
// that may be shown. So no refusal repeats what it refuses.
func (c *config) checkDatabase() error {
	if !elsewhere(c.Database) {
		return nil
	}
	u, err := url.Parse(c.Database)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || strings.Count(c.Database, "@") > 1 || strings.Contains(u.Path, "@") {
		return hpcsera.Errorf(hpcsera.InvalidField, "it is neither a file nor a PostgreSQL URL.").At("database").
			Hint("Write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %%40, %%2F, %%3A and %%25 for @, /, : and %% in the password.")
	}
	return nil
}

// shownDatabase is the database's URL without the passwords in it.
func shownDatabase(database string) string {
	u, err := url.Parse(database)
	if err != nil || !elsewhere(database) {
		return database
	}
	q := u.Query()
	for key := range q {
		if strings.Contains(key, "password") {
			q.Set(key, "xxxxx")
		}
	}
	u.RawQuery = q.Encode()
	return u.Redacted()
}

func (c *config) check() error {
	if err := c.checkDatabase(); err != nil {
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
	switch {
	case (c.TLS.Certificate == "") != (c.TLS.Key == ""):
		return refuse("tls", "certificate and key are needed both.")
	case c.TLS.Certificate != "" && c.BehindProxy:
		return refuse("behind_proxy", "with tls the server needs no proxy to encrypt.")
	case c.Log.Format != "text" && c.Log.Format != "json":
		return refuse("log.format", "%q is neither text nor json.", c.Log.Format)
	case !hpcsera.ValidName(c.Auth.Name):
		return refuse("auth.name", "%q is not a name.", c.Auth.Name)
	case c.Limits.Body < 64<<10:
		return refuse("limits.body", "%v is too little for a job with a script; 64KiB is the least.", c.Limits.Body)
	}
	if new(slog.Level).UnmarshalText([]byte(c.Log.Level)) != nil {
		return refuse("log.level", "%q is none of debug, info, warn and error.", c.Log.Level)
	}
	return nil
}

// logger returns the log that the settings ask for.
func (c *config) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Log.Level)) // checked
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: auth.Redact}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// attrs are the settings for the log, without secrets.
func (c config) attrs() []any {
	var list []any
	for _, l := range leaves(reflect.ValueOf(&c).Elem(), nil) {
		name, text := strings.Join(l.path, "."), fmt.Sprint(l.value.Interface())
		if name == "database" {
			text = shownDatabase(text)
		}
		list = append(list, slog.String(name, text))
	}
	return list
}
