// Command hpcsera-agent runs on a login node with its user's own rights: it
// pulls orders over outgoing HTTPS, drives the batch system and reports back.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hpcsera/hpcsera/internal/agent/wrapper"
	"github.com/hpcsera/hpcsera/internal/scheduler/local"
)

// version is set at the build.
var version = "dev"

func main() {
	// SIGXCPU announces that a watchdog's limit on CPU time is reached.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGXCPU)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// outlive keeps this process alive when its terminal goes, or who reads what it
// prints: a lost screen is no order to stop. Commands that it starts are not
// kept alive, as they would be if the signals were ignored.
func outlive() (stop func()) {
	lost := make(chan os.Signal, 1) // nobody looks
	signal.Notify(lost, syscall.SIGHUP, syscall.SIGPIPE)
	return func() { signal.Stop(lost) }
}

// run is the program. The first two commands are not for people: the wrapper
// inside a batch job, and the commands of the local batch system.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 3 && args[0] == "step" {
		return wrapper.Run(args[1], args[2], environ, stderr)
	}
	if len(args) > 0 && args[0] == "local" {
		return local.Main(args[1:], stdout, stderr)
	}
	p := &program{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}
	return p.execute(ctx, args)
}
