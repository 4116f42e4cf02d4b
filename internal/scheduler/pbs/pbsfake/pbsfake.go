// Package pbsfake is a small PBS for tests: qsub, qstat, qdel, qhold, qrls,
// qrerun, qselect and pbsnodes that behave as OpenPBS 23.06 did when it was
// recorded, and print what it printed. Tests install the commands in a folder
// and hand their paths to the Scheduler; nothing else may import it.
//
// All state is in that folder; there is no daemon. Each command takes a lock,
// reads state.json, starts what can start, does its work and writes the file
// anew. A job that runs has a process of its own, pbs_mom, which starts the
// job's command in a session, ends it at its time limit or when it is deleted,
// copies its output and records the end.
//
// What it has on purpose of the real one: ids with a server's name, arrays whose
// members are jobs of their own and stay listed as X until all have ended, qdel
// of a running job that returns before the job ends, Exit_status as PBS encodes
// it, finished jobs only with -x, exit status 153 beside the jobs that are
// known, JSON that holds the first of several named jobs only, a start in the
// home folder with PBS's variables alone.
//
// What it has not: routing, reservations, dependencies, scripts' directives
// beyond options that stand alone, limits of memory.
package pbsfake

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Config is how a fake behaves. It can be changed while the fake is in use.
type Config struct {
	History   bool     // job_history_enable
	MaxArray  int      // max_array_size; 0 is 10 000
	MaxQueued int      // jobs a user may have in the queue; 0 is no limit
	Cores     int      // of the only node; 0 is 64
	Queues    []string // the first is the default; empty is workq and batchq
	Terse     bool     // qstat -t leaves out members that wait, as a server does whose commands are to add them
	Down      bool     // nobody answers
}

// names are the commands. pbs_mom is for the fake's own use.
var names = []string{"qsub", "qstat", "qdel", "qhold", "qrls", "qrerun", "qselect", "pbsnodes", "pbs_mom"}

// Install makes a fake in a folder of its own. program must call [Main] when it
// is run under one of the commands' names. It returns the commands' paths.
func Install(dir, program string, c Config) (map[string]string, error) {
	commands := map[string]string{}
	for _, sub := range []string{"bin", "spool"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		path := filepath.Join(dir, "bin", name)
		if err := os.Symlink(program, path); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if name != "pbs_mom" {
			commands[name] = path
		}
	}
	return commands, Configure(dir, c)
}

// Configure changes how the fake in a folder behaves.
func Configure(dir string, c Config) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, "config.json"), b)
}

// Is reports whether a program that was called by this name is to call [Main].
func Is(name string) bool { return slices.Contains(names, filepath.Base(name)) }

// Main is one of the commands. args are all of the command line, with the
// command's path, which says where the fake's folder is. It returns the exit
// status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := command{
		name: filepath.Base(args[0]), dir: filepath.Dir(filepath.Dir(args[0])), args: args[1:],
		stdin: stdin, stdout: stdout, stderr: stderr,
	}
	run := map[string]func() int{
		"qsub": c.qsub, "qstat": c.qstat, "qdel": c.qdel, "qhold": c.qhold, "qrls": c.qrls, "qrerun": c.qrerun,
		"qselect": c.qselect, "pbsnodes": c.pbsnodes, "pbs_mom": c.mom,
	}[c.name]
	if !filepath.IsAbs(args[0]) || run == nil {
		fmt.Fprintf(stderr, "%s: no command of a fake PBS\n", args[0])
		return 2
	}
	return run()
}

// command is one call of a command.
type command struct {
	name, dir      string
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// fail prints a sentence as PBS's commands do, and returns the exit status that
// belongs to one of its error numbers.
func (c *command) fail(number int, format string, args ...any) int {
	fmt.Fprintf(c.stderr, c.name+": "+format+"\n", args...)
	return number & 0xff
}

// The error numbers of pbs_error.h.
const (
	unknownJob     = 15001
	noPermission   = 15007
	noServer       = 15010
	badState       = 15016
	unknownQueue   = 15018
	unknownResc    = 15035
	notRerunnable  = 15038
	arrayTooLarge  = 15107
	placeNoSelect  = 15111
	finishedJob    = 15139
	tooManyQueued  = 15142
	finishedMember = 15159
)

// option is one option of a command line.
type option struct {
	letter byte
	value  string
}

// getopt reads options as getopt(3) does, those with a value being followed by a
// colon in spec. ok is false for a mistake.
func getopt(args []string, spec string) (options []option, rest []string, ok bool) {
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return options, args, true
		}
		for i := 1; i < len(arg); i++ {
			at := strings.IndexByte(spec, arg[i])
			if at < 0 || arg[i] == ':' {
				return nil, nil, false
			}
			if !strings.HasPrefix(spec[at+1:], ":") {
				options = append(options, option{letter: arg[i]})
				continue
			}
			value := arg[i+1:]
			if value == "" {
				if len(args) == 0 {
					return nil, nil, false
				}
				value, args = args[0], args[1:]
			}
			options = append(options, option{arg[i], value})
			break
		}
	}
	return options, args, true
}
