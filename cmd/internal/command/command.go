// Package command is what the operators' programs, hpcserad and hpcsera-auth,
// share of being programs: how a command line is run and refused, with which
// status they end, and what init makes. Which commands there are, each program
// says.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/settings"
)

// Main is a program: it runs until it has ended or is told to by SIGINT or
// SIGTERM, and returns its exit status: 0, 1, or 2 for a [usage.Error].
func Main(name string, run func(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	if errors.As(err, new(usage.Error)) {
		return 2
	}
	return 1
}

// Run runs the command line args of root, until it has ended or ctx does.
func Run(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) error {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage.Error{Err: fmt.Errorf("%w. See: %s --help", err, c.CommandPath())}
	})
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return nil
	}
	var word string
	if _, failed := fmt.Sscanf(err.Error(), "unknown command %q", &word); failed == nil {
		return usage.Unknown(root, word)
	}
	if strings.HasPrefix(err.Error(), "required flag") {
		return usage.Error{Err: fmt.Errorf("%w. See: %s --help", err, root.Name())}
	}
	return err
}

// Heads refuses heads of an audit log that are empty, as what a search that
// finds nothing leaves: nothing would be compared, and all would look well.
func Heads(heads ...string) error {
	for _, head := range heads {
		if strings.TrimSpace(head) == "" {
			return usage.Error{Err: errors.New("--head is empty, so nothing would be compared. Did what was to find it in the host's log find nothing?")}
		}
	}
	return nil
}

// flagOf are fields whose flag has another name.
var flagOf = map[string]string{"preset": "for"}

// InFlags names a command's flag in the place of the field that an error of the
// server is about: that is what was typed.
func InFlags(c *cobra.Command, err error) error {
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Field == "" {
		return err
	}
	flag := flagOf[e.Field]
	if flag == "" {
		flag = strings.ReplaceAll(e.Field, "_", "-")
	}
	if c.Flags().Lookup(flag) == nil {
		return err
	}
	named := *e
	named.Field = "--" + flag
	return &named
}

// Folder makes dir, and in it a configuration of that name and text where none
// is, and returns its path. A configuration may hold a database's password, so
// only its owner can read it.
func Folder(stdout io.Writer, dir, name, text string) (path string, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, name)
	return path, made(stdout, path, []byte(text))
}

// Data makes a program's data folder and its key, where they are not yet.
func Data(stdout io.Writer, dir, keyFile string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return made(stdout, keyFile, settings.NewKey())
}

// Ready refuses to serve in a data folder that init did not make: with a
// mistyped setting an empty server would start, with keys of its own, and
// nobody would know it again.
func Ready(program, dir, keyFile string) error {
	for _, need := range []string{dir, keyFile} {
		if _, err := os.Stat(need); errors.Is(err, fs.ErrNotExist) {
			return hpcsera.Errorf(hpcsera.InvalidField, "there is no %s, so %s init did not make this data folder.", need, program).At("data_dir").
				Hint("Is the setting mistyped? A new server begins with %s init FOLDER.", program)
		}
	}
	return nil
}

// made writes a file that is not there yet, and tells which it was.
func made(stdout io.Writer, path string, text []byte) error {
	told := "created"
	switch err := settings.Create(path, text); {
	case errors.Is(err, fs.ErrExist):
		told = "kept   "
	case err != nil:
		return err
	}
	_, err := fmt.Fprintf(stdout, "%s %s\n", told, path)
	return err
}
