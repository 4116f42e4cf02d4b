package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// signFlags say with which key and within which bounds code is signed.
type signFlags struct {
	key        string
	agents     []string
	sites      []string
	clients    []string
	submitters []string
	deployment string
	replaces   string
	valid      string
	runs       int
}

func addSignFlags(f *pflag.FlagSet) *signFlags {
	s := &signFlags{}
	f.StringVar(&s.key, "sign-key", "", "SSH key to sign new code with: a private key file, or a public one or SHA256:… whose private key the ssh-agent has")
	f.StringArrayVar(&s.agents, "agent", nil, "thumbprint of an agent that may run the code (the context's); may be repeated")
	f.StringSliceVar(&s.sites, "sites", nil, "sites where the code may run (the job's)")
	f.StringSliceVar(&s.clients, "clients", nil, "clients that may trigger it (all)")
	f.StringSliceVar(&s.submitters, "submitters", nil, "users that may trigger it (you)")
	f.StringVar(&s.deployment, "deployment", "", "URL by which the agents know the server, if it is another one")
	f.StringVar(&s.replaces, "replaces", "", "approval that ends with this one")
	f.StringVar(&s.valid, "valid", "", "how long the approval holds, such as 30d, at most 90d")
	f.IntVar(&s.runs, "runs", 0, fmt.Sprintf("how often each agent may start it (%d)", approval.DefaultRuns))
	return s
}

var thumbprint = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

func checkThumbprints(list []string) error {
	for _, t := range list {
		if !thumbprint.MatchString(t) {
			return usageError{fmt.Errorf("%q is no agent's thumbprint: it has 43 characters and is printed by hpcsera-agent status", t)}
		}
	}
	return nil
}

// statement builds what is to be signed about local code, from the local
// files and the user's own settings. Of the server's word it takes the user's
// and the project's name, where the settings have none: an agent refuses a
// statement that names others than the job's, so a lie gains nothing.
func (a *app) statement(ctx context.Context, s *session, local *localJob, f *signFlags) (approval.Statement, error) {
	agents := f.agents
	if len(agents) == 0 {
		agents = s.profile.Agents
	}
	sites := f.sites
	if len(sites) == 0 {
		sites = local.Spec.Site.Names()
	}
	switch {
	case len(agents) == 0:
		return approval.Statement{}, hpcsera.Errorf(hpcsera.ApprovalRefused, "it is not known which agents may run the code.").At("agents").
			Hint("hpcsera-agent status prints the thumbprint on the site; give it with --agent, or keep it: hpcsera context add NAME --replace --agent THUMBPRINT.")
	case len(sites) == 0:
		return approval.Statement{}, hpcsera.Errorf(hpcsera.ApprovalRefused, "it is not known at which site the code may run.").At("sites").
			Hint("Name it: --site SITE, or site: in the job file.")
	}
	if err := checkThumbprints(agents); err != nil {
		return approval.Statement{}, err
	}
	o := approval.Options{
		Deployment: first(f.deployment, s.profile.Deployment, s.Server()), User: s.profile.User, Project: s.profile.Project,
		Sites: sites, Agents: agents, Clients: f.clients, Submitters: f.submitters, Replaces: f.replaces, Runs: f.runs,
	}
	if f.valid != "" {
		d, err := hpcsera.ParseDuration(f.valid)
		if err != nil {
			return approval.Statement{}, usageError{fmt.Errorf("--valid: %w", err)}
		}
		o.Validity = time.Duration(d)
	}
	if o.User == "" || o.Project == "" {
		self, err := s.Self(ctx)
		if err != nil {
			return approval.Statement{}, err
		}
		o.User, o.Project = first(o.User, self.User), first(o.Project, self.Project)
	}
	run, others := local.everywhere()
	o.Elsewhere = others
	return approval.ForManifest(local.Spec.Manifest, run, o)
}

