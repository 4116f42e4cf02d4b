package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// SiteFiles is where the site's own files are, and whose they must be. No
// setting and no environment variable of the user's leads elsewhere. The zero
// value is a site without files.
type SiteFiles struct {
	Dir   string
	Owner int // user id
}

// SystemFiles are those of this system: /etc/hpcsera, root's.
func SystemFiles() SiteFiles { return SiteFiles{Dir: "/etc/hpcsera"} }

// Settings is the site's part of the agent's settings.
const Settings = "agent.yaml"

// Site is policy.yaml: what the site's administrators forbid, whoever signed.
// It only ever tightens. What is absent does not restrict; an empty list
// allows nothing.
type Site struct {
	Mode     Mode               `json:"mode,omitempty"`
	Message  string             `json:"message,omitempty"`   // shown with the jobs that Mode stops
	Servers  []Server           `json:"servers,omitempty"`   // API servers that agents may work for
	AuthApps []string           `json:"auth_apps,omitempty"` // whose passkeys and status lists count
	Users    []string           `json:"users,omitempty"`     // accounts on this system that may run agents
	Trust    []Kind             `json:"trust,omitempty"`     // kinds of signatures that count
	Steps    []hpcsera.StepType `json:"step_types,omitempty"`
	Hosts    []string           `json:"hosts,omitempty"` // that transfers may reach; this version has none
	Queues   []string           `json:"queues,omitempty"`
	Accounts []string           `json:"accounts,omitempty"`
	Caps     SiteCaps           `json:"caps,omitzero"`
	// MinVersion is the oldest agent that may start jobs.
	MinVersion string `json:"min_agent_version,omitempty"`
}

// Mode is the site's kill switch.
type Mode string

// The modes.
const (
	Normal Mode = ""
	Drain  Mode = "drain"  // nothing starts; what runs goes on
	Cancel Mode = "cancel" // and what runs is cancelled
)

// Server is an API server that the site allows.
type Server struct {
	URL string `json:"url"`
	// Pins are SHA-256 of keys (SubjectPublicKeyInfo), in base64. One of them
	// must be in the chain that the server shows.
	Pins []string `json:"tls_pins,omitempty"`
}

// SiteCaps are the highest numbers that count, whatever was signed.
type SiteCaps struct {
	Runs      int              `json:"runs,omitempty"`     // of one approval
	Validity  hpcsera.Duration `json:"validity,omitempty"` // of an approval, from its beginning to its end
	NodeCount int              `json:"node_count,omitempty"`
	Duration  hpcsera.Duration `json:"duration,omitempty"`
	Memory    hpcsera.Bytes    `json:"memory,omitempty"`
}

const policyFile = "policy.yaml"

// Policy reads the site's policy. A file that is not there forbids nothing;
// one that cannot be read, or that others than its owner could have written,
// makes every job wait: it may forbid anything.
func (f SiteFiles) Policy() (*Site, error) { return f.policy(nil) }

func (f SiteFiles) policy(m *Memory) (*Site, error) {
	text, err := f.Read(policyFile)
	if err == nil && text == nil {
		return &Site{}, nil
	}
	var s *Site
	if err == nil {
		path := filepath.Join(f.Dir, policyFile)
		s, err = remembered(m, "policy", func() (*Site, error) { return parseSite(path, text) }, []byte(path), text)
	}
	if err != nil {
		return nil, wait(hpcsera.HeldBySite, "the site's policy cannot be used, so nothing starts: %w", err)
	}
	return s, nil
}

func parseSite(path string, text []byte) (*Site, error) {
	s := &Site{}
	doc, err := strictyaml.Parse(path, text)
	if err == nil {
		err = doc.Decode(s)
	}
	if err == nil {
		err = doc.Locate(s.validate())
	}
	return s, err
}

// Read returns a file of the site's, nil where there is none. It refuses one
// that others than the owner of the site's files can write, or put in place.
func (f SiteFiles) Read(name string) ([]byte, error) {
	if f.Dir == "" {
		return nil, nil
	}
	path := filepath.Join(f.Dir, name)
	if err := f.ownedOnly(f.Dir)(os.Stat(f.Dir)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat() // of what was opened, whatever the name means by now
	if err := f.ownedOnly(path)(info, err); err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return nil, hpcsera.Errorf(hpcsera.Unavailable, "%s is not a small plain file.", path)
	}
	text := make([]byte, info.Size())
	n, err := file.ReadAt(text, 0)
	if err != nil && n < len(text) {
		return nil, err
	}
	return text, nil
}

