package web

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
)

// noEnd is the end of a cookie that lasts as long as the browser is open.
var noEnd = time.Time{}

// words are what our templates need besides the frame's functions.
func (s *Site) words() template.FuncMap {
	return template.FuncMap{
		"near":     func(t any) template.HTML { return near(s.cfg.Now(), t) },
		"happened": happened,
		"short":    short,
		"means":    func(r hpcsera.Role) string { return roleMeans[r] },
		"lines":    func(list []string) string { return strings.Join(list, ", ") },
		"bytes":    bytes,
		"nodeHas":  nodeHas,
		"howLong":  howLong,
		"spaced":   func(list string) string { return strings.ReplaceAll(list, ",", ", ") },
	}
}

// near tells a time by its distance, which needs no time zone; the whole time
// stands behind it.
func near(now time.Time, t any) template.HTML {
	at := page.Time(t)
	if at.IsZero() {
		return "never"
	}
	at = at.UTC()
	text := distance(at.Sub(now))
	return template.HTML(`<time datetime="` + at.Format(time.RFC3339) + `" title="` + at.Format("2 Jan 2006, 15:04") + ` UTC">` + text + `</time>`)
}

func distance(d time.Duration) string {
	past := d < 0
	d = d.Abs()
	text := ""
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{365 * 24 * time.Hour, "year"}, {24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		// Half a unit is rounded up, so that "in 30 days" is told right after a
		// choice of 30 days.
		n := int((d + unit.length/20) / unit.length)
		if n == 0 {
			continue
		}
		text = fmt.Sprintf("%d %s", n, unit.name)
		if n > 1 {
			text += "s"
		}
		break
	}
	switch {
	case text == "" && past:
		return "just now"
	case text == "":
		return "now"
	case past:
		return text + " ago"
	}
	return "in " + text
}

// bytes tells a size as people say it.
func bytes(n int64) string {
	size := float64(n)
	for _, unit := range []string{"bytes", "KiB", "MiB", "GiB", "TiB"} {
		if size < 1024 || unit == "TiB" {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", size), ".0") + " " + unit
		}
		size /= 1024
	}
	return ""
}

// short is the beginning of a digest, enough to tell two apart by eye.
func short(digest string) string {
	text := strings.TrimPrefix(digest, "sha256:")
	return text[:min(12, len(text))]
}

// roleMeans says what a role lets its bearer do.
var roleMeans = map[hpcsera.Role]string{
	hpcsera.GetJobStatus:    "read jobs, their events, logs and results",
	hpcsera.UpdateJobStatus: "add notes, progress and messages to jobs",
	hpcsera.GetJob:          "pull work: of use to agents only",
	hpcsera.PostCode:        "hand in new code, which runs when you approved it",
	hpcsera.GetCode:         "fetch code",
	hpcsera.PostJob:         "start jobs from code that is here",
	hpcsera.UpdateJob:       "hold, release and change jobs",
	hpcsera.DeleteJob:       "cancel jobs, and erase ended ones",
}

// happened says what an audit line means. What is not known is shown as it
// came.
func happened(action string) string {
	text, ok := map[string]string{
		"signin": "Signed in", "signin.stepup": "Second factor shown", "session.end": "Session ended", "endSession": "Session ended",
		"createToken": "Token made", "token.create": "Token made", "revokeToken": "Token revoked", "token.revoke": "Token revoked",
		"createAgent": "Agent enrolled", "extendAgent": "Enrolment renewed", "removeAgent": "Agent removed", "createSession": "hpcsera login",
		"createProject": "Project made", "project.create": "Project made", "setMember": "Membership changed",
		"createClient": "Client registered", "client.create": "Client registered", "changeClient": "Client changed", "enableClient": "Client may ask changed",
		"user.create": "User made", "site.create": "Site registered", "manageService": "Service changed",
	}[action]
	if !ok {
		return page.Show(action)
	}
	return text
}
