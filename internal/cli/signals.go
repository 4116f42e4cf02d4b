package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signals hands SIGINT and SIGTERM to whoever is in charge: at first to the
// program, which ends; while a job is watched, to the watcher, which cancels
// the job or asks.
type signals struct {
	mu      sync.Mutex
	handler func(os.Signal)
}

// interrupted is why a command ended that a signal stopped.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return fmt.Sprintf("stopped by a signal (%v).", i.signal) }

// catchSignals starts catching. By default a signal cancels with an
// interrupted error. stop ends it.
func catchSignals(cancel context.CancelCauseFunc) (s *signals, stop func()) {
	s = &signals{}
	s.handler = func(sig os.Signal) {
		number, _ := sig.(syscall.Signal)
		cancel(interrupted{number})
	}
	ch := make(chan os.Signal, 4)
	quit, ended := make(chan struct{}), make(chan struct{})
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer close(ended)
		for {
			select {
			case sig := <-ch:
				s.mu.Lock()
				handler := s.handler
				s.mu.Unlock()
				handler(sig)
			case <-quit:
				return
			}
		}
	}()
	return s, func() {
		signal.Stop(ch)
		close(quit)
		<-ended
	}
}

// take puts handler in charge until release is called. handler must not
// block.
func (s *signals) take(handler func(os.Signal)) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.handler
	s.handler = handler
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.handler = before
	}
}
