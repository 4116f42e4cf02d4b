package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

func (p *program) trustCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "trust", Short: "Whose signatures count here",
		Long: `trust shows and changes the trust file: the keys whose signatures make code run
here. Only you change it, on this site; the server cannot. A running agent sees
a change with its next job.`,
	}
	cmd.AddCommand(p.trustList(), p.trustAdd(), p.trustRemove(), p.trustWithdraw())
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
	return policy.Commands{Path: filepath.Join(c.StateDir, "trust.yaml"), In: p.stdin, Out: p.stdout}, nil
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
	cmd := &cobra.Command{
		Use: "add KEY.pub|-", Short: "Trust an SSH key", Args: cobra.ExactArgs(1),
		Long: `add trusts a key after you have typed the end of its fingerprint, as shown where the
key was made (ssh-keygen -lf KEY.pub). Security keys (sk-…) are a second factor;
a plain key counts only with --plain: whoever can read its file can then run code
as you.`,
		Example: "  hpcsera-agent trust add ~/.ssh/id_ed25519_sk.pub\n  hpcsera-agent trust add ci.pub --plain --project solver-ci --runs 200 --until 30d",
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := p.trust()
			if err != nil {
				return err
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
	return cmd
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
