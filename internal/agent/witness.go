package agent

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/syslog"
)

// witness tells the site, by this host's log, what starts in its user's name,
// and raises the alarm when the server sends what no honest one would. Neither
// can stop or delay a start: a host without a log is no reason not to work.
type witness struct {
	user string // at the server
	log  *slog.Logger
	host *syslog.Log
}

func newWitness(user, socket string, log *slog.Logger) *witness {
	return &witness{user: user, log: log, host: syslog.New(socket, "hpcsera-agent")}
}

// start tells of a submission that a batch system took.
func (w *witness) start(job, native string, v *policy.Verdict) {
	approval, signer := v.Statement.ID, v.Fingerprint
	if v.Kind == policy.ServersWord {
		approval, signer = "none", "none"
	}
	w.send(syslog.Info, "start", "user", w.user, "job", job, "code", v.Digest, "approval", approval, "signer", signer, "trust", string(v.Kind), "native", native)
}

// alarm tells of what only a broken server, or somebody in its place, sends.
func (w *witness) alarm(what string, args ...any) {
	w.log.Error("ALARM", append([]any{"what", what}, args...)...)
	w.send(syslog.Alert, "ALARM: "+what+":", append([]any{"user", w.user}, args...)...)
}

func (w *witness) send(p syslog.Priority, text string, args ...any) {
	var line strings.Builder
	line.WriteString(text)
	for i := 0; i+1 < len(args); i += 2 {
		value := fmt.Sprint(args[i+1])
		if value == "" || strings.ContainsAny(value, " \"=") {
			value = fmt.Sprintf("%q", value)
		}
		fmt.Fprintf(&line, " %v=%s", args[i], value)
	}
	if first, err := w.host.Send(p, line.String()); err != nil && first {
		w.log.Warn("this host's log cannot be told of starts; they go on", "error", err)
	}
}
