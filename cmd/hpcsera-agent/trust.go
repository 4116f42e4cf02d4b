package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

func (p *program) trustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "trust", Short: "Whose signatures count here",
		Long: `trust shows and changes the trust file: the keys whose signatures make code run
here, and the Auth app whose withdrawals hold. Only you change it, on this site or
by a statement that a key you trust has signed; the server cannot. A running agent
sees a change with its next job.`,
	}
	cmd.AddCommand(p.trustList(), p.trustAdd(), p.trustImport(), p.trustPin(), p.trustUnpin(), p.trustRemove(), p.trustWithdraw())
	return cmd
}

// trust returns the commands on the configured trust file.
func (p *program) trust() (policy.Commands, error) {
	c, err := p.config()
	if err != nil {
		return policy.Commands{}, err
	}
	if err := os.MkdirAll(c.StateDir, 0o700); err != nil {
		return policy.Commands{}, err
	}
	return policy.Commands{Path: filepath.Join(c.StateDir, "trust.yaml"), In: p.stdin, Out: p.stdout, Terminal: p.terminal()}, nil
}

// terminal reports whether somebody sits at the standard input.
func (p *program) terminal() bool {
	f, ok := p.stdin.(*os.File)
	return ok && isTerminal(f)
}

func (p *program) trustList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Show what is trusted and what was withdrawn", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			t, err := p.trust()
			if err != nil {
				return err
			}
			return t.List()
		},
	}
}

func (p *program) trustAdd() *cobra.Command {
	var o policy.AddOptions
	var end string
	var authorized bool
	var limits caps
	cmd := &cobra.Command{
		Use: "add FILE|-", Short: "Trust an SSH key or a passkey", Args: cobra.MaximumNArgs(1),
		Long: `add trusts a key after you have typed the end of its fingerprint, as shown where the
key was made (ssh-keygen -lf KEY.pub) or, for a passkey, in the Auth app beside its
line (hpcsera-passkey …). Security keys (sk-…) and passkeys are a second factor; a
plain key counts only with --plain: whoever can read its file can then run code as
you.

--project, --nodes, --duration, --memory, --queue, --account, --runs and --until
restrict what a key allows; what a job asks for beyond them is refused.

--from-authorized-keys goes through ~/.ssh/authorized_keys, or the file you name,
and asks for each key. It never takes a line with options, and says what it left out.`,
		Example: "  hpcsera-agent trust add ~/.ssh/id_ed25519_sk.pub\n  hpcsera-agent trust add ci.pub --plain --project solver-ci --nodes 2 --duration 1h --queue test --runs 200 --until 30d\n" +
			"  hpcsera-agent trust add -                        then paste the passkey's line\n  hpcsera-agent trust add --from-authorized-keys",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := p.trust()
			if err != nil {
				return err
			}
			if authorized {
				// Whoever restricts must not be left with keys that are not.
				if flag := others(cmd.Flags()); flag != "" {
					return usage.Error{Err: fmt.Errorf("--%s is for one key: leave it out, or add the keys one by one", flag)}
				}
				file := filepath.Join(p.getenv("HOME"), ".ssh", "authorized_keys")
				if len(args) > 0 {
					file = args[0]
				}
				return t.AddAuthorized(file)
			}
			if len(args) == 0 {
				return usage.Error{Err: errors.New("which key? Name its file, or - for the standard input")}
			}
			o.File = args[0]
			if end != "" {
				d, err := hpcsera.ParseDuration(end)
				if err != nil {
					return err
				}
				at := time.Now().Add(time.Duration(d)).UTC().Truncate(time.Second)
				o.NotAfter = &at
			}
			if o.Limits, err = limits.policy(cmd.Flags()); err != nil {
				return err
			}
			if o.Runs < 1 && cmd.Flags().Changed("runs") {
				return usage.Error{Err: fmt.Errorf("--runs is at least 1, not %d", o.Runs)}
			}
			return t.Add(o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "the entry's name (default: the key's comment)")
	f.StringVar(&o.Fingerprint, "fingerprint", "", "SHA256:… instead of typing its end")
	f.BoolVar(&o.Plain, "plain", false, "trust a key that is no security key")
	f.StringSliceVar(&o.Projects, "project", nil, "only for these projects")
	f.IntVar(&o.Runs, "runs", 0, "at most so many starts per approval")
	f.StringVar(&end, "until", "", "only for so long, such as 30d")
	limits.flags(f)
	f.BoolVar(&authorized, "from-authorized-keys", false, "ask for each key of an authorized_keys file")
	return cmd
}

// others returns a flag that was given beside --from-authorized-keys, or "".
func others(f *pflag.FlagSet) (name string) {
	for _, flag := range []string{"name", "fingerprint", "plain", "project", "runs", "until", "nodes", "duration", "memory", "queue", "account"} {
		if f.Changed(flag) {
			return flag
		}
	}
	return ""
}

// caps are the limits of a key as they are typed.
type caps struct {
	nodes            int
	duration, memory string
	queues, accounts []string
}

func (c *caps) flags(to *pflag.FlagSet) {
	to.IntVar(&c.nodes, "nodes", 0, "only jobs with so many nodes at most")
	to.StringVar(&c.duration, "duration", "", "only jobs that last so long at most, such as 2h30m")
	to.StringVar(&c.memory, "memory", "", "only jobs with so much memory at most, such as 32GiB")
	to.StringSliceVar(&c.queues, "queue", nil, "only jobs in these queues")
	to.StringSliceVar(&c.accounts, "account", nil, "only jobs on these accounts")
}

// policy returns nil where no limit was given. An empty limit is a mistake: it
// would be none.
func (c *caps) policy(given *pflag.FlagSet) (*policy.Caps, error) {
	limits := &policy.Caps{NodeCount: c.nodes, QueueNames: c.queues, Accounts: c.accounts}
	var err error
	if given.Changed("duration") {
		if limits.Duration, err = hpcsera.ParseDuration(c.duration); err != nil {
			return nil, err
		}
	}
	if given.Changed("memory") {
		if limits.Memory, err = hpcsera.ParseBytes(c.memory); err != nil {
			return nil, err
		}
	}
	any := false
	for name, empty := range map[string]bool{
		"nodes": c.nodes < 1, "duration": limits.Duration < 1, "memory": limits.Memory < 1, "queue": len(c.queues) == 0, "account": len(c.accounts) == 0,
	} {
		if given.Changed(name) && empty {
			return nil, usage.Error{Err: fmt.Errorf("--%s limits nothing", name)}
		}
		any = any || given.Changed(name)
	}
	if !any {
		return nil, nil
	}
	return limits, nil
}

func (p *program) trustImport() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Follow a signed statement about whom to trust", Args: cobra.ExactArgs(1),
		Long: `import adds and removes keys as a statement (type hpcsera-trust/v1) says that a key
trusted here, without restrictions, has signed. FILE holds the statement, FILE.sig
the signature. A statement is followed once.`,
		Example: "  ssh-keygen -Y sign -n hpcsera-trust -f ~/.ssh/id_ed25519_sk trust.json\n  hpcsera-agent trust import trust.json",
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := p.trust()
			if err != nil {
				return err
			}
			c, err := p.config()
			if err != nil {
				return err
			}
			key, err := p.key(c)
			if err != nil {
				return err
			}
			return t.Import(args[0], policy.Context{
				User: c.User, Site: c.Site, Deployment: c.Server, Thumbprint: key.Thumbprint(), Now: time.Now(),
			})
		},
	}
}

