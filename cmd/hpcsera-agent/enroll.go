package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

func (p *program) enrollCommand() *cobra.Command {
	var replace bool
	var credential string
	var given first
	cmd := &cobra.Command{
		Use: "enroll", Short: "Get the credential of this agent, granted by you in the browser", Args: cobra.NoArgs,
		Long: `enroll asks the server for this agent's credential. You open the page that is
shown and type the code there; the page must show the same fingerprint as this
terminal. The credential works only with the key on this machine.

--server, --site, --user, --project and --ca are what agent.yaml says first. They
write it where there is none, and are refused where the settings say something else.

A second agent of yours at a site is refused. --replace puts this one in the
place of the first: its jobs become this one's. Where this agent does not have
the other's state, jobs that were under way end as failed/outcome_unknown.

With --credential - the credential that an operator made for this key (hpcserad
agent create, with the thumbprint that status prints) is read from standard
input instead.`,
		Example: "  hpcsera-agent enroll --server https://hpc.example.org --user alice --site gwdg --project cfd\n  hpcsera-agent enroll --replace\n  hpcsera-agent enroll --credential - < credential.txt",
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "take the place of the agent that you have at this site")
	cmd.Flags().StringVar(&credential, "credential", "", "file with a credential that an operator made, - for standard input")
	given.flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := p.config()
		if err != nil {
			return err
		}
		if c, err = given.settle(c, p.file); err == nil {
			err = errors.Join(c.Check(), servesSome(c))
		}
		if err != nil && !given.any() {
			err = p.explained(err)
		}
		if err != nil {
			return err
		}
		key, err := p.key(c)
		if err != nil {
			return err
		}
		var text string
		var granted client.Wish // the zero value where an operator made it
		if credential != "" {
			text, err = p.pasted(credential)
		} else {
			text, granted, err = p.granted(cmd.Context(), c, key, replace)
		}
		if err != nil {
			return err
		}
		api, err := client.NewAgent("https://localhost", text, key, nil)
		if err != nil {
			return err
		}
		if err := keepCredential(c, text); err != nil {
			return err
		}
		if err := (agent.Enrolment{Agent: api.ID(), User: granted.User, Site: granted.Site, Projects: granted.Projects}).Keep(c.StateDir); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, p.next(c))
		return nil
	}
	return cmd
}

// next says what to do after the enrolment. Whose signatures count comes first:
// without it nothing runs.
func (p *program) next(c agent.Config) string {
	trust, err := policy.Load(filepath.Join(c.StateDir, "trust.yaml"))
	if err == nil && len(trust.Keys) > 0 || c.Trust.Code == "server" {
		return "Stored. Next: hpcsera-agent doctor, then hpcsera-agent run"
	}
	return `Stored. Next:
  hpcsera-agent trust add KEY.pub   whose signatures count; without one nothing runs
  hpcsera-agent doctor              looks whether all is well
  hpcsera-agent run                 in tmux, screen or systemd --user`
}

// pasted reads a credential that somebody else made.
func (p *program) pasted(from string) (string, error) {
	in := p.stdin
	if from != "-" {
		f, err := os.Open(from)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	} else if f, ok := in.(*os.File); ok && isTerminal(f) {
		fmt.Fprint(p.stderr, "Paste the credential (hpcsera_ag…) and press Enter: ")
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// granted asks the user, who decides on the Auth app's page.
func (p *program) granted(ctx context.Context, c agent.Config, key *client.Key, replace bool) (text string, granted client.Wish, err error) {
	transport, err := newTransport(c)
	if err != nil {
		return "", granted, err
	}
	server, err := client.New(client.Options{Server: c.Server, Transport: transport, UserAgent: "hpcsera-agent/" + version, AllowHTTP: strings.HasPrefix(c.Server, "http:")})
	if err != nil {
		return "", granted, err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", granted, err
	}
	wish := client.Wish{Type: client.AgentWish, User: c.User, Site: c.Site, Projects: c.Projects, Host: account() + "@" + host, Replace: replace}
	device, err := server.AskDevice(ctx, hpcsera.AgentClient, wish, key)
	if err != nil {
		return "", granted, err
	}
	fmt.Fprintf(p.stderr, "Open this page, sign in as %s, and type the code:\n\n    %s\n    %s\n\n", c.User, printable(device.URL), printable(device.Code))
	fmt.Fprintf(p.stderr, "The page must show this fingerprint, or somebody else is asking:\n\n    %s\n\n", key.Thumbprint())
	fmt.Fprintf(p.stderr, "Waiting until %s.\n", device.Expires.Local().Format(time.DateTime))
	got, err := server.Collect(ctx, device)
	return got.Credential.Reveal(), got.Wish, err
}

// printable takes everything out of a server's text that a terminal would act
// on.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, text)
}

// keepCredential replaces the credential in one step: after a crash there is
// the old one or the new one.
func keepCredential(c agent.Config, text string) error {
	f, err := os.CreateTemp(c.StateDir, ".credential-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(c.StateDir, "credential"))
}

// The times of renewal: a credential that somebody copied together with the
// key is worth the less the sooner it is replaced.
const (
	renewAfter = 7 * 24 * time.Hour
	renewLook  = time.Hour
)

// renewDue replaces the credential where it is old. The new one is kept before
// it is used: the server takes the old one until then, so nothing is lost with
// an answer or a crash.
func renewDue(ctx context.Context, c agent.Config, key *client.Key, transport http.RoundTripper, now time.Time) error {
	info, err := os.Stat(credentialPath(c))
	if err != nil {
		return err
	}
	if now.Sub(info.ModTime()) < renewAfter {
		return nil
	}
	text, err := readCredential(c)
	if err != nil {
		return err
	}
	api, err := client.NewAgent(c.Server, text, key, transport)
	if err != nil {
		return err
	}
	renewed, err := api.Renew(ctx)
	if err != nil {
		return err
	}
	return keepCredential(c, renewed.Credential)
}

// renewal keeps the credential of a wired agent young.
type renewal struct {
	config    agent.Config
	key       *client.Key
	transport http.RoundTripper
	api       *client.Agent
	log       *slog.Logger
}

// now renews where it is due, and makes the agent use what is kept. A server
// that cannot be reached is asked again later.
func (r renewal) now(ctx context.Context) {
	err := renewDue(ctx, r.config, r.key, r.transport, time.Now())
	if err == nil {
		var text string
		if text, err = readCredential(r.config); err == nil {
			err = r.api.Use(text)
		}
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn("the credential was not renewed", "err", err)
	}
}

// run does so every hour until ctx ends.
func (r renewal) run(ctx context.Context) {
	tick := time.NewTicker(renewLook)
	defer tick.Stop()
	for {
		r.now(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
