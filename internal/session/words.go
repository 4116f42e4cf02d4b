package session

import (
	"html/template"
	"strings"

	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// words are what our templates need besides the frame's functions.
var words = template.FuncMap{
	"happened": happened,
	// A picture that we drew ourselves; templates would not take data otherwise.
	"picture": func(data string) template.URL {
		if !strings.HasPrefix(data, "data:image/png;base64,") {
			return ""
		}
		return template.URL(data)
	},
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