// signAndFile signs a statement and files it. Where ask is set somebody is at
// the terminal and must say yes; otherwise a key was named for it.
func (a *app) signAndFile(ctx context.Context, s *session, local *localJob, f *signFlags, ask bool) (hpcsera.Approval, error) {
	st, err := a.statement(ctx, s, local, f)
	if err != nil {
		return hpcsera.Approval{}, err
	}
	from := approval.KeySource{Agent: a.env["SSH_AUTH_SOCK"]}
	if a.canAsk() {
		from.Passphrase = func(path string) ([]byte, error) { return a.secret("Passphrase of " + clean(path) + ": ") }
	}
	var text strings.Builder
	writeStatement(&text, st, local)
	a.screen.say("%s", strings.TrimSuffix(text.String(), "\n"))
	signer, err := approval.LoadSigner(ctx, first(f.key, s.profile.SignKey), from)
	if err != nil {
		return hpcsera.Approval{}, err
	}
	key := ssh.FingerprintSHA256(signer.PublicKey())
	if ask {
		yes, err := a.confirm(ctx, fmt.Sprintf("Sign this with the key %s?", key))
		if err != nil {
			return hpcsera.Approval{}, err
		}
		if !yes {
			return hpcsera.Approval{}, errNotSigned
		}
	}
	if approval.IsSecurityKey(signer.PublicKey()) {
		a.screen.say("Touch your security key.")
	}
	armored, err := approval.SignSSH(signer, st)
	if err != nil {
		return hpcsera.Approval{}, err
	}
	bytes, err := st.Canonical()
	if err != nil {
		return hpcsera.Approval{}, err
	}
	filed, err := s.FileApproval(ctx, bytes, armored)
	if err != nil {
		return hpcsera.Approval{}, err
	}
	a.screen.say("approved as %s with the key %s, until %s", st.ID, key, short(&st.NotAfter))
	return filed, nil
}

// errNotSigned says that the user was asked and declined.
var errNotSigned = &exitError{code: exitRefused, text: "it was not signed."}

// writeStatement shows what is to be signed: all that decides what could run.
func writeStatement(w io.Writer, st approval.Statement, local *localJob) {
	fmt.Fprintln(w, "This code is to be approved:")
	facts(w,
		"  name", clean(st.Name),
		"  digest", st.Code,
		"  runs", clean(programText(local.Spec.Manifest)),
		"  files", fileList(local.Spec.Manifest, 40),
		"  software", softwareText(local.Spec.Modules, local.Spec.SpackEnvironment),
		"  container", containerText(local.Spec.Container),
		"  environment", pairsText(local.Spec.Environment),
		"  differs", sitesText(local.Spec.Sites),
		"  parameters", clean(strings.Join(parameterNames(local.Spec.Manifest), ", ")),
		"  artifacts", artifactPatterns(local.Spec.Manifest),
		"  custom", pairsText(local.Spec.CustomAttributes),
		"  limits", limitsText(st.Limits),
		"  sites", clean(strings.Join(st.Sites, ", ")),
		"  agents", strings.Join(cleaned(st.Agents), "\n"),
		"  for", fmt.Sprintf("user %s, project %s, at %s", clean(st.User), clean(st.Project), clean(st.Deployment)),
		"  triggered by", fmt.Sprintf("users %s; clients %s", anyone(st.Submitters), anyone(st.Clients)),
		"  replaces", st.Replaces,
		"  until", fmt.Sprintf("%s, at most %s on each agent", short(&st.NotAfter), plural(st.Runs, "run")),
	)
}

func cleaned(list []string) []string {
	var all []string
	for _, s := range list {
		all = append(all, clean(s))
	}
	return all
}

func anyone(list []string) string {
	if slices.Equal(list, []string{approval.Anyone}) {
		return "all"
	}
	return clean(strings.Join(list, ", "))
}

// limitsText shows signed limits; an absent one allows the site's default.
func limitsText(l hpcsera.Limits) string {
	words := []string{plural(l.NodeCount, "node")}
	add := func(name, value string) {
		words = append(words, name+" "+value)
	}
	if l.Duration > 0 {
		add("duration", l.Duration.String())
	} else {
		add("duration", "the site's default")
	}
	if l.Memory > 0 {
		add("memory", l.Memory.String())
	} else {
		add("memory", "the site's default")
	}
	for name, list := range map[string][]string{"queues": l.QueueNames, "accounts": l.Accounts, "reservations": l.ReservationIDs} {
		if len(list) > 0 {
			add(name, clean(strings.Join(list, " ")))
		}
	}
	if l.Requeue {
		add("requeue", "allowed")
	}
	slices.Sort(words[3:])
	return strings.Join(words, ", ")
}

