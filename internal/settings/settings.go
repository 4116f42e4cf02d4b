// Package settings reads a server program's configuration: one strict YAML
// file, and for every setting an environment variable that wins over it. What
// a setting means, its default and its check belong to the program.
//
// The JSON names of a struct are the keys of the file; in upper case, joined
// with _ and behind a prefix, they are the variables. Lists stand in the file
// only. Keys and variables that are no setting are refused: a misspelt one
// would be silently without effect.
//
// No setting holds a secret, save a database's URL; secrets are files that the
// settings name. So all of them can be printed at the start.
package settings

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// Source says where a program's settings are.
type Source struct {
	Prefix  string   // of the variables: HPCSERA_AUTH_
	Environ []string // as of os.Environ
	File    string   // as the command line names it; "" looks into PREFIXCONFIG and Usual
	Usual   []string // the places to look at then
}

// Getenv returns the value of a variable, and whether it is set.
func (s Source) Getenv(name string) (string, bool) {
	for _, entry := range s.Environ {
		if k, v, _ := strings.Cut(entry, "="); k == name {
			return v, true
		}
	}
	return "", false
}

// Load reads the settings into into, a pointer to a struct with the defaults,
// and returns the folder that relative paths start at. There is no error where
// the environment alone has settings, as in a container.
func (s Source) Load(into any) (dir string, err error) {
	path, err := s.path()
	if err != nil {
		return "", err
	}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read the configuration: %w", err)
		}
		doc, err := strictyaml.Parse(path, text)
		if err != nil {
			return "", err
		}
		if err := doc.Decode(into); err != nil {
			return "", err
		}
	}
	if err := s.environment(reflect.ValueOf(into).Elem()); err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Dir(path))
}

func (s Source) path() (string, error) {
	if s.File != "" {
		return s.File, nil
	}
	if path, ok := s.Getenv(s.Prefix + "CONFIG"); ok {
		return path, nil
	}
	for _, path := range s.Usual {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	for _, entry := range s.Environ {
		if strings.HasPrefix(entry, s.Prefix) {
			return "", nil
		}
	}
	return "", fmt.Errorf("there is no configuration in %s. Make one with the command init", strings.Join(s.Usual, " or "))
}

// leaf is one setting with its path.
type leaf struct {
	path  []string
	value reflect.Value
}

func (l leaf) key() string { return strings.Join(l.path, ".") }

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

func (s Source) environment(v reflect.Value) error {
	known := map[string]bool{s.Prefix + "CONFIG": true}
	for _, l := range leaves(v, nil) {
		if l.value.Kind() == reflect.Slice {
			continue
		}
		name := s.Prefix + strings.ToUpper(strings.Join(l.path, "_"))
		known[name] = true
		text, ok := s.Getenv(name)
		if !ok {
			continue
		}
		raw, _ := json.Marshal(text)
		if kind := l.value.Kind(); kind == reflect.Bool || kind == reflect.Int { // sizes and durations are text
			raw = []byte(text)
		}
		if err := hpcsera.Decode(raw, l.value.Addr().Interface()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, entry := range s.Environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, s.Prefix) && !known[name] {
			return fmt.Errorf("%s is not a setting; is it misspelt?", name)
		}
	}
	return nil
}

// Keys lists the settings of a struct, as they stand in the file.
func Keys(cfg any) []string {
	var keys []string
	for _, l := range leaves(reflect.ValueOf(cfg), nil) {
		keys = append(keys, l.key())
	}
	return keys
}

// Attrs are the settings of a struct for the log, without the passwords in a
// database's URL.
func Attrs(cfg any) []any {
	var list []any
	for _, l := range leaves(reflect.ValueOf(cfg), nil) {
		text := fmt.Sprint(l.value.Interface())
		if strings.HasSuffix(l.key(), "database") {
			text = ShownDatabase(text)
		}
		list = append(list, slog.String(l.key(), text))
	}
	return list
}

// Log is how a program logs.
type Log struct {
	Format string `json:"format"` // text or json
	Level  string `json:"level"`  // debug, info, warn or error
}

// Check refuses what is no format or level.
func (l Log) Check() error {
	if l.Format != "text" && l.Format != "json" {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is neither text nor json.", l.Format).At("log.format")
	}
	if new(slog.Level).UnmarshalText([]byte(l.Level)) != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is none of debug, info, warn and error.", l.Level).At("log.level")
	}
	return nil
}

// New returns the log, which was checked. Tokens and credentials do not stand
// in it, wherever they come from.
func (l Log) New(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(l.Level)) // checked
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
