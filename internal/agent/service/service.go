// Package service has the agent started by this host: as a user unit of systemd,
// or by a line in the user's crontab. It changes nothing of the user's but what
// it wrote itself, can be repeated, and takes it all back.
package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Kind is who starts the agent.
type Kind string

// The kinds. Auto is systemd where the user's manager answers, else cron.
const (
	Auto    Kind = "auto"
	Systemd Kind = "systemd"
	Cron    Kind = "cron"
)

// Program is the agent as it is to be started.
type Program struct {
	Binary      string   // absolute
	Config      string   // its configuration file, absolute
	Environment []string // what a login shell gives it and nobody else would, as NAME=VALUE
	Log         string   // where a run from cron leaves what it prints; each run anew
}

// Host is the host's side: where its commands are and what they get.
type Host struct {
	Path    []string // folders of systemctl, loginctl and crontab
	Environ []string
	Units   string // folder of the user's units
	Account string
	Say     func(format string, args ...any) // for the user
}

// Install has the program started by kind, and by the other one no more. With
// dry it only says what it would do.
func (h Host) Install(ctx context.Context, kind Kind, p Program, dry bool) error {
	for _, text := range append([]string{p.Binary, p.Config, p.Log}, p.Environment...) {
		if strings.ContainsAny(text, "\n\r\x00") {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot be written into a unit or a crontab.", text)
		}
	}
	kind, err := h.choose(ctx, kind, dry)
	if err != nil {
		return err
	}
	if kind == Systemd {
		if err := h.installUnit(ctx, p, dry); err != nil || dry {
			return err
		}
		_, err := h.removeLines(ctx)
		return err
	}
	if err := h.installLines(ctx, p, dry); err != nil || dry {
		return err
	}
	_, err = h.removeUnit(ctx)
	return err
}

// Uninstall takes back what Install did.
func (h Host) Uninstall(ctx context.Context) error {
	unit, err := h.removeUnit(ctx)
	lines, other := h.removeLines(ctx)
	if err = errors.Join(err, other); err == nil && !unit && !lines {
		h.Say("Nothing that install wrote is here.")
	}
	return err
}

// choose decides which kind it is, and says why.
func (h Host) choose(ctx context.Context, kind Kind, dry bool) (Kind, error) {
	if kind == Cron {
		return kind, nil
	}
	answer, err := h.run(ctx, "", "systemctl", "--user", "show-environment")
	switch {
	case err == nil && answer.exit == 0:
		return Systemd, nil
	case err == nil:
		err = errors.New(firstLine(answer.stderr))
	}
	if kind == Auto {
		h.Say("systemd does not run services for you here (%v), so it is cron.", err)
		return Cron, nil
	}
	if dry {
		h.Say("systemctl --user does not answer here: %v", err)
		return Systemd, nil
	}
	return "", hpcsera.Errorf(hpcsera.Unavailable, "systemd does not run services for you here: %w.", err).Hint("Use --cron, or tmux: tmux new -d hpcsera-agent run")
}

// answer is what a command said.
type answer struct {
	stdout, stderr string
	exit           int
}

// run runs one of the host's commands. An error means that it did not come to
// its own end.
func (h Host) run(ctx context.Context, stdin, name string, args ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	path, err := h.find(name)
	if err != nil {
		return answer{}, err
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(append([]string{}, h.Environ...), "LC_ALL=C") // its words are read
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	exit, ended := errors.AsType[*exec.ExitError](err)
	if err != nil && (!ended || exit.ExitCode() < 0) {
		return answer{}, fmt.Errorf("%s: %w", name, err)
	}
	return answer{out.String(), errs.String(), cmd.ProcessState.ExitCode()}, nil
}

// must is run for a command that has to succeed.
func (h Host) must(ctx context.Context, stdin, name string, args ...string) (string, error) {
	a, err := h.run(ctx, stdin, name, args...)
	if err == nil && a.exit != 0 {
		err = fmt.Errorf("%s %s: exit status %d: %s", name, strings.Join(args, " "), a.exit, firstLine(a.stderr))
	}
	return a.stdout, err
}

func (h Host) find(name string) (string, error) {
	if path := scheduler.Look(name, h.Path); path != "" {
		return path, nil
	}
	return "", hpcsera.Errorf(hpcsera.Unavailable, "there is no command %s in %s", name, strings.Join(h.Path, ":"))
}

func firstLine(text string) string { return scheduler.FirstLine([]byte(text)) }
