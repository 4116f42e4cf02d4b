package cli

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// screen is where a command speaks: standard output and standard error, each
// a terminal or not. Its methods may be called from many goroutines; a line
// of ours never lands in the middle of a line of a job's output.
type screen struct {
	mu     sync.Mutex
	out    io.Writer
	err    io.Writer
	outTTY bool
	errTTY bool
	colour bool // on standard error
	broken bool // the last byte shown on the terminal was no line end
}

func newScreen(out, err io.Writer, env map[string]string) *screen {
	s := &screen{out: out, err: err, outTTY: isTerminal(out), errTTY: isTerminal(err)}
	s.colour = s.errTTY && env["NO_COLOR"] == "" && env["TERM"] != "dumb"
	return s
}

// isTerminal reports whether w or r is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// say writes one line to standard error. Arguments must be clean; a token in
// them is not shown.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prompt(format+"\n", args...)
}

// ask writes a question to standard error without a line end.
func (s *screen) ask(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prompt(format, args...)
}

// prompt is ask for a caller that holds the lock, and so keeps everything
// else off the screen until it has its answer.
func (s *screen) prompt(format string, args ...any) {
	if s.broken && s.outTTY && s.errTTY {
		fmt.Fprintln(s.out)
	}
	s.broken = false
	fmt.Fprint(s.err, client.Redact(fmt.Sprintf(format, args...)))
}

// The colours of states, as ANSI attributes.
var stateColours = map[hpcsera.State]string{
	hpcsera.Succeeded: "32", hpcsera.Failed: "31", hpcsera.Cancelled: "33", hpcsera.Running: "36", hpcsera.Held: "33",
}

// state returns a state's name, coloured where standard error shows colours.
func (s *screen) state(state hpcsera.State) string {
	return s.paint(clean(string(state)), stateColours[state])
}

// bold returns text that should stand out, in clean form.
func (s *screen) bold(text string) string { return s.paint(clean(text), "1") }

// dim returns text that should stand back, in clean form.
func (s *screen) dim(text string) string { return s.paint(clean(text), "2") }

func (s *screen) paint(text, attribute string) string {
	if !s.colour || attribute == "" {
		return text
	}
	return "\x1b[" + attribute + "m" + text + "\x1b[0m"
}

// sink returns a writer for one stream of a job's output that goes to
// standard output or standard error. A terminal gets it escaped unless raw; a
// pipe gets the bytes as they are.
func (s *screen) sink(toErr, raw bool) io.WriteCloser {
	p := &port{screen: s, w: s.out, tty: s.outTTY}
	if toErr {
		p.w, p.tty = s.err, s.errTTY
	}
	if !p.tty || raw {
		return p
	}
	return &escapedSink{escaper{w: p}}
}

// port writes to one stream of a screen under its lock.
type port struct {
	screen *screen
	w      io.Writer
	tty    bool
}

func (p *port) Write(b []byte) (int, error) {
	p.screen.mu.Lock()
	defer p.screen.mu.Unlock()
	if p.tty && len(b) > 0 {
		p.screen.broken = b[len(b)-1] != '\n'
	}
	return p.w.Write(b)
}

func (p *port) Close() error { return nil }

type escapedSink struct{ escaper }

func (e *escapedSink) Close() error { return e.Flush() }