func (p *program) trustPin() *cobra.Command {
	var fingerprint string
	cmd := &cobra.Command{
		Use: "pin AUTH-APP-URL FILE|-", Short: "Let the withdrawals of an Auth app hold here", Args: cobra.ExactArgs(2),
		Long: `pin makes this agent start nothing without the Auth app's current status list, and
nothing that the list withdraws. FILE holds the line of the Auth app's key
(hpcsera-auth-key …), as its page shows it with the fingerprint that you type.

A second key of the same Auth app is added: pin the next one before it changes, and
unpin the old one afterwards.`,
		Example: "  hpcsera-agent trust pin https://auth.example.org -     then paste the key's line",
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := p.trust()
			if err != nil {
				return err
			}
			return t.Pin(args[0], args[1], fingerprint)
		},
	}
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "SHA256:… instead of typing its end")
	return cmd
}

func (p *program) trustUnpin() *cobra.Command {
	return &cobra.Command{
		Use: "unpin [FINGERPRINT]", Short: "Take a pinned key back, or let jobs start without a status list again", Args: cobra.MaximumNArgs(1),
		Long: `unpin takes back the pinned key with that fingerprint: the old one, after the Auth
app changed to the other. Without a fingerprint, or when none is left, jobs start
without a status list again.`,
		Example: "  hpcsera-agent trust unpin SHA256:…      the key that the Auth app uses no more\n  hpcsera-agent trust unpin",
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := p.trust()
			if err != nil {
				return err
			}
			var fingerprint string
			if len(args) == 1 {
				if fingerprint = args[0]; fingerprint == "" {
					return usage.Error{Err: errors.New("which key? See hpcsera-agent trust list")}
				}
			}
			return t.Unpin(fingerprint)
		},
	}
}

func (p *program) trustRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME|FINGERPRINT", Short: "Do not trust a key any more", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := p.trust()
			if err != nil {
				return err
			}
			return t.Remove(args[0])
		},
	}
}

func (p *program) trustWithdraw() *cobra.Command {
	return &cobra.Command{
		Use: "withdraw APPROVAL|NAME|FINGERPRINT", Short: "End an approval, or a key with all it signed, for good", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := p.trust()
			if err != nil {
				return err
			}
			return t.Withdraw(args[0])
		},
	}
}
