package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
)

// explanation is what a reason means and who can do something about it. In
// both sentences {job} is the job's id, {site} its site.
type explanation struct {
	what string
	who  string
}

// explanations has a row for every reason there is.
var explanations = map[hpcsera.Reason]explanation{
	hpcsera.WaitingForAgent: {"It waits for your agent at {site} to take it.",
		"You: see that hpcsera-agent runs at {site} (hpcsera-agent status there)."},
	hpcsera.WaitingForApproval: {"It waits for you to approve its code: new code runs only when its user signed it.",
		"You: decide it in the inbox of the Auth app, or hpcsera approve FILE with the local job file; or drop the job: hpcsera cancel {job}."},
	hpcsera.WaitingForDependency: {"It waits for other jobs to reach the state that it depends on.",
		"Nobody needs to: it goes on with them. hpcsera status shows each."},
	hpcsera.WaitingForResources: {"It is in the batch system's queue; the nodes it asks for are in use.",
		"Nobody needs to. It starts earlier if it asks for less, or for another queue."},
	hpcsera.WaitingForPriority: {"It is in the batch system's queue; other jobs are ahead of it.",
		"Nobody needs to. The site decides on priorities."},
	hpcsera.Throttled: {"A limit on jobs at a time, of the site or of your agent, holds it back.",
		"Nobody needs to: it goes on when others of your jobs end. The site's administrators set the limit."},
	hpcsera.SiteMaintenance: {"The site is in maintenance, or reserved for it before the job could end.",
		"The site's administrators; see the site's announcements. A shorter duration may fit before it."},
	hpcsera.NeverStarts: {"The batch system accepted it but says that it will never start as it is asked for.",
		"You: cancel it and ask for something that the queue has: hpcsera site show {site}."},
	hpcsera.HeldBySite: {"The site holds it.",
		"The site's administrators; the message is their reason."},
	hpcsera.RejectedByPolicy: {"The agent refused it: something in it is not within what was signed or what the site's policy allows.",
		"You, if it is what you asked for; the message says which field. Otherwise the site's administrators."},
	hpcsera.RejectedByScheduler: {"The batch system refused it; the message is its own sentence.",
		"You: change what it asks for, then run it anew. hpcsera site show {site} lists the queues."},
	hpcsera.ApprovalDenied: {"The request to approve its code was denied in the Auth app.",
		"You, if that was an error: hpcsera approve FILE, then hpcsera retry {job}."},
	hpcsera.ApprovalExpired: {"The approval of its code had ended when it was to start.",
		"You: hpcsera approve FILE, then hpcsera retry {job}."},
	hpcsera.ApprovalInvalid: {"The agent did not accept the approval: not for this job, or not signed by a key in the agent's trust file.",
		"You: hpcsera-agent trust list at {site} shows the keys; sign with one of them and retry: hpcsera retry {job}."},
	hpcsera.ApprovalWithdrawn: {"The approval of its code was withdrawn.",
		"You: hpcsera approve FILE, then hpcsera retry {job}."},
	hpcsera.RunsExhausted: {"The approval allowed a number of runs, and they are used up.",
		"You: hpcsera approve FILE with more --runs, then hpcsera retry {job}."},
	hpcsera.TokenRevoked: {"The token that submitted it was revoked, so it is held.",
		"You: release it with another token (hpcsera release {job}), or cancel it."},
	hpcsera.ExitNonzero: {"Its program ended with an exit code other than 0.",
		"You: hpcsera logs {job} shows what it wrote; then hpcsera retry {job}."},
	hpcsera.Signalled: {"Its program was ended by a signal.",
		"You: hpcsera logs {job} shows what it wrote last; a crash is the program's, a kill somebody's."},
	hpcsera.Timeout: {"It reached its time limit and the batch system ended it.",
		"You: ask for a longer duration (within the signed limit) and run it anew."},
	hpcsera.OutOfMemory: {"It used more memory than it asked for and was ended.",
		"You: ask for more memory (within the signed limit) and run it anew."},
	hpcsera.NodeFailure: {"A node that it ran on failed.",
		"You: hpcsera retry {job}; with requeue: true the site may do so by itself."},
	hpcsera.Preempted: {"The site took its nodes away for a job that goes first.",
		"You: hpcsera retry {job}; with requeue: true the site may do so by itself."},
	hpcsera.CancelledByUser: {"It was cancelled by its user.",
		"You: hpcsera retry {job} runs it anew."},
	hpcsera.CancelledBySite: {"Somebody at the site, or the batch system, cancelled it.",
		"You: ask the site's administrators why, then hpcsera retry {job}."},
	hpcsera.StageInFailed: {"Its files could not be brought to the site, so it did not start.",
		"You: the message says which file and why; then hpcsera retry {job}."},
	hpcsera.StageOutFailed: {"It ran, but its results could not be brought back.",
		"You: they are in its directory as long as that is kept; the message says what failed."},
	hpcsera.DependencyFailed: {"A job that it depends on can no longer reach the state it needs.",
		"You: mend that job, then hpcsera retry {job}."},
	hpcsera.LostByScheduler: {"The batch system no longer knows it, and it never started; that is certain.",
		"You: hpcsera retry {job} is safe."},
	hpcsera.OutcomeUnknown: {"It started, but how it ended cannot be known: it left no end record.",
		"You: look into its directory and its output before hpcsera retry {job}; it may have done its work."},
	hpcsera.AgentRemoved: {"Its agent was removed while it had the job.",
		"You: enrol an agent at {site}, then hpcsera retry {job}."},
}

