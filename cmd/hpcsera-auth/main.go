// Command hpcsera-auth is the Auth app of HPCSerA, in which people sign in and
// decide, and the operator's tool for it: init makes a place for it, serve runs
// it, and the other commands talk to the running program over its admin socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set at the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	switch {
	case err == nil:
	case errors.As(err, new(usageError)):
		fmt.Fprintf(os.Stderr, "hpcsera-auth: %v\n", err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "hpcsera-auth: %v\n", err)
		os.Exit(1)
	}
}

// usageError is a command line that cannot be meant.
type usageError struct{ error }

// Unwrap returns the error itself.
func (e usageError) Unwrap() error { return e.error }

// program is what the commands share.
type program struct {
	environ        []string
	stdout, stderr io.Writer
	config         string // --config
	output         string // --output
}

// run is the program. It ends when ctx does.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	p := &program{environ: environ, stdout: stdout, stderr: stderr}
	root := p.root()
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && strings.HasPrefix(err.Error(), "unknown command") {
		err = usageError{err}
	}
	return err
}

// root is the program's command with all others below it.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hpcsera-auth",
		Short: "The Auth app of HPCSerA, in which people sign in and decide",
		Example: `  hpcsera-auth init /srv/hpcsera-auth        make configuration, key and data folder
  hpcsera-auth serve --config /srv/hpcsera-auth/hpcsera-auth.yaml
  hpcsera-auth user add alice                from another terminal, over the admin socket`,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w. See: %s --help", err, c.CommandPath())}
	})
	root.PersistentFlags().StringVarP(&p.config, "config", "c", "",
		"configuration file (default: $HPCSERA_AUTH_CONFIG, ./hpcsera-auth.yaml, /etc/hpcsera/hpcsera-auth.yaml)")
	root.AddCommand(p.initCommand(), p.serveCommand(), p.userCommand(), p.deploymentCommand(), p.auditCommand(), p.doctorCommand(), p.backupCommand(), p.keyCommand(), p.restoreCommand())
	return root
}

// exactly is cobra.ExactArgs with a usage error that shows the usage line.
func exactly(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("usage: %s", c.UseLine())}
		}
		return nil
	}
}
