package cli

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/hpcsera/hpcsera"
)

// input is standard input, read line by line for answers to questions.
type input struct {
	r     io.Reader
	tty   bool
	once  sync.Once
	lines chan string
}

func newInput(r io.Reader) *input { return &input{r: r, tty: isTerminal(r), lines: make(chan string)} }

// next returns the channel of lines, closed at the end of input. The one
// goroutine that reads is started by the first call; a read from a terminal
// cannot be taken back, so it ends with its input or with the process.
func (in *input) next() <-chan string {
	in.once.Do(func() {
		go func() {
			defer close(in.lines)
			lines := bufio.NewScanner(in.r)
			for lines.Scan() {
				in.lines <- lines.Text()
			}
		}()
	})
	return in.lines
}

// secret asks for a text without showing it.
func (a *app) secret(question string) ([]byte, error) {
	f, ok := a.input.r.(*os.File)
	if !ok || !a.input.tty {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "there is no terminal to ask on.")
	}
	a.screen.ask("%s", question)
	text, err := term.ReadPassword(int(f.Fd()))
	a.screen.say("")
	return text, err
}

// canAsk reports whether somebody is there to answer.
func (a *app) canAsk() bool { return a.input.tty && a.screen.errTTY }

// confirm asks a question that only a clear yes answers with true.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	a.screen.ask("%s [y/N] ", question)
	select {
	case line, ok := <-a.input.next():
		if !ok {
			a.screen.say("")
			return false, nil
		}
		answer := strings.ToLower(strings.TrimSpace(line))
		return answer == "y" || answer == "yes", nil
	case <-ctx.Done():
		a.screen.say("")
		return false, context.Cause(ctx)
	}
}
