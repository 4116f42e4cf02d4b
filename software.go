package hpcsera

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Names of software are arguments of the site's own commands, so they look like
// nothing else: no option, no path, no variable, nothing that a shell or Tcl
// reads in another way.
var (
	modulePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+:=@/-]{0,255}$`)
	spackPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,127}$`)
)

// validateSoftware checks what a code part needs of the site.
func (m Manifest) validateSoftware() error {
	if len(m.Modules) > 100 {
		return Errorf(InvalidField, "%d modules are too many; 100 can be given.", len(m.Modules)).At("modules")
	}
	for i, name := range m.Modules {
		if !modulePattern.MatchString(name) || slices.Contains(strings.Split(name, "/"), "..") || strings.HasSuffix(name, "/") {
			return Errorf(InvalidField, "%q is not a module's name.", name).At(fmt.Sprintf("modules[%d]", i)).
				Hint("Write it as module avail prints it, such as gcc/14.")
		}
	}
	if m.SpackEnvironment != "" && !spackPattern.MatchString(m.SpackEnvironment) {
		return Errorf(InvalidField, "%q is not an environment's name.", m.SpackEnvironment).At("spack_environment").
			Hint("Write it as spack env list prints it.")
	}
	if m.SpackEnvironment != "" && len(m.Modules) > 0 {
		return Errorf(InvalidField, "a job has either modules or a spack_environment.").At("spack_environment").Hint("Leave one of them out.")
	}
	return nil
}
