package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent"
)

// first are the settings that an agent cannot do without, as enroll takes them
// on its command line: the server's page shows that line.
type first struct {
	server, site, user, ca string
	projects               []string
}

func (f *first) flags(to *pflag.FlagSet) {
	to.StringVar(&f.server, "server", "", "URL of the server, kept in agent.yaml")
	to.StringVar(&f.site, "site", "", "this HPC system's name there, kept in agent.yaml")
	to.StringVar(&f.user, "user", "", "your name there, kept in agent.yaml")
	to.StringSliceVar(&f.projects, "project", nil, "whose jobs this agent runs, kept in agent.yaml")
	to.StringVar(&f.ca, "ca", "", "file with the server's own certificate authority (PEM), kept in agent.yaml as ca_file")
}

// any reports whether the command line has one of them.
func (f *first) any() bool {
	return f.server+f.site+f.user+f.ca != "" || len(f.projects) > 0
}

// setting is one of them: what is wanted, and where the configuration has it.
type setting struct {
	key    string
	wanted any
	given  bool
	has    any
	unset  bool
	take   func(*agent.Config)
}

func (f *first) settings(c agent.Config) []setting {
	server := strings.TrimRight(f.server, "/")
	projects := slices.Compact(slices.Sorted(slices.Values(f.projects)))
	ca := f.ca
	if abs, err := filepath.Abs(ca); ca != "" && err == nil {
		ca = abs // the agent starts anywhere
	}
	text := func(key, wanted, has string, take func(*agent.Config)) setting {
		return setting{key, wanted, wanted != "", has, has == "", take}
	}
	return []setting{
		text("server", server, c.Server, func(c *agent.Config) { c.Server = server }),
		text("user", f.user, c.User, func(c *agent.Config) { c.User = f.user }),
		text("site", f.site, c.Site, func(c *agent.Config) { c.Site = f.site }),
		{"projects", projects, len(projects) > 0, slices.Sorted(slices.Values(c.Projects)), len(c.Projects) == 0, func(c *agent.Config) { c.Projects = projects }},
		text("ca_file", ca, c.CAFile, func(c *agent.Config) { c.CAFile = ca }),
	}
}

// settle returns the configuration with what the command line says. It writes
// the file where there is none; a file that is there is its user's, and one
// that says something else is refused: the agent that runs later follows it.
func (f *first) settle(c agent.Config, file string) (agent.Config, error) {
	var text strings.Builder
	var missing []setting
	for _, s := range f.settings(c) {
		if !s.given {
			continue
		}
		line := fmt.Sprintf("%s: %s\n", s.key, yamlOf(s.wanted))
		if !s.unset && yamlOf(s.has) != yamlOf(s.wanted) {
			return c, hpcsera.Errorf(hpcsera.Conflict, "this agent's settings say %s: %s, and the command line says %s.", s.key, yamlOf(s.has), yamlOf(s.wanted)).At(s.key).
				Hint("Settings stand in %s, in the environment, or in the site's file. Change them there, or leave the flag out.", file)
		}
		text.WriteString(line)
		if s.unset {
			s.take(&c)
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return c, nil
	}
	if _, err := os.Stat(file); err == nil {
		return c, hpcsera.Errorf(hpcsera.Conflict, "%s is there already and says nothing of it.", file).At(missing[0].key).
			Hint("Add the line there: %s: %s", missing[0].key, yamlOf(missing[0].wanted))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	// A file that cannot be meant is not left behind.
	if err := errors.Join(c.Check(), servesSome(c)); err != nil {
		return c, err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return c, err
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return c, err
	}
	_, err = out.WriteString(text.String())
	return c, errors.Join(err, out.Close())
}

// servesSome refuses an agent without projects.
func servesSome(c agent.Config) error {
	if len(c.Projects) > 0 {
		return nil
	}
	return hpcsera.Errorf(hpcsera.InvalidField, "there is none.").At("projects").Hint("Say whose jobs this agent runs: --project NAME, or projects: [NAME] in agent.yaml.")
}

// yamlOf writes a value so that no YAML parser takes it for something else: a
// project may be called null or 007.
func yamlOf(value any) string {
	b, _ := json.Marshal(value) // strings cannot fail
	return string(b)
}
