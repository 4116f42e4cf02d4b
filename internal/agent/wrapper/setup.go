package wrapper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// setupScript asks the site's own shell functions for software and writes the
// environment that they made. It is constant: names and values are arguments
// and never become text of a shell. Arguments: the file that defines the
// command, the file to write, the command, the number of signed variables,
// these as NAME=VALUE, and the names to load.
const setupScript = `
hpcsera_init=$1 hpcsera_file=$2 hpcsera_command=$3
hpcsera_variables=("${@:5:$4}") hpcsera_names=("${@:5+$4}")
set --
[ -r "$hpcsera_init" ] || { echo "$hpcsera_init cannot be read on $HOSTNAME"; exit 1; }
. "$hpcsera_init"
type "$hpcsera_command" >/dev/null 2>&1 || { echo "$hpcsera_init does not define the command $hpcsera_command on $HOSTNAME"; exit 1; }
for hpcsera_variable in "${hpcsera_variables[@]}"; do
	export -- "$hpcsera_variable" || exit 1
done
for hpcsera_name in "${hpcsera_names[@]}"; do
	case $hpcsera_command in
	module) module load "$hpcsera_name" || { echo "module load $hpcsera_name failed"; exit 1; } ;;
	spack) SPACK_COLOR=never spack env activate "$hpcsera_name" || { echo "spack env activate $hpcsera_name failed"; exit 1; } ;;
	*) exit 1 ;;
	esac
done
exec /usr/bin/env -0 >"$hpcsera_file"
`

// setUp returns the environment of the program: variables of the batch system,
// what was signed, and on top what the site's software makes of them. Values,
// which nobody signed, come last: the site's shell never sees them.
func (w *wrapper) setUp(s *stage, n int) ([]string, error) {
	env := w.environment(n)
	if w.task.Setup != nil {
		var err error
		if env, err = w.software(s, n, *w.task.Setup); err != nil {
			return nil, err
		}
	}
	for name, value := range w.task.Values {
		env[name] = value
	}
	return pairs(env), nil
}

// software lets a shell load what a task asks for.
func (w *wrapper) software(s *stage, n int, setup spool.Setup) (map[string]string, error) {
	file := filepath.Join(filepath.Dir(w.spool.OutputPath(w.member.Job, w.member.Step, n, "stdout")), "environment")
	// The shell of the site is not the program: it begins with what the batch
	// system gave, and gets what was signed as arguments.
	argv := []string{"/bin/bash", "--noprofile", "--norc", "-c", setupScript, "hpcsera", setup.Init, file, setup.Command, strconv.Itoa(len(w.task.Environment))}
	for name, value := range w.task.Environment {
		argv = append(argv, name+"="+value)
	}
	for _, name := range setup.Names {
		if strings.HasPrefix(name, "-") {
			return nil, fmt.Errorf("%s: %q is an option", setup.Field, name)
		}
	}
	before := fileSize(s.stderr)
	end, err := s.run(process{argv: append(argv, setup.Names...), env: pairs(w.given(n)), stdout: s.stderr, stderr: s.stderr})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", setup.Field, err)
	case s.told:
		return nil, errTold
	case end.exit.Code != 0 || end.exit.Signal != 0:
		return nil, fmt.Errorf("%s: %s", setup.Field, tail(s.stderr, before))
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: it ended the shell that loaded it", setup.Field)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setup.Field, err)
	}
	_ = os.Remove(file)
	env := map[string]string{}
	for pair := range bytes.SplitSeq(text, []byte{0}) {
		name, value, ok := strings.Cut(string(pair), "=")
		if ok && name != "_" && name != "SHLVL" && name != "PWD" && name != "OLDPWD" {
			env[name] = value
		}
	}
	return env, nil
}

// errTold says that the batch system told the job to end before its program
// began.
var errTold = errors.New("it was told to end before the program began")

// before runs the site's own program ahead of all others. The site may refuse
// the job by it.
func (w *wrapper) before(s *stage, n int) error {
	if w.task.Hooks.Before == "" {
		return nil
	}
	size := fileSize(s.stderr)
	end, err := s.run(w.hook(s, n, w.task.Hooks.Before))
	switch {
	case err != nil:
		return fmt.Errorf("hooks.before of this site: %w", err)
	case s.told:
		return errTold
	case end.timeout:
		return fmt.Errorf("hooks.before of this site did not end within %v. %s", time.Duration(w.task.Hooks.Timeout), tail(s.stderr, size))
	case end.exit.Signal != 0:
		return fmt.Errorf("hooks.before of this site: %v. %s", syscall.Signal(end.exit.Signal), tail(s.stderr, size))
	case end.exit.Code != 0:
		return fmt.Errorf("hooks.before of this site ended with %d. %s", end.exit.Code, tail(s.stderr, size))
	}
	return nil
}

// after runs the site's own program behind the user's, however that ended. What
// became of the job does not depend on it, so its trouble is the log's.
func (w *wrapper) after(s *stage, n int, end spool.End) {
	if w.task.Hooks.After == "" {
		return
	}
	p := w.hook(s, n, w.task.Hooks.After)
	p.env = append(p.env, "HPCSERA_EXIT_CODE="+strconv.Itoa(end.Exit.Code), "HPCSERA_EXIT_SIGNAL="+strconv.Itoa(end.Exit.Signal))
	done, err := s.run(p)
	switch {
	case err != nil:
		fmt.Fprintf(s.stderr, "hpcsera-agent step: hooks.after of this site: %v\n", err)
	case done.timeout:
		fmt.Fprintf(s.stderr, "hpcsera-agent step: hooks.after of this site did not end within %v\n", time.Duration(w.task.Hooks.Timeout))
	case done.exit.Code != 0 || done.exit.Signal != 0:
		fmt.Fprintf(s.stderr, "hpcsera-agent step: hooks.after of this site ended with %+v\n", done.exit)
	}
}

// hook is a program of the site's. It gets what the agent and the batch system
// say of the job, and no variable that anybody else chose.
func (w *wrapper) hook(s *stage, n int, path string) process {
	env := w.given(n)
	for name, value := range w.task.Environment {
		if strings.HasPrefix(name, "HPCSERA_") {
			env[name] = value
		}
	}
	return process{argv: []string{path}, env: pairs(env), stdout: s.stderr, stderr: s.stderr, timeout: time.Duration(w.task.Hooks.Timeout)}
}
