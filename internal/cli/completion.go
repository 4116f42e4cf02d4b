package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/client"
)

// completionTime bounds what pressing the tab key may take.
const completionTime = 2 * time.Second

// completeJobs offers the newest jobs. Whatever goes wrong, it offers none:
// there is no place to complain.
func (a *app) completeJobs(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	s, err := a.connect(ctx, 0)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	page, err := s.Jobs(ctx, client.JobQuery{Limit: 50})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []cobra.Completion
	for _, j := range page.Jobs {
		words = append(words, cobra.CompletionWithDesc(clean(j.ID), clean(j.Name)+" "+clean(string(j.State))))
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeSites offers the sites.
func (a *app) completeSites(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	s, err := a.connect(ctx, 0)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	sites, err := s.Sites(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []cobra.Completion
	for _, site := range sites {
		words = append(words, clean(site.Name))
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeJobFiles offers files that describe a job.
func completeJobFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"yaml", "yml", "sbatch"}, cobra.ShellCompDirectiveFilterFileExt
}
