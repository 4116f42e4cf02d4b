// Command hpcserad is the API server of HPCSerA and the operator's tool for
// it: init makes a place for it, serve runs it, and the other commands talk to
// the running server over its admin socket.
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

func main() { os.Exit(command.Main("hpcserad", run)) }

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
		Use:   "hpcserad",
		Short: "The API server of HPCSerA, and the operator's tool for it",
		Example: `  hpcserad init /srv/hpcsera                 make configuration, key and data folder
  hpcserad serve --config /srv/hpcsera/hpcserad.yaml
  hpcserad user add alice                    from another terminal, over the admin socket`,
		Version: version,
	}
	root.PersistentFlags().StringVarP(&p.config, "config", "c", "",
		"configuration file (default: $HPCSERAD_CONFIG, ./hpcserad.yaml, /etc/hpcsera/hpcserad.yaml)")
	root.AddCommand(p.initCommand(), p.serveCommand(), p.backupCommand(), p.restoreCommand())
	root.AddCommand(p.operatorCommands()...)
	return root
}
