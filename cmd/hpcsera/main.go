// The program hpcsera is the command line of HPCSerA: it runs jobs on HPC
// systems through an HPCSerA server. internal/cli is all of it.
package main

import (
	"context"
	"io"
	"os"

	"github.com/hpcsera/hpcsera/internal/cli"
)

// version is set at the build.
var version string

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is main for a test as well.
func run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, cli.Invocation{Version: version, Args: args, Env: env, Stdin: stdin, Stdout: stdout, Stderr: stderr})
}
