package cli

import (
	"context"
	"io"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// remarkSame says when an approval on file allows the same already. One more is
// no error: it begins to count anew.
func (a *app) remarkSame(ctx context.Context, s *session, local *localJob, f *signFlags) {
	st, err := a.statement(ctx, s, local, f)
	if err != nil {
		return // which is told when it is signed
	}
	text, err := st.Canonical()
	if err != nil {
		return
	}
	if st, err = approval.Parse(text); err != nil { // as one that was read, too
		return
	}
	list, err := s.Approvals(ctx, local.digest, "")
	if err != nil {
		return // not every token may see them
	}
	var valid []approval.Statement
	replaced := map[string]bool{f.replaces: true}
	for _, filed := range list {
		if o, err := approval.Parse(filed.Statement); err == nil && time.Now().Before(o.NotAfter) {
			valid = append(valid, o)
			replaced[o.Replaces] = true
		}
	}
	for _, o := range valid {
		if !replaced[o.ID] && reflect.DeepEqual(allowed(o), allowed(st)) {
			a.screen.say("%s allows the same already, until %s: their runs add up. --replaces %s ends it.", clean(o.ID), short(&o.NotAfter), clean(o.ID))
			return
		}
	}
}

// allowed is a statement without what differs between two that allow the same.
func allowed(st approval.Statement) approval.Statement {
	st.ID, st.Replaces, st.Runs, st.NotBefore, st.NotAfter = "", "", 0, time.Time{}, time.Time{}
	return st
}

func (a *app) approveCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "approve FILE",
		Short: "Approve code with your SSH key",
		Long: `Approve the code of a job file: build a statement about it from the files
here, show it, sign it with an SSH key, and file it. Jobs that wait for this
approval start. Nothing of what is signed is taken from the server.

The statement names the server by the URL that you use (--deployment where
your agents use another one), your agents by the thumbprints in the context
(or --agent), and the limits of the job file, or else what the job asks for.

What is filed with a token of one client counts for that client's jobs. For
those of others use a token of scope project, or the Auth app.`,
		Example: `  hpcsera approve job.yaml --sign-key ~/.ssh/id_ed25519 --valid 60d --runs 100`,
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeJobFiles,
	}
	run, sign := addRunFlags(cmd.Flags()), addSignFlags(cmd.Flags())
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		s, err := a.connect(ctx, shortPatience)
		if err != nil {
			return err
		}
		local, err := a.loadJob(args[0], run)
		if err != nil {
			return err
		}
		if local.digest == "" {
			return hpcsera.Errorf(hpcsera.InvalidField, "%s names code on the server, and what is not here cannot be signed.", args[0]).At("code").
				Hint("Approve the job file that the code came from.")
		}
		if !yes && !a.canAsk() && sign.key == "" {
			return hpcsera.Errorf(hpcsera.ApprovalRefused, "nobody is there to be asked.").
				Hint("Name the key to sign with, --sign-key KEYFILE, or say --yes for the context's.")
		}
		if err := a.handIn(ctx, s, local); err != nil {
			return err
		}
		a.remarkSame(ctx, s, local, sign)
		filed, err := a.signAndFile(ctx, s, local, sign, a.canAsk() && !yes)
		if err != nil {
			return err
		}
		return a.show(*form, filed, func(w io.Writer) {})
	}
	return cmd
}
