package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// Invocation is one start of the program: everything that it takes from its
// surroundings, so that a test can start it as well.
type Invocation struct {
	Version string   // set at the build; "" is what Go recorded
	Args    []string // without the program's name
	Env     []string // NAME=VALUE; proxies are read from the process's own environment
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
}

// Run runs one command line and returns its exit code. While it runs it takes
// the process's SIGINT and SIGTERM.
func Run(ctx context.Context, in Invocation) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &app{version: version(in.Version), env: environment(in.Env), input: newInput(in.Stdin)}
	a.screen = newScreen(in.Stdout, in.Stderr, a.env)
	var stop func()
	a.signals, stop = catchSignals(cancel)
	defer stop()

	root := a.root()
	root.SetArgs(in.Args)
	root.SetIn(in.Stdin)
	root.SetOut(in.Stdout)
	root.SetErr(in.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if cause := context.Cause(ctx); cause != nil && !errors.As(err, new(*exitError)) {
		err = cause
	}
	if !a.started {
		err = usageError{err}
	}
	a.complain(cmd, err)
	return exitCode(err)
}

// app is one run of the program: what its commands share.
type app struct {
	version string
	env     map[string]string
	input   *input
	screen  *screen
	signals *signals
	flags   globalFlags
	started bool // flags and arguments were accepted
}

// globalFlags are the flags of every command.
type globalFlags struct {
	context   string
	server    string
	project   string
	ca        string
	tokenFile string
	allowHTTP bool
	retryFor  string
}

