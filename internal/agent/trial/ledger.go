package trial

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Command is a command of the batch system that was run, or several like it
// that followed each other.
type Command struct {
	During  string   `json:"during"` // the check or case
	Argv    []string `json:"argv"`
	Exit    int      `json:"exit"`               // -1 of one that was killed or never ran
	StandIn bool     `json:"stand_in,omitempty"` // a program of the suite's in the place of the command
	Error   string   `json:"error,omitempty"`
	Times   int      `json:"times"`
	Seconds float64  `json:"seconds"` // all together
}

// Ledger keeps which commands were run. It is safe for concurrent use.
type Ledger struct {
	Record *Recording // gets each of them but stand-ins; nil for none
	Dir    string     // the trial's, where its stand-ins lie

	mu       sync.Mutex
	during   string
	commands []Command
}

// Begin says what the next commands are run for.
func (l *Ledger) Begin(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.during = name
}

// Seen is a scheduler.Config's.
func (l *Ledger) Seen(ran scheduler.Ran) {
	l.mu.Lock()
	defer l.mu.Unlock()
	standIn := l.Dir != "" && strings.HasPrefix(ran.Path, l.Dir+"/")
	if l.Record != nil && !standIn {
		l.Record.add(ran)
	}
	c := Command{During: l.during, Argv: ran.Argv, StandIn: standIn, Exit: ran.Output.Exit, Times: 1, Seconds: ran.Took.Round(time.Millisecond).Seconds()}
	if ran.Err != nil {
		c.Error = ran.Err.Error()
	}
	if n := len(l.commands); n > 0 && l.commands[n-1].like(c) {
		l.commands[n-1].Times++
		l.commands[n-1].Seconds += c.Seconds
		return
	}
	l.commands = append(l.commands, c)
}

func (c Command) like(o Command) bool {
	return c.During == o.During && c.Exit == o.Exit && c.StandIn == o.StandIn && c.Error == o.Error && slices.Equal(c.Argv, o.Argv)
}

// Commands returns what was run so far.
func (l *Ledger) Commands() []Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.commands)
}
