package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// The streams of a job's output.
const (
	stdoutStream = "stdout"
	stderrStream = "stderr"
)

func (a *app) logsCommand() *cobra.Command {
	var follow, raw, onlyOut, onlyErr bool
	var attempt int
	cmd := &cobra.Command{
		Use:   "logs JOB",
		Short: "Show what a job wrote",
		Long: `Show what a job wrote: its standard output on standard output, its standard
error on standard error. A terminal shows control characters escaped.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on until the job has ended")
	f.BoolVar(&raw, "raw", false, "show bytes on a terminal as they are, escape sequences too")
	f.BoolVar(&onlyOut, "stdout", false, "standard output only")
	f.BoolVar(&onlyErr, "stderr", false, "standard error only")
	f.IntVar(&attempt, "attempt", 0, "an earlier start of a requeued job")
	cmd.MarkFlagsMutuallyExclusive("stdout", "stderr")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		patience := shortPatience
		if follow {
			patience = watchPatience
		}
		s, err := a.connect(cmd.Context(), patience)
		if err != nil {
			return err
		}
		var streams []string
		if !onlyErr {
			streams = append(streams, stdoutStream)
		}
		if !onlyOut {
			streams = append(streams, stderrStream)
		}
		return a.copyLogs(cmd.Context(), s, args[0], attempt, streams, follow, raw)
	}
	return cmd
}

// copyLogs writes streams of a job: followed ones together, others one after
// another so that each is in one piece.
func (a *app) copyLogs(ctx context.Context, s *session, job string, attempt int, streams []string, follow, raw bool) error {
	results := make(chan error, len(streams))
	one := func(stream string) error {
		sink := a.screen.sink(stream == stderrStream, raw)
		ref := client.LogRef{Job: job, Stream: stream, Attempt: attempt}
		copyTo := s.CopyLog
		if follow {
			copyTo = s.FollowLog
		}
		_, err := copyTo(ctx, ref, 0, sink)
		return errors.Join(err, sink.Close())
	}
	var err error
	for _, stream := range streams {
		if follow {
			go func() { results <- one(stream) }()
			continue
		}
		if err == nil {
			err = one(stream)
		}
	}
	if follow {
		for range streams {
			err = errors.Join(err, <-results)
		}
	}
	return err
}

// tail follows the output of one attempt of a job while it is watched.
type tail struct {
	cancel context.CancelFunc
	done   chan struct{}
	errs   []error
}

// startTail follows both streams of an attempt until the job has ended or
// went on to the next one.
func startTail(ctx context.Context, s *session, job hpcsera.Job, out, err io.Writer) *tail {
	ctx, cancel := context.WithCancel(ctx)
	t := &tail{cancel: cancel, done: make(chan struct{})}
	results := make(chan error, 2)
	for stream, w := range map[string]io.Writer{stdoutStream: out, stderrStream: err} {
		go func() {
			_, err := s.FollowLog(ctx, client.LogRef{Job: job.ID, Stream: stream, Attempt: job.Attempt}, 0, w)
			results <- err
		}()
	}
	go func() {
		defer close(t.done)
		defer cancel()
		t.errs = []error{<-results, <-results}
	}()
	return t
}

// wait returns when the output is all here, or when ctx ends.
func (t *tail) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return errors.Join(t.errs...)
	case <-ctx.Done():
		t.cancel()
		<-t.done
		return context.Cause(ctx)
	}
}
