package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "See, ask for and take back your tokens (after hpcsera login)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.tokenListCommand(), a.tokenCreateCommand(), a.tokenRevokeCommand())
	return cmd
}

func (a *app) tokenListCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List your tokens, without their texts, which nobody has", Args: cobra.NoArgs}
	form := outputFlag(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "also those that ended or were revoked")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.inPerson()
		if err != nil {
			return err
		}
		list, err := s.Tokens(cmd.Context())
		if err != nil {
			return err
		}
		shown := []*hpcsera.Token{}
		for _, t := range list {
			if all || t.Revoked == nil && time.Now().Before(t.Expires) {
				shown = append(shown, t)
			}
		}
		return a.show(*form, hpcsera.TokenList{Tokens: shown}, func(w io.Writer) { writeTokens(w, shown, time.Now()) })
	}
	return cmd
}

func writeTokens(w io.Writer, list []*hpcsera.Token, now time.Time) {
	if len(list) == 0 {
		fmt.Fprintln(w, "You have no tokens. hpcsera token create asks for one.")
		return
	}
	rows := [][]string{{"TOKEN", "CLIENT", "PROJECT", "SITE", "ROLES", "USED", "ENDS"}}
	for _, t := range list {
		used, ends := "never", short(&t.Expires)
		if t.Used != nil {
			used = ago(*t.Used, now)
		}
		if t.Revoked != nil {
			ends = "revoked"
		}
		rows = append(rows, []string{clean(t.ID), clean(t.Client), clean(t.Project), clean(first(t.Site, "any")), roleNumbers(t.Roles), used, ends})
	}
	columns(w, rows)
}

// roleNumbers is how roles fit into a table: names stand in token create.
func roleNumbers(set hpcsera.Roles) string {
	var words []string
	for _, role := range set.List() {
		words = append(words, fmt.Sprint(uint8(role)))
	}
	return strings.Join(words, ",")
}

func (a *app) tokenCreateCommand() *cobra.Command {
	var wish hpcsera.TokenWish
	var roles, scope string
	cmd := &cobra.Command{
		Use: "create", Short: "Ask yourself for a token, decided in the browser", Args: cobra.NoArgs,
		Long: `Ask for a token. You decide it in the browser, where you can grant fewer roles or
an earlier end; this command waits for that.

A token for the client cli, the default, is kept for the current context. One
for another client is printed, once: hand it to that client.

Roles: 1 GET_JobStatus, 2 UPDATE_JobStatus, 3 GET_Job, 4 POST_Code, 5 GET_Code,
6 POST_Job, 7 UPDATE_Job, 8 DELETE_Job.`,
		Example: `  hpcsera token create --project cfd --roles 1,4,5,6,7,8
  hpcsera token create --project cfd --client gitlab --for ci --days 90`,
	}
	f := cmd.Flags()
	f.StringVar(&wish.Client, "client", hpcsera.CLIClient, "who uses it")
	f.StringVar(&roles, "roles", "", "names or numbers, comma-separated")
	f.StringVar(&wish.For, "for", "", "instead of roles: ci (1,6,8), ci-code (1,4,6,8), engine (1,6,7,8) or viewer (1)")
	f.StringVar(&wish.Site, "site", "", "only for this site")
	f.StringVar(&scope, "scope", "", "client (default: only this client's jobs and code) or project")
	f.IntVar(&wish.Days, "days", 0, "until it ends (what the server usually gives)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (roles == "") == (wish.For == "") {
			return usageError{fmt.Errorf("say what the token may: --roles or --for")}
		}
		if roles != "" {
			set, err := hpcsera.ParseRoles(roles)
			if err != nil {
				return usageError{err}
			}
			wish.Roles = set
		}
		wish.Scope = hpcsera.Scope(scope)
		return a.createToken(cmd.Context(), wish)
	}
	return cmd
}

