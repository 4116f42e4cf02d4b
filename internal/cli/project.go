package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

func (a *app) projectCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "project", Short: "Show your projects (after hpcsera login)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	list := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List your projects with their members", Args: cobra.NoArgs}
	form := outputFlag(list)
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.inPerson()
		if err != nil {
			return err
		}
		all, err := s.Projects(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(*form, hpcsera.ProjectList{Projects: all}, func(w io.Writer) {
			if len(all) == 0 {
				fmt.Fprintln(w, "You are in no project. Its owner, or the operator, takes you in.")
				return
			}
			rows := [][]string{{"PROJECT", "YOU ARE", "MEMBERS"}}
			for _, p := range all {
				var members []string
				for _, user := range slices.Sorted(maps.Keys(p.Members)) {
					members = append(members, clean(user)+" ("+clean(string(p.Members[user]))+")")
				}
				rows = append(rows, []string{clean(p.Name), clean(string(p.Members[s.profile.User])), strings.Join(members, ", ")})
			}
			columns(w, rows)
		})
	}
	cmd.AddCommand(list)
	return cmd
}

func (a *app) clientCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "client", Short: "Show the clients that tokens can be for (after hpcsera login)", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	list := &cobra.Command{Use: "list", Aliases: []string{"ls"}, Short: "List the clients", Args: cobra.NoArgs}
	form := outputFlag(list)
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := a.inPerson()
		if err != nil {
			return err
		}
		all, err := s.Clients(cmd.Context())
		if err != nil {
			return err
		}
		return a.show(*form, hpcsera.ClientList{Clients: all}, func(w io.Writer) {
			if len(all) == 0 {
				fmt.Fprintln(w, "There are no clients. The operator, or you on the server's pages, registers them.")
				return
			}
			rows := [][]string{{"CLIENT", "OWNER", ""}}
			for _, one := range all {
				note := ""
				if one.Disabled {
					note = "switched off by the operator"
				}
				rows = append(rows, []string{clean(one.Name), clean(first(one.Owner, "the operator")), note})
			}
			columns(w, rows)
		})
	}
	cmd.AddCommand(list)
	return cmd
}