func environment(pairs []string) map[string]string {
	env := map[string]string{}
	for _, pair := range pairs {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}

// root lists every command there is.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "hpcsera",
		Short: "Run jobs on HPC systems through an HPCSerA server",
		Long: `hpcsera runs jobs on HPC systems through an HPCSerA server.

  hpcsera run job.yaml        submit, watch, fetch the results
  hpcsera submit job.yaml     submit and print the job's id
  hpcsera wait JOB            wait for a job's end

Exit codes: 0 done, 1 something on this machine, 2 usage, 10 the job failed,
11 it was cancelled, 12 refused, 13 the wait ended before the job did,
20 the server cannot be reached.

Environment: HPCSERA_SERVER, HPCSERA_TOKEN, HPCSERA_PROJECT, HPCSERA_SITE,
HPCSERA_CONTEXT, HTTPS_PROXY, NO_COLOR. A token is never given as an argument.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       a.version,
		Args:          cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			_, err := a.patience(0)
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("hpcsera {{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVar(&a.flags.context, "context", "", "context to use instead of the current one")
	f.StringVar(&a.flags.server, "server", "", "URL of the server (HPCSERA_SERVER)")
	f.StringVar(&a.flags.project, "project", "", "project that the token must be for (HPCSERA_PROJECT)")
	f.StringVar(&a.flags.tokenFile, "token-file", "", "file to read the token from, - for standard input (else HPCSERA_TOKEN)")
	f.StringVar(&a.flags.ca, "ca", "", "file with the certificate authorities of the server (PEM)")
	f.BoolVar(&a.flags.allowHTTP, "allow-http", false, "allow plain HTTP to another host: everybody on the way can read the token")
	f.StringVar(&a.flags.retryFor, "retry-for", "", "how long to try again while the server cannot be reached, 0 for never (30s; 15m while watching a job)")

	root.AddGroup(&cobra.Group{ID: "jobs", Title: "Jobs:"}, &cobra.Group{ID: "code", Title: "Code:"}, &cobra.Group{ID: "access", Title: "Access:"},
		&cobra.Group{ID: "setup", Title: "Set-up:"})
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("jobs", a.runCommand(), a.submitCommand(), a.waitCommand(), a.listCommand(), a.statusCommand(), a.explainCommand(),
		a.logsCommand(), a.eventsCommand(), a.cancelCommand(), a.holdCommand(), a.releaseCommand(), a.retryCommand(), a.fetchCommand())
	add("code", a.convertCommand(), a.approveCommand(), a.codeCommand())
	add("setup", a.loginCommand(), a.logoutCommand(), a.contextCommand(), a.siteCommand(), a.whoamiCommand(), a.doctorCommand())
	add("access", a.tokenCommand(), a.agentCommand(), a.projectCommand(), a.clientCommand())
	root.SetCompletionCommandGroupID("setup")
	a.noteStart(root)
	addExamples(root)
	return root
}

// noteStart tells errors of the command line from those of the work: cobra
// checks flags and arguments until it calls RunE.
func (a *app) noteStart(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return inWords(cmd, args, check(cmd, args)) }
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.started = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		a.noteStart(c)
	}
}

// inWords says what cobra counts: which command may be meant, or how the usage
// is. What a command says of its arguments itself stays.
func inWords(cmd *cobra.Command, args []string, err error) error {
	switch {
	case err == nil:
		return nil
	case cmd.HasAvailableSubCommands():
		text := fmt.Sprintf("unknown command %q for %q.", args[0], cmd.CommandPath())
		if cmd.SuggestionsMinimumDistance = 2; len(cmd.SuggestionsFor(args[0])) > 0 {
			text += " Did you mean " + strings.Join(cmd.SuggestionsFor(args[0]), " or ") + "?"
		}
		return errors.New(text)
	case strings.HasPrefix(err.Error(), "accepts "), strings.HasPrefix(err.Error(), "requires "), strings.HasPrefix(err.Error(), "unknown command "):
		return fmt.Errorf("usage: %s", cmd.UseLine())
	}
	return err
}

// complain tells what went wrong, as a sentence, without a token in it.
func (a *app) complain(cmd *cobra.Command, err error) {
	text := inCommands(client.Redact(cleanLines(inFlags(cmd, err).Error())))
	if text == "" {
		return
	}
	a.screen.say("hpcsera: %s", text)
	var usage usageError
	if errors.As(err, &usage) {
		a.screen.say("See %s --help.", cmd.CommandPath())
		if text != err.Error() && strings.Contains(text, "[redacted]") {
			a.screen.say("A token is never given as an argument: it stands in your shell's history now. Have it revoked.")
		}
	}
}

// inCommands puts commands in the place of requests in what the server advises:
// it speaks to every client, and this one's users type commands.
func inCommands(text string) string {
	return strings.NewReplacer(
		"GET /sites lists them.", "hpcsera site list shows them.",
		"GET /tokens/self tells it.", "hpcsera whoami tells it.",
		"GET /code lists what this token reaches.", "hpcsera code list shows what this token reaches.",
	).Replace(text)
}

// fieldFlags are fields of errors whose flag has another name.
var fieldFlags = map[string]string{"preset": "for", "not_after": "valid", "agents": "agent", "key": "sign-key"}

// inFlags names the flag that was given in the place of the field that an error
// is about.
func inFlags(cmd *cobra.Command, err error) error {
	e, ok := err.(*hpcsera.Error) //nolint:errorlint // a wrapped one has words around it
	if !ok || e.Field == "" {
		return err
	}
	if flag := cmd.Flags().Lookup(first(fieldFlags[e.Field], strings.ReplaceAll(e.Field, "_", "-"))); flag != nil && flag.Changed {
		named := *e
		named.Field = "--" + flag.Name
		return &named
	}
	return err
}

// version returns the version that the build was given, else what Go
// recorded.
func version(given string) string {
	if given != "" {
		return given
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	if v == "" {
		v = "devel"
	}
	return v
}

// patience returns how long requests are tried again: as given, else usual.
func (a *app) patience(usual time.Duration) (time.Duration, error) {
	switch a.flags.retryFor {
	case "":
		return usual, nil
	case "0":
		return 0, nil
	}
	d, err := hpcsera.ParseDuration(a.flags.retryFor)
	if err != nil {
		return 0, fmt.Errorf("--retry-for: %w", err)
	}
	return time.Duration(d), nil
}

// plural returns "1 file" or "2 files".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