// stateSentences say what a state means where there is no reason.
var stateSentences = map[hpcsera.State]explanation{
	hpcsera.Pending:   {"It was accepted and is about to go to your agent at {site}.", "Nobody needs to."},
	hpcsera.Held:      {"You hold it.", "You: hpcsera release {job}."},
	hpcsera.Staging:   {"Your agent at {site} prepares it: files, and the steps before the batch job.", "Nobody needs to."},
	hpcsera.Queued:    {"It is in the batch system's queue.", "Nobody needs to."},
	hpcsera.Running:   {"It runs.", "Nobody needs to. hpcsera logs -f {job} shows what it writes."},
	hpcsera.Finishing: {"Its program has ended; your agent brings the results back.", "Nobody needs to."},
	hpcsera.Succeeded: {"It succeeded.", "Nobody needs to. hpcsera fetch {job} brings its results here."},
	hpcsera.Failed:    {"It failed.", "You: hpcsera logs {job} shows what it wrote."},
	hpcsera.Cancelled: {"It was cancelled.", "You: hpcsera retry {job} runs it anew."},
}

func (a *app) explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "explain JOB",
		Short:             "Say what a job waits for and who can act next",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	form := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := a.connect(cmd.Context(), shortPatience)
		if err != nil {
			return err
		}
		job, err := s.Job(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		var site *hpcsera.Site
		if job.Site != "" && !job.State.Final() {
			// Without the site the job is explained all the same.
			if found, err := s.Site(cmd.Context(), job.Site); err == nil {
				site = &found
			}
		}
		e := explain(job, site, time.Now())
		return a.show(*form, e, func(w io.Writer) { e.write(w, a.screen) })
	}
	return cmd
}

// explained is the answer of explain.
type explained struct {
	Job       string         `json:"job"`
	State     hpcsera.State  `json:"state"`
	Reason    hpcsera.Reason `json:"reason,omitempty"`
	Message   string         `json:"message,omitempty"` // the batch system's own words
	Sentences []string       `json:"sentences"`
	Next      string         `json:"next"` // who can act, and how

	speaker string // of the message
}

// unproven is said of a job that was approved, and whose agent cannot know yet
// that the approval stands.
var unproven = explanation{"Its code is approved, and your agent at {site} does not start it yet: it cannot tell whether the approval stands. Its message says what is missing.",
	"Nobody, if it passes with the agent's next contact; else you: hpcsera-agent doctor at {site}."}

// explain says what a job waits for and who can act next. site may be nil.
func explain(job hpcsera.Job, site *hpcsera.Site, now time.Time) explained {
	row, ok := explanations[job.Reason]
	if !ok || job.State == hpcsera.Running || job.State == hpcsera.Finishing {
		row = stateSentences[job.State]
	}
	if job.Reason == hpcsera.WaitingForApproval && job.State == hpcsera.Staging {
		row = unproven
	}
	at := clean(first(job.Site, "any site"))
	e := explained{Job: job.ID, State: job.State, Reason: job.Reason, Message: job.Message}
	if e.speaker = "Its message"; job.Native != nil {
		e.speaker = "The batch system says"
	}
	e.Sentences = append(e.Sentences, fill(row.what, job.ID, at))
	e.Next = fill(row.who, job.ID, at)
	if job.Desired == hpcsera.DesiredHold && began(job.State) {
		e.Sentences = append(e.Sentences, heldTooLate)
	}
	switch {
	case job.State.Final():
		if job.Exit != nil && job.State != hpcsera.Succeeded {
			e.Sentences = append(e.Sentences, fmt.Sprintf("Its program ended with %s.", exitText(*job.Exit)))
		}
		return e
	case job.Desired == hpcsera.DesiredCancel:
		e.Sentences = append(e.Sentences, "Its cancellation was asked for and waits for your agent to carry it out.")
	case job.Desired == hpcsera.DesiredHold && job.State != hpcsera.Held && !began(job.State):
		e.Sentences = append(e.Sentences, "A hold was asked for and waits for your agent to carry it out.")
	}
	if job.Estimated != nil && job.State == hpcsera.Queued {
		e.Sentences = append(e.Sentences, "The batch system expects to start it at "+short(job.Estimated)+".")
	}
	about, next := aboutAgents(job, site, now)
	e.Sentences = append(e.Sentences, about...)
	if next != "" {
		e.Next = next
	}
	return e
}

