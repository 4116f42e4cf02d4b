package approval

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Type is the first word of every statement about code. A statement of
// another type is none of ours.
const Type = "hpcsera-code-approval/v1"

// MaxValidity is the longest time between a statement's NotBefore and
// NotAfter.
const MaxValidity = 90 * 24 * time.Hour

// maxRuns keeps a run count exact in every JSON reader.
const maxRuns = 1_000_000_000

// Anyone in Clients or Submitters stands for all of them; it stands alone.
const Anyone = "*"

// Statement is a user's consent to one code part. All lists have at least one
// element and no element twice.
type Statement struct {
	ID         string         // ap_…, random
	Deployment string         // the server's URL, in the form of [Deployment]
	User       string         // whose rights the code gets
	Project    string         //
	Sites      []string       // names of sites where it may run
	Clients    []string       // clients that may trigger it, or Anyone
	Submitters []string       // users that may trigger it, or Anyone
	Agents     []string       // RFC 7638 thumbprints of the agents that may run it
	Code       string         // digest of the code part (hpcsera.Manifest.Digest)
	Name       string         // of the code part
	Replaces   string         // id of the approval that is dead from now on, or ""
	Schema     string         // digest of the parameters' schemas ([SchemaDigest])
	Limits     hpcsera.Limits // the ceiling for every job; see [hpcsera.Limits.Within]
	NotBefore  time.Time      // UTC, whole seconds
	NotAfter   time.Time      // UTC, whole seconds; not part of the time itself
	Runs       int            // how often each agent may start it
}

// thumbprintPattern is base64url of a SHA-256, without padding.
var thumbprintPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// validate checks what can be checked of a statement alone. The error's field
// is the member's name.
func (s Statement) validate() error {
	for _, c := range []struct {
		field, value string
		ok           bool
	}{
		{"id", s.ID, hpcsera.ValidID("ap", s.ID)},
		{"deployment", s.Deployment, validDeployment(s.Deployment)},
		{"user", s.User, hpcsera.ValidName(s.User)},
		{"project", s.Project, hpcsera.ValidName(s.Project)},
		{"code", s.Code, hpcsera.ValidDigest(s.Code)},
		{"name", s.Name, hpcsera.ValidName(s.Name)},
		{"replaces", s.Replaces, s.Replaces == "" || hpcsera.ValidID("ap", s.Replaces) && s.Replaces != s.ID},
		{"schema", s.Schema, hpcsera.ValidDigest(s.Schema)},
	} {
		if !c.ok {
			return refused("%q cannot stand here.", c.value).At(c.field)
		}
	}
	for _, c := range []struct {
		field  string
		list   []string
		valid  func(string) bool
		anyone bool
	}{
		{"sites", s.Sites, hpcsera.ValidName, false},
		{"clients", s.Clients, hpcsera.ValidName, true},
		{"submitters", s.Submitters, hpcsera.ValidName, true},
		{"agents", s.Agents, thumbprintPattern.MatchString, false},
	} {
		if err := validateList(c.list, c.valid, c.anyone); err != nil {
			return err.At(c.field)
		}
	}
	if s.Runs < 1 || s.Runs > maxRuns {
		return refused("%d is not a number of runs.", s.Runs).At("runs").Hint("At least one.")
	}
	if err := validateTimes(s.NotBefore, s.NotAfter); err != nil {
		return err
	}
	return validateLimits(s.Limits)
}

func validateList(list []string, valid func(string) bool, anyone bool) *hpcsera.Error {
	if len(list) == 0 {
		return refused("the list is empty; who or what is meant must be said.")
	}
	if anyone && len(list) == 1 && list[0] == Anyone {
		return nil
	}
	for i, s := range list {
		if !valid(s) {
			return refused("%q cannot stand here.", s)
		}
		if slices.Contains(list[:i], s) {
			return refused("%q appears twice.", s)
		}
	}
	return nil
}

func validateTimes(from, to time.Time) error {
	for field, t := range map[string]time.Time{"not_before": from, "not_after": to} {
		if !wholeUTC(t) {
			return refused("%v is not a time in UTC and whole seconds.", t).At(field)
		}
	}
	switch {
	case !to.After(from):
		return refused("it ends before it begins.").At("not_after")
	case to.Sub(from) > MaxValidity:
		return refused("it is valid for more than %d days.", MaxValidity/(24*time.Hour)).At("not_after")
	}
	return nil
}

func wholeUTC(t time.Time) bool {
	_, offset := t.Zone()
	return t.Nanosecond() == 0 && offset == 0 && t.Year() >= 2000 && t.Year() <= 9999
}

// validateLimits wants every limit that a number can express; an absent
// duration or memory means the site's own default, and nothing above it.
func validateLimits(l hpcsera.Limits) error {
	if l.NodeCount < 1 || l.NodeCount > 10_000_000 {
		return refused("%d is not a number of nodes.", l.NodeCount).At("limits.node_count")
	}
	if l.Duration < 0 || time.Duration(l.Duration)%time.Second != 0 {
		return refused("%v is not a duration in whole seconds.", l.Duration).At("limits.duration")
	}
	if l.Memory < 0 || l.Memory%1024 != 0 {
		return refused("%v is not an amount of memory in whole KiB.", l.Memory).At("limits.memory")
	}
	for field, words := range map[string][]string{"queue_names": l.QueueNames, "accounts": l.Accounts, "reservation_ids": l.ReservationIDs} {
		for i, w := range words {
			if !hpcsera.ValidWord(w) || slices.Contains(words[:i], w) {
				return refused("%q cannot stand here, or appears twice.", w).At("limits." + field)
			}
		}
	}
	return nil
}

// Deployment returns the one form of a server's URL that statements carry:
// scheme and host in lower case, no default port, no slash at the end, no
// /api/v1. Client and agent both derive it from the URL they were configured
// with, never from what the server says.
func Deployment(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return "", hpcsera.Errorf(hpcsera.InvalidField, "%q is not the URL of a server.", server).Hint("Write it as https://HOST[:PORT][/PATH].")
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	default:
		return "", hpcsera.Errorf(hpcsera.InvalidField, "%q is not the URL of a server.", server).Hint("Write it as https://HOST[:PORT][/PATH].")
	}
	below := path.Clean("/" + u.EscapedPath())
	below = strings.TrimSuffix(strings.TrimSuffix(below, "/api/v1"), "/")
	return scheme + "://" + host + below, nil
}

func validDeployment(s string) bool {
	form, err := Deployment(s)
	return err == nil && form == s
}

// refused is the error of everything that cannot be a statement or its
// signature.
func refused(format string, args ...any) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.ApprovalRefused, format, args...)
}
