package session

import (
	"html/template"
	"strings"

	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// words are what our templates need besides the frame's functions.
var words = template.FuncMap{
	"browser":  browserName,
	"happened": happened,
	// A picture that we drew ourselves; templates would not take data otherwise.
	"picture": func(data string) template.URL {
		if !strings.HasPrefix(data, "data:image/png;base64,") {
			return ""
		}
		return template.URL(data)
	},
}

// browserName makes a short name of what a browser says of itself. Whatever is
// not known is shown as it came.
func browserName(agent string) string {
	known := func(list ...[2]string) string {
		for _, k := range list {
			if strings.Contains(agent, k[0]) {
				return k[1]
			}
		}
		return ""
	}
	// Most claim to be others as well: the order tells them apart.
	name := known([2]string{"Edg/", "Edge"}, [2]string{"Firefox/", "Firefox"}, [2]string{"Chrome/", "Chrome"}, [2]string{"Safari/", "Safari"})
	system := known([2]string{"Android", "Android"}, [2]string{"iPhone", "iPhone"}, [2]string{"iPad", "iPad"}, [2]string{"Windows", "Windows"},
		[2]string{"Mac OS X", "macOS"}, [2]string{"Linux", "Linux"})
	switch {
	case agent == "":
		return "Unknown browser"
	case name == "" || system == "":
		return page.Show(agent)
	}
	return name + " on " + system
}

// happened says what an audit line means to whom it is about.
func happened(l records.AuditLine) string {
	text, ok := map[string]string{
		"session.begin":    "Signed in",
		"session.end":      "Session ended",
		"session.refuse":   "Sign-in",
		"session.stepup":   "Second factor verified",
		"account.make":     "Account made",
		"account.renew":    "Account renewed",
		"account.mail":     "Mail address changed",
		"account.password": "Password changed",
		"account.disable":  "Account disabled",
		"account.enable":   "Account enabled",
		"factor.add":       "Factor added",
		"factor.remove":    "Factor removed",
		"factor.recovery":  "New recovery codes",
		"link.make":        "Link made",
	}[l.Action]
	if !ok {
		return page.Show(l.Action)
	}
	return text
}