// programText says in a line what code runs.
func programText(m hpcsera.Manifest) string {
	one := func(p hpcsera.Program) string {
		switch {
		case p.Script != "":
			return fmt.Sprintf("a script of %s", plural(strings.Count(strings.TrimSuffix(p.Script, "\n"), "\n")+1, "line"))
		case p.ScriptFile != "":
			return strings.TrimSpace(p.ScriptFile + " " + strings.Join(p.Arguments, " "))
		}
		text := strings.TrimSpace(p.Executable + " " + strings.Join(p.Arguments, " "))
		if p.Launcher == "mpi" {
			text += " (by the site's MPI launcher)"
		}
		return text
	}
	if len(m.Steps) == 0 {
		return one(m.Program)
	}
	var steps []string
	for _, s := range m.Steps {
		steps = append(steps, fmt.Sprintf("%s (%s): %s", s.Name, s.Type, one(s.Program)))
	}
	return strings.Join(steps, "; ")
}

// softwareText says what of the site's software code needs.
func softwareText(modules []string, spack string) string {
	switch {
	case len(modules) > 0:
		return "modules " + clean(strings.Join(modules, " "))
	case spack != "":
		return "Spack environment " + clean(spack)
	}
	return ""
}

// sitesText says what code is at some sites in place of what it is elsewhere.
func sitesText(sites map[string]hpcsera.SiteCode) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		c := sites[name]
		lines = append(lines, "at "+clean(name)+":")
		for _, fact := range [][2]string{
			{"runs ", clean(c.Executable)}, {"launcher ", clean(c.Launcher)}, {"", softwareText(c.Modules, c.SpackEnvironment)},
			{"container ", containerText(c.Container)}, {"environment ", pairsText(c.Environment)},
		} {
			if fact[1] != "" {
				lines = append(lines, "  "+strings.ReplaceAll(fact[0]+fact[1], "\n", "\n    "))
			}
		}
	}
	return strings.Join(lines, "\n")
}

// containerText shows an image and what it sees of the site.
func containerText(c *hpcsera.Container) string {
	if c == nil {
		return ""
	}
	lines := []string{clean(c.Image)}
	for _, m := range c.Mounts {
		lines = append(lines, "mounts "+clean(m))
	}
	if c.Credential != "" {
		lines = append(lines, "fetched with the agent's credential "+clean(c.Credential))
	}
	return strings.Join(lines, "\n")
}

// fileList shows a manifest's files, at most limit of them one by one.
func fileList(m hpcsera.Manifest, limit int) string {
	var lines []string
	for i, f := range m.Files {
		if i == limit {
			lines = append(lines, fmt.Sprintf("and %s more; the digest covers them", plural(len(m.Files)-limit, "file")))
			break
		}
		lines = append(lines, fmt.Sprintf("%s %s, %s, sha256 %s…", f.Mode, clean(f.Path), size(f.Size), f.SHA256[:min(16, len(f.SHA256))]))
	}
	return strings.Join(lines, "\n")
}

func parameterNames(m hpcsera.Manifest) []string {
	var names []string
	for name := range m.Parameters {
		names = append(names, name)
	}
	return sorted(names)
}

func artifactPatterns(m hpcsera.Manifest) string {
	var patterns []string
	for _, p := range m.Artifacts {
		patterns = append(patterns, clean(p.Path))
	}
	return strings.Join(patterns, " ")
}

// writeManifest shows a code part to a person, its scripts included.
func writeManifest(w io.Writer, m hpcsera.Manifest) {
	facts(w, "runs", clean(programText(m)), "files", fileList(m, 1000), "software", softwareText(m.Modules, m.SpackEnvironment),
		"container", containerText(m.Container), "environment", pairsText(m.Environment),
		"differs", sitesText(m.Sites), "artifacts", artifactPatterns(m), "custom", pairsText(m.CustomAttributes))
	for _, name := range parameterNames(m) {
		fmt.Fprintf(w, "parameter %s: %s\n", clean(name), clean(string(m.Parameters[name])))
	}
	for _, step := range m.Plan() {
		if step.Script != "" {
			fmt.Fprintf(w, "\nscript of %s:\n%s\n", clean(step.Name), cleanLines(strings.TrimSuffix(step.Script, "\n")))
		}
	}
}
