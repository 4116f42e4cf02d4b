package service

import (
	"context"
	"fmt"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// What stands around the lines that are ours.
const (
	beginMark = "# BEGIN hpcsera-agent (hpcsera-agent uninstall removes this)\n"
	endMark   = "# END hpcsera-agent\n"
)

// lines returns what stands in the crontab (crontab(5)). Variables are set on
// the command: on lines of their own they would hold for others' commands
// below. Output goes to a file, or cron would mail it every few minutes.
func (p Program) lines() string {
	words := []string{"env"}
	words = append(words, p.Environment...)
	words = append(words, p.Binary, "--config", p.Config, "once")
	if len(p.Environment) == 0 {
		words = words[1:]
	}
	for i, word := range words {
		words[i] = shellWord(word)
	}
	line := fmt.Sprintf("*/5 * * * * %s >%s 2>&1", strings.Join(words, " "), shellWord(p.Log))
	return beginMark + strings.ReplaceAll(line, "%", `\%`) + "\n" + endMark
}

// shellWord quotes one word for sh.
func shellWord(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,+-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// merge puts lines into a crontab in the place of ours, or at its end; "" takes
// ours out. All else stays as it is, byte for byte.
func merge(table, lines string) (string, error) {
	before, rest, begins := strings.Cut(table, beginMark)
	_, after, ends := strings.Cut(rest, endMark)
	switch {
	case !begins && strings.Contains(table, endMark), begins && !ends, strings.Contains(after, beginMark), strings.Contains(after, endMark):
		return "", hpcsera.Errorf(hpcsera.Conflict, "the lines of hpcsera-agent in your crontab are not whole.").Hint("Mend them by hand: crontab -e")
	case begins:
		return before + lines + after, nil
	}
	if lines != "" && table != "" && !strings.HasSuffix(table, "\n") {
		table += "\n"
	}
	return table + lines, nil
}

// table returns the user's crontab, "" where there is none. Whatever else keeps
// it from being read is an error: written back, it would be lost.
func (h Host) table(ctx context.Context) (string, error) {
	a, err := h.run(ctx, "", "crontab", "-l")
	switch {
	case err != nil:
		return "", err
	case a.exit == 0:
		return a.stdout, nil
	case strings.Contains(strings.ToLower(a.stderr), "no crontab for"):
		return "", nil
	}
	return "", hpcsera.Errorf(hpcsera.Unavailable, "your crontab cannot be read: %s.", firstLine(a.stderr)).
		Hint("Where the site does not let you use cron, start the agent in tmux: tmux new -d hpcsera-agent run")
}

// put replaces the user's crontab and looks whether it took.
func (h Host) put(ctx context.Context, table string) error {
	if table == "" {
		_, err := h.must(ctx, "", "crontab", "-r")
		return err
	}
	if _, err := h.must(ctx, table, "crontab", "-"); err != nil {
		return err
	}
	now, err := h.table(ctx)
	if err == nil && now != table {
		err = hpcsera.Errorf(hpcsera.Conflict, "your crontab is not what was written to it.").Hint("Look at it: crontab -l")
	}
	return err
}

func (h Host) installLines(ctx context.Context, p Program, dry bool) error {
	if dry {
		h.Say("would add to your crontab:\n\n%s", p.lines())
		return nil
	}
	before, err := h.table(ctx)
	if err != nil {
		return err
	}
	after, err := merge(before, p.lines())
	if err != nil {
		return err
	}
	if after != before {
		if err := h.put(ctx, after); err != nil {
			return err
		}
	}
	h.Say("cron starts the agent every five minutes on this host; orders, cancels included, wait for its next run. What its last run printed stands in %s", p.Log)
	return nil
}

// removeLines takes our lines out of the crontab. found says that there were some.
func (h Host) removeLines(ctx context.Context) (found bool, err error) {
	if _, err := h.find("crontab"); err != nil {
		return false, nil // none ever was
	}
	before, err := h.table(ctx)
	if err != nil || !strings.Contains(before, beginMark) {
		return false, nil // who may not use cron has no line there
	}
	after, err := merge(before, "")
	if err == nil {
		err = h.put(ctx, after)
	}
	if err != nil {
		return true, err
	}
	h.Say("The agent's lines are removed from your crontab.")
	return true, nil
}
