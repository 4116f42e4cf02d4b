package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) codeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "code", Short: "Show code on the server", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(a.codeListCommand(), a.codeShowCommand())
	return cmd
}

func (a *app) codeListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List code, newest first", Args: cobra.NoArgs}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		list, err := s.CodeList(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(*form, hpcsera.CodeList{Code: list}, func(w io.Writer) {
			rows := [][]string{{"NAME", "DIGEST", "FILES", "FILED"}}
			for _, c := range list {
				rows = append(rows, []string{clean(c.Name), clean(c.Digest), fmt.Sprint(len(c.Manifest.Files)), short(&c.Created)})
			}
			columns(w, rows)
		})
	}
	return cmd
}

// shownCode is a code part with what the user consented to about it.
type shownCode struct {
	hpcsera.CodeEntry
	Approvals []hpcsera.Approval `json:"approvals"`
}

func (a *app) codeShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME|DIGEST",
		Short: "Show a code part and its approvals",
		Long:  "Show a code part and its approvals. A name shows the newest code part of that name.",
		Args:  cobra.ExactArgs(1),
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		digest := args[0]
		if !hpcsera.ValidDigest(digest) {
			list, err := s.CodeList(cmd.Context())
			if err != nil {
				return err
			}
			if digest = newest(list, args[0]); digest == "" {
				return hpcsera.Errorf(hpcsera.UnknownCode, "there is no code %q.", args[0]).Hint("hpcsera code list shows what there is.")
			}
		}
		entry, err := s.Code(cmd.Context(), digest)
		if err != nil {
			return err
		}
		approvals, err := s.Approvals(cmd.Context(), digest, "")
		if err != nil {
			return err
		}
		shown := shownCode{entry, approvals}
		return a.show(*form, shown, func(w io.Writer) { writeCode(w, shown, time.Now()) })
	}
	return cmd
}

// newest returns the digest of the newest code of a name; the list is newest
// first.
func newest(list []hpcsera.CodeEntry, name string) string {
	for _, c := range list {
		if c.Name == name {
			return c.Digest
		}
	}
	return ""
}

func writeCode(w io.Writer, c shownCode, now time.Time) {
	var approvals []string
	for _, p := range c.Approvals {
		state := "until " + short(&p.NotAfter)
		if now.After(p.NotAfter) {
			state = "ended " + short(&p.NotAfter)
		}
		approvals = append(approvals, clean(p.ID)+" "+state)
	}
	if len(approvals) == 0 {
		approvals = []string{"none: it does not run yet (hpcsera approve FILE)"}
	}
	facts(w, "name", clean(c.Name), "digest", clean(c.Digest), "filed", short(&c.Created),
		"approved", strings.Join(approvals, "\n"), "missing", strings.Join(c.Missing, "\n"))
	fmt.Fprintln(w)
	writeManifest(w, c.Manifest)
}
