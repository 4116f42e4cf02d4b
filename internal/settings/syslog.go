package settings

import (
	"log/slog"
	"log/syslog"
	"os"
)

// Notices takes lines that somebody else keeps: a host's log.
type Notices interface {
	Notice(line string) error
}

// Syslog opens the socket of the host's log that a setting names: "" is
// /dev/log where there is one, none is none. It is nil where there is none,
// which the program's own log is told: whatever goes there stands in it, too.
func Syslog(path, program string, log *slog.Logger) Notices {
	if path == "none" {
		return nil
	}
	if path == "" {
		path = "/dev/log"
		if _, err := os.Stat(path); err != nil {
			log.Warn("no syslog on this host; heads of the audit log stand in this log only")
			return nil
		}
	}
	w, err := syslog.Dial("unixgram", path, syslog.LOG_AUTH|syslog.LOG_NOTICE, program)
	if err != nil {
		log.Error("syslog cannot be used; heads of the audit log stand in this log only", "socket", path, "err", err)
		return nil
	}
	return w
}