func (f SiteFiles) ownedOnly(path string) func(fs.FileInfo, error) error {
	return func(info fs.FileInfo, err error) error {
		if err != nil {
			return err
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != f.Owner {
			return hpcsera.Errorf(hpcsera.Unavailable, "%s does not belong to the site (user id %d).", path, f.Owner)
		}
		if info.Mode().Perm()&0o022 != 0 {
			return hpcsera.Errorf(hpcsera.Unavailable, "%s can be written by others (mode %04o).", path, info.Mode().Perm())
		}
		return nil
	}
}

func (s *Site) validate() error {
	if s.Mode != Normal && s.Mode != Drain && s.Mode != Cancel {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a mode.", s.Mode).At("mode").Hint("Use drain or cancel.")
	}
	for _, server := range s.Servers {
		if _, err := approval.Deployment(server.URL); err != nil {
			return hpcsera.Errorf(hpcsera.InvalidField, "%w", err).At("servers")
		}
		for _, pin := range server.Pins {
			if b, err := base64.StdEncoding.DecodeString(pin); err != nil || len(b) != sha256.Size {
				return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the SHA-256 of a key in base64.", pin).At("servers")
			}
		}
	}
	for _, app := range s.AuthApps {
		if form, err := approval.Deployment(app); err != nil || form != app {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the URL of an Auth app.", app).At("auth_apps")
		}
	}
	for _, k := range s.Trust {
		if !slices.Contains(Kinds, k) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a kind of trust.", k).At("trust").Hint("Use sk, passkey, plain or server.")
		}
	}
	for _, step := range s.Steps {
		if step != hpcsera.LoginStep && step != hpcsera.BatchStep {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a type of step.", step).At("step_types").Hint("Use login or batch.")
		}
	}
	if _, ok := versionNumbers(s.MinVersion); s.MinVersion != "" && !ok {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a version.", s.MinVersion).At("min_agent_version").Hint("Write it as 1.2.3.")
	}
	return nil
}

// allow holds a job that is as signed against the policy.
func (s *Site) allow(v *Verdict, r hpcsera.RunPart, in Context, app *AuthApp) error {
	if err := s.open(in); err != nil {
		return err
	}
	if app != nil && s.AuthApps != nil && !slices.Contains(s.AuthApps, app.Issuer) {
		return wait(hpcsera.HeldBySite, "the site does not allow the Auth app %s (%s), which the trust file pins.", app.Issuer, policyFile)
	}
	if s.Caps.Runs > 0 && v.Kind != ServersWord {
		v.Runs = min(v.Runs, s.Caps.Runs)
	}
	return s.job(v, r)
}

// open says why no job may start here for the time being.
func (s *Site) open(in Context) error {
	if s.Mode != Normal {
		message := s.Message
		if message == "" {
			message = "The site lets nothing start for now (mode " + string(s.Mode) + ")."
		}
		return wait(hpcsera.SiteMaintenance, "%s", message)
	}
	if s.Servers != nil && s.server(in.Deployment) == nil {
		return wait(hpcsera.HeldBySite, "the site does not allow the server %s (%s).", in.Deployment, policyFile)
	}
	if s.Users != nil && !slices.Contains(s.Users, in.Account) {
		return wait(hpcsera.HeldBySite, "the site does not allow agents of the account %s (%s).", in.Account, policyFile)
	}
	if s.MinVersion != "" && !atLeast(in.Version, s.MinVersion) {
		return wait(hpcsera.HeldBySite, "this agent is version %s, and the site asks for %s at least. Install a newer one.", in.Version, s.MinVersion)
	}
	return nil
}

// server returns the entry for a server's URL.
func (s *Site) server(url string) *Server {
	form, err := approval.Deployment(url)
	for i := range s.Servers {
		if own, ownErr := approval.Deployment(s.Servers[i].URL); err == nil && ownErr == nil && own == form {
			return &s.Servers[i]
		}
	}
	return nil
}

