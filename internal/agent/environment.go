package agent

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// variables is what the names of the agent's variables begin with.
const variables = "HPCSERA_AGENT_"

// CheckEnvironment refuses a variable of the agent's that sets nothing: it is
// misspelt, and what it was to set would silently be the default.
func CheckEnvironment(environ []string) error {
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		key, ours := strings.CutPrefix(name, variables)
		if !ours || key == "CONFIG" || key == strings.ToUpper(key) && slices.Contains(settings, strings.ToLower(key)) {
			continue
		}
		return hpcsera.Errorf(hpcsera.UnknownField, "this is not a setting.").At(name).
			Hint("Check the spelling, or unset it. Settings: %s.", strings.ToUpper(strings.Join(settings, ", ")))
	}
	return nil
}

// commandPaths reads NAME=PATH,NAME=PATH.
func commandPaths(text string) (map[string]string, error) {
	paths := map[string]string{}
	for _, pair := range strings.Split(text, ",") {
		name, path, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q names no command and its path.", pair).Hint("Write it such as squeue=/opt/slurm/bin/squeue,sacct=/opt/slurm/bin/sacct")
		}
		paths[name] = path
	}
	return paths, nil
}

// safe reports whether requests to the server cannot be read on their way: the
// credential and what jobs do are in them.
func safe(server *url.URL) bool {
	host := server.Hostname()
	return server.Scheme == "https" || server.Scheme == "http" && (host == "localhost" || net.ParseIP(host).IsLoopback())
}
