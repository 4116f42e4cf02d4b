package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) whoamiCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "whoami",
		Short: "Show what the token is and lets its bearer do",
		Args:  cobra.NoArgs,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		self, err := s.Self(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(*form, self, func(w io.Writer) {
			facts(w,
				"server", clean(s.Server()),
				"context", clean(s.name),
				"token", clean(self.ID)+", from "+clean(s.from),
				"user", clean(self.User),
				"project", clean(self.Project),
				"client", clean(self.Client),
				"site", clean(first(self.Site, "any")),
				"scope", clean(string(self.Scope)),
				"roles", strings.ReplaceAll(self.Roles.String(), ",", ", "),
				"ends", short(&self.Expires),
			)
		})
	}
	return cmd
}