// heldTooLate is said of a job that is to be held and began all the same.
const heldTooLate = "The hold came too late: it had begun."

// began reports whether a state shows that the program was started.
func began(s hpcsera.State) bool {
	return s == hpcsera.Running || s == hpcsera.Finishing || s == hpcsera.Succeeded
}

func fill(sentence, job, site string) string {
	return strings.NewReplacer("{job}", clean(job), "{site}", site).Replace(sentence)
}

// agentSilence is how long an agent may be silent before it is worth a word:
// one that runs always asks for work at least once a minute.
const agentSilence = 3 * time.Minute

// aboutAgents says what is known of the agents that could act on a job, and
// who must act instead when none does.
func aboutAgents(job hpcsera.Job, site *hpcsera.Site, now time.Time) (sentences []string, next string) {
	// Without an agent there is nobody to approve the code for.
	approval := job.Reason == hpcsera.WaitingForApproval && job.State == hpcsera.Pending
	if site == nil || approval && len(site.Agents) > 0 || job.Reason == hpcsera.WaitingForDependency || job.State == hpcsera.Held {
		return nil, ""
	}
	name := clean(site.Name)
	if site.Disabled {
		return []string{fmt.Sprintf("The site %s is drained by the server's operator: nothing new starts there.", name)}, "The operator of the server."
	}
	agents := 0
	for _, agent := range site.Agents {
		if job.Agent != "" && agent.ID != job.Agent {
			continue
		}
		agents++
		host := name
		if agent.Facts != nil && agent.Facts.Host != "" {
			host = clean(agent.Facts.Host)
		}
		switch {
		case now.After(agent.Expires):
			sentences = append(sentences, fmt.Sprintf("The enrolment of your agent at %s ended on %s.", name, short(&agent.Expires)))
			next = fmt.Sprintf("You: enrol the agent at %s again.", name)
		case agent.LastSeen == nil:
			sentences = append(sentences, fmt.Sprintf("Your agent at %s was enrolled but never seen.", name))
			next = fmt.Sprintf("You: start it on the login node of %s: hpcsera-agent run.", name)
		case agent.Facts != nil && agent.Facts.FromCron:
			sentences = append(sentences, fmt.Sprintf("Your agent on %s runs from cron: it was last seen %s and acts, on cancellations too, at its next run.",
				host, ago(*agent.LastSeen, now)))
		case now.Sub(*agent.LastSeen) > agentSilence:
			sentences = append(sentences, fmt.Sprintf("Your agent on %s was last seen %s. What the job does meanwhile shows when it is back.",
				host, ago(*agent.LastSeen, now)))
			next = fmt.Sprintf("You: start it again on %s: hpcsera-agent run.", host)
		default:
			sentences = append(sentences, fmt.Sprintf("Your agent on %s is there; it was seen %s.", host, ago(*agent.LastSeen, now)))
		}
	}
	if agents == 0 {
		return []string{fmt.Sprintf("You have no agent at %s, and only your own agent can take the job.", name)},
			fmt.Sprintf("You: enrol and start an agent on the login node of %s, or choose another site.", name)
	}
	return sentences, next
}

// write shows an explanation to a person.
func (e explained) write(w io.Writer, s *screen) {
	fmt.Fprintf(w, "%s is %s.\n", e.Job, clean(string(e.State)))
	for _, sentence := range e.Sentences {
		fmt.Fprintln(w, sentence)
	}
	if e.Message != "" {
		fmt.Fprintf(w, "%s: %s\n", e.speaker, clean(e.Message))
	}
	if e.Next != "" {
		fmt.Fprintf(w, "Who can act next: %s\n", e.Next)
	}
}