// job holds a job against the lists and the caps. What a job leaves to the
// batch system's defaults, a list cannot allow.
func (s *Site) job(v *Verdict, r hpcsera.RunPart) error {
	deny := func(format string, args ...any) error {
		return &Refusal{Reason: hpcsera.RejectedByPolicy, Err: hpcsera.Errorf(hpcsera.LimitExceeded, "the site's policy: "+format, args...)}
	}
	if s.Trust != nil && !slices.Contains(s.Trust, v.Kind) {
		return deny("code approved by %s does not run here.", kindWords[v.Kind])
	}
	if s.AuthApps != nil && v.Kind == Passkey && !slices.Contains(s.AuthApps, v.Origin) {
		return deny("passkeys of %s do not count here.", v.Origin)
	}
	if end := v.Statement.NotAfter.Sub(v.Statement.NotBefore); s.Caps.Validity > 0 && end > time.Duration(s.Caps.Validity) {
		return deny("the approval is valid for %v, and %v is allowed.", hpcsera.Duration(end), s.Caps.Validity)
	}
	batch := false
	all := []hpcsera.Resources{r.Resources}
	for _, step := range v.Manifest.Plan() {
		if s.Steps != nil && !slices.Contains(s.Steps, step.Type) {
			return deny("steps of type %s do not run here.", step.Type)
		}
		batch = batch || step.Type == hpcsera.BatchStep
		if step.Resources != nil {
			all = append(all, *step.Resources)
		}
	}
	for _, c := range []struct {
		what, word string
		list       []string
	}{{"queue", r.Attributes.QueueName, s.Queues}, {"account", r.Attributes.Account, s.Accounts}} {
		if batch && c.list != nil && !slices.Contains(c.list, c.word) {
			return deny("%q is not an allowed %s; name one of: %s.", c.word, c.what, strings.Join(c.list, ", "))
		}
	}
	for _, res := range all {
		if s.Caps.NodeCount > 0 && res.Nodes() > s.Caps.NodeCount {
			return deny("%d nodes exceed %d.", res.Nodes(), s.Caps.NodeCount)
		}
		if s.Caps.Memory > 0 && res.Memory > s.Caps.Memory {
			return deny("%v of memory exceed %v.", res.Memory, s.Caps.Memory)
		}
	}
	if s.Caps.Duration > 0 && r.Attributes.Duration > s.Caps.Duration {
		return deny("a duration of %v exceeds %v.", r.Attributes.Duration, s.Caps.Duration)
	}
	return nil
}

var kindWords = map[Kind]string{
	SecurityKey: "a security key", Passkey: "a passkey", Plain: "a plain key", ServersWord: "nobody but the server",
}

// atLeast compares versions. One that has no numbers, such as that of a
// developer's build, is none at all.
func atLeast(version, least string) bool {
	have, ok := versionNumbers(version)
	want, _ := versionNumbers(least)
	return ok && slices.Compare(have, want) >= 0
}

// versionNumbers reads 1.2.3, with or without v before and words behind.
func versionNumbers(s string) ([]int, bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "-")
	var numbers []int
	for _, part := range strings.Split(s, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}

// VerifyConnection returns the check of a server's certificates against the
// site's pins, for tls.Config. The policy is read for each connection. While it
// cannot be read the connection stands, since nothing starts anyway and the
// jobs have to say why.
func (f SiteFiles) VerifyConnection(server string) func(tls.ConnectionState) error {
	return func(c tls.ConnectionState) error {
		s, err := f.Policy()
		if err != nil {
			return nil
		}
		entry := s.server(server)
		if entry == nil || entry.Pins == nil {
			return nil
		}
		// Of the verified chains only: beside them a server can show any
		// certificate, also one whose key it does not have.
		for _, certificate := range slices.Concat(c.VerifiedChains...) {
			sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
			if slices.Contains(entry.Pins, base64.StdEncoding.EncodeToString(sum[:])) {
				return nil
			}
		}
		return hpcsera.Errorf(hpcsera.Unavailable, "the server %s shows a key that the site's policy does not pin: somebody may be in between.", server)
	}
}