func (a *app) createToken(ctx context.Context, wish hpcsera.TokenWish) error {
	s, err := a.inPerson()
	if err != nil {
		return err
	}
	wish.Project = first(a.flags.project, a.env["HPCSERA_PROJECT"], s.profile.Project)
	if wish.Project == "" {
		return usageError{fmt.Errorf("say which project the token is for: --project NAME (hpcsera project list)")}
	}
	asked, err := s.RequestToken(ctx, wish)
	if err != nil {
		return err
	}
	granted, err := a.waitForDecision(ctx, s, asked)
	if err != nil {
		return err
	}
	a.sayRoles(wish, granted.Wish.Roles)
	if wish.Client != hpcsera.CLIClient {
		a.screen.say("This is the token, until %s. It is shown once and kept nowhere:", short(&granted.Expires))
		_, err := fmt.Fprintln(a.screen.out, granted.Credential.Reveal())
		return err
	}
	return a.keepToken(ctx, s.name, granted.Credential)
}

// sayRoles says what was granted, which may be less than was asked for.
func (a *app) sayRoles(wish hpcsera.TokenWish, granted hpcsera.Roles) {
	if granted == 0 {
		return // a server that does not say
	}
	asked := wish.Roles
	if wish.For != "" {
		asked = hpcsera.Presets[wish.For]
	}
	a.screen.say("Granted: %s.", granted)
	if missing := asked &^ granted; missing != 0 {
		a.screen.say("Not granted, though asked for: %s.", missing)
	}
}

// keepToken makes a token the one of a context.
func (a *app) keepToken(ctx context.Context, name string, token client.Secret) error {
	c, p, err := a.findContext(name)
	if err != nil {
		return err
	}
	kept, err := tokenStore(a.env)
	if err != nil {
		return err
	}
	// What was granted is kept before anything else can fail: it comes once.
	if p.Token, err = kept.put(name, token); err != nil {
		return err
	}
	p.Project = "" // the new token's, whatever the old one's was
	if p, err = a.tryToken(ctx, p, token); err != nil {
		return err
	}
	c.Contexts[name] = p
	return c.save()
}

// revocation says which tokens are taken back.
type revocation struct {
	ids    []string
	client string
	all    bool
	stop   bool
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	var r revocation
	cmd := &cobra.Command{
		Use: "revoke TOKEN... | --client NAME | --all", Short: "Take tokens back, from the next request on",
		Long: `Take tokens back: the ones you name, all of one client, or all there are. Their
jobs that no agent has are held, and with --stop all their jobs are cancelled.`,
		Example: "  hpcsera token revoke t_8f2k4m6p8r0t2v4x6z8a --stop\n  hpcsera token revoke --client gitlab\n  hpcsera token revoke --all --stop",
	}
	f := cmd.Flags()
	f.BoolVar(&r.stop, "stop", false, "also cancel the jobs that they started")
	f.StringVar(&r.client, "client", "", "all of this client")
	f.BoolVar(&r.all, "all", false, "all of yours")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		ways := 0
		for _, chosen := range []bool{len(args) > 0, r.client != "", r.all} {
			if chosen {
				ways++
			}
		}
		if ways != 1 {
			return fmt.Errorf("say which tokens: their ids, or --client NAME, or --all")
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.ids = args
		return a.revokeTokens(cmd.Context(), r)
	}
	return cmd
}

// revokeTokens goes on after a failure, so that one token that is stuck leaves
// no other one working, and returns the first.
func (a *app) revokeTokens(ctx context.Context, r revocation) error {
	s, err := a.inPerson()
	if err != nil {
		return err
	}
	if len(r.ids) == 0 {
		list, err := s.Tokens(ctx)
		if err != nil {
			return err
		}
		for _, t := range list {
			if t.Revoked == nil && time.Now().Before(t.Expires) && (r.all || t.Client == r.client) {
				r.ids = append(r.ids, t.ID)
			}
		}
	}
	if len(r.ids) == 0 {
		a.screen.say("There is no token to revoke.")
	}
	var failed error
	for _, id := range r.ids {
		if _, err := s.RevokeToken(ctx, id, r.stop); err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		a.screen.say("%s is revoked.", clean(id))
	}
	return failed
}
