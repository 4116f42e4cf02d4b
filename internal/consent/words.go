package consent

import (
	"html/template"

	"github.com/hpcsera/hpcsera/internal/page"
)

// words are what our templates need besides the frame's functions.
var words = template.FuncMap{"happened": happened}

// happened says for people what an audit line's action is. One that has no
// words here is shown as it is.
func happened(action string) string {
	if text, ok := happenings[action]; ok {
		return text
	}
	return page.Show(action)
}

var happenings = map[string]string{
	"account.make": "Account made", "account.renew": "Account renewed", "account.mail": "Mail address changed", "account.password": "Password changed",
	"account.disable": "Account disabled", "account.enable": "Account enabled", "link.make": "Link made",
	"factor.add": "Factor added", "factor.remove": "Factor removed", "factor.recovery": "Recovery codes made",
	"session.begin": "Signed in", "session.refuse": "Sign-in", "session.stepup": "Second factor shown", "session.end": "Session ended", "session.ended": "Session ended",
	"deployment.sign-in": "Signed in at a server", "deployment.add": "Server registered", "deployment.remove": "Server removed",
	"request.post": "You were asked", "request.allow": "Request allowed", "request.deny": "Request denied", "request.cancel": "Request taken back",
	"client.mute": "Client muted", "client.unmute": "Client unmuted", "code.type": "Code typed",
	"code.sign": "Code approved", "code.filed": "Code approved elsewhere", "code.withdraw": "Approval withdrawn",
	"code-key.add": "Passkey for code registered", "code-key.remove": "Passkey for code removed",
}
