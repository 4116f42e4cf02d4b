// Command hpcsera-auth is the Auth app of HPCSerA, in which people sign in and
// decide, and the operator's tool for it: init makes a place for it, serve runs
// it, and the other commands talk to the running program over its admin socket.
package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/cmd/internal/command"
)

// version is set at the build.
var version = "dev"

func main() { os.Exit(command.Main("hpcsera-auth", run)) }

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
	return command.Run(ctx, p.root(), args, stdout, stderr)
}

// root is the program's command with all others below it.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hpcsera-auth",
		Short: "The Auth app of HPCSerA, in which people sign in and decide",
		Example: `  hpcsera-auth init /srv/hpcsera-auth        make configuration, key and data folder
  hpcsera-auth serve --config /srv/hpcsera-auth/hpcsera-auth.yaml
  hpcsera-auth user add alice                from another terminal, over the admin socket`,
		Version: version,
	}
	root.PersistentFlags().StringVarP(&p.config, "config", "c", "",
		"configuration file (default: $HPCSERA_AUTH_CONFIG, ./hpcsera-auth.yaml, /etc/hpcsera/hpcsera-auth.yaml)")
	root.AddCommand(p.initCommand(), p.serveCommand(), p.userCommand(), p.deploymentCommand(), p.auditCommand(), p.doctorCommand(), p.backupCommand(), p.keyCommand(), p.restoreCommand())
	return root
}
