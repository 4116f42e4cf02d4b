package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hpcsera/hpcsera"
)

const unitName = "hpcsera-agent.service"

// written is the first line of a unit that is ours to change and to remove.
const written = "# Written by hpcsera-agent install; hpcsera-agent uninstall removes it.\n"

// unit returns the text of the systemd unit (systemd.service(5)). Login steps
// are in the unit's control group and outlive the agent, so only the agent is
// stopped.
func (p Program) unit() string {
	var b strings.Builder
	b.WriteString(written + `[Unit]
Description=HPCSerA agent: runs your jobs on this HPC system
StartLimitIntervalSec=0

[Service]
`)
	for _, pair := range p.Environment {
		fmt.Fprintf(&b, "Environment=%s\n", unitWord(pair, false))
	}
	fmt.Fprintf(&b, "ExecStart=%s --config %s run\n", unitWord(p.Binary, false), unitWord(p.Config, true))
	b.WriteString(`Restart=always
RestartSec=30
KillMode=process
TimeoutStopSec=60

[Install]
WantedBy=default.target
`)
	return b.String()
}

// unitWord quotes one word for a unit: specifiers, and in arguments also
// variables, are not expanded (systemd.syntax(7), systemd.service(5)).
func unitWord(s string, argument bool) string {
	pairs := []string{`\`, `\\`, `"`, `\"`, "\t", `\t`, `%`, `%%`}
	if argument {
		pairs = append(pairs, `$`, `$$`)
	}
	return `"` + strings.NewReplacer(pairs...).Replace(s) + `"`
}

func (h Host) unitPath() string { return filepath.Join(h.Units, unitName) }

// ownUnit reports whether there is a unit, and refuses one that somebody else
// wrote.
func (h Host) ownUnit() (bool, error) {
	text, err := os.ReadFile(h.unitPath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the unit: %w", err)
	}
	if !strings.HasPrefix(string(text), written) {
		return true, hpcsera.Errorf(hpcsera.Conflict, "%s was not written by hpcsera-agent install and is left alone.", h.unitPath()).
			Hint("Remove it, or give it another name, to have it written.")
	}
	return true, nil
}

func (h Host) installUnit(ctx context.Context, p Program, dry bool) error {
	if strings.ContainsAny(p.Binary, `"'\`) {
		return hpcsera.Errorf(hpcsera.InvalidField, "systemd starts no program with quotes or backslashes in its name: %s.", p.Binary).Hint("Move it, or use --cron.")
	}
	if dry {
		h.Say("would write %s:\n\n%s", h.unitPath(), p.unit())
		h.Say("would run: systemctl --user daemon-reload; systemctl --user enable %s; systemctl --user restart %s", unitName, unitName)
		return nil
	}
	if _, err := h.ownUnit(); err != nil {
		return err
	}
	if err := os.MkdirAll(h.Units, 0o700); err != nil {
		return fmt.Errorf("the unit: %w", err)
	}
	if err := replace(h.unitPath(), p.unit()); err != nil {
		return fmt.Errorf("the unit: %w", err)
	}
	for _, verb := range [][]string{{"daemon-reload"}, {"enable", unitName}, {"restart", unitName}} {
		if _, err := h.must(ctx, "", "systemctl", append([]string{"--user"}, verb...)...); err != nil {
			return err
		}
	}
	h.Say("The agent runs as %s and is started again whenever it ends. See: systemctl --user status %s; journalctl --user -u %s", unitName, unitName, unitName)
	h.linger(ctx)
	return nil
}

// replace writes a file at once and for its owner alone.
func replace(path, text string) error {
	part := path + ".new"
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(part, path)
}

// linger says whether the agent outlives the user's last session.
func (h Host) linger(ctx context.Context) {
	out, err := h.must(ctx, "", "loginctl", "show-user", h.Account, "--property=Linger", "--value")
	switch strings.TrimSpace(out) {
	case "yes":
		h.Say("It goes on when you log out, and is started with the host (lingering is on).")
	case "no":
		h.Say("IT ENDS WHEN YOU LOG OUT. To have it go on, and started with the host: loginctl enable-linger")
		h.Say("Where the site does not allow that: hpcsera-agent install --cron")
	default:
		h.Say("Whether it goes on when you log out is not known (%v). See: loginctl show-user %s", err, h.Account)
	}
}

// removeUnit stops the agent that systemd runs and removes its unit. found says
// that there was one, be it somebody else's.
func (h Host) removeUnit(ctx context.Context) (found bool, err error) {
	switch there, err := h.ownUnit(); {
	case hpcsera.CodeOf(err) == hpcsera.Conflict:
		h.Say("%v", err)
		return true, nil
	case err != nil || !there:
		return there, err
	}
	answers := true
	if _, err := h.must(ctx, "", "systemctl", "--user", "disable", "--now", unitName); err != nil {
		answers = false
		h.Say("systemd was not told (%v); where it runs an agent of yours, stop that: systemctl --user stop %s", err, unitName)
		if err := h.disable(); err != nil {
			return true, err
		}
	}
	if err := os.Remove(h.unitPath()); err != nil {
		return true, fmt.Errorf("the unit: %w", err)
	}
	h.Say("%s is removed.", h.unitPath())
	if answers {
		_, err = h.must(ctx, "", "systemctl", "--user", "daemon-reload")
	}
	return true, err
}

// disable does what systemctl disable does to files.
func (h Host) disable() error {
	link := filepath.Join(h.Units, "default.target.wants", unitName)
	if target, err := os.Readlink(link); err != nil || filepath.Base(target) != unitName {
		return nil
	}
	if err := os.Remove(link); err != nil {
		return fmt.Errorf("the unit: %w", err)
	}
	return nil
}
