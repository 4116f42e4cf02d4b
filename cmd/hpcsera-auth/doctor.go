package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/operator"
	"github.com/hpcsera/hpcsera/internal/settings"
)

func (p *program) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor", Short: "Check the configuration and the running program", Args: usage.Exactly(0),
		Long:    "Checks settings, key file and mail, and that the running program answers on its socket and under its public URL.",
		Example: "  hpcsera-auth doctor",
		RunE:    func(c *cobra.Command, _ []string) error { return p.examine(c.Context()) },
	}
}

// examine runs the checks and tells each result; it fails when one does.
func (p *program) examine(ctx context.Context) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	failed := 0
	for _, check := range []struct {
		name string
		run  func(context.Context, config) error
	}{
		{"key file", func(_ context.Context, c config) error { _, err := settings.LoadKey(c.KeyFile, false); return err }},
		{"old key files", func(_ context.Context, c config) error { _, err := settings.LoadKeys(c.OldKeyFiles); return err }},
		{"mail", func(_ context.Context, c config) error { _, err := c.Mail.Mailer("mail"); return err }},
		{"institutions", func(_ context.Context, c config) error {
			_, err := authapp.Institutions("institutions", c.Institutions)
			return err
		}},
		{"admin socket", socketAnswers},
		{"an operator", hasOperator},
		{"audit log", auditHolds},
		{"public URL", publiclyThere},
	} {
		result := "ok"
		if err := check.run(ctx, cfg); err != nil {
			failed++
			result = "FAILED: " + err.Error()
		}
		fmt.Fprintf(p.stdout, "%-14s %s\n", check.name, result)
	}
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

func socketAnswers(ctx context.Context, c config) error {
	_, err := operator.Call[[]authapp.Deployment](ctx, c.AdminSocket, authapp.OpDeployments, authapp.None{})
	return err
}

func hasOperator(ctx context.Context, c config) error {
	users, err := operator.Call[[]authapp.User](ctx, c.AdminSocket, authapp.OpUsers, authapp.None{})
	for _, u := range users {
		if u.Operator && !u.Disabled {
			return nil
		}
	}
	if err == nil {
		err = errors.New("there is none yet; serve prints a link for the first one when it starts")
	}
	return err
}

func auditHolds(ctx context.Context, c config) error {
	_, err := operator.Call[authapp.AuditHead](ctx, c.AdminSocket, authapp.OpVerifyAudit, authapp.VerifyAudit{})
	return err
}

// publiclyThere asks for the Auth app as others see it.
func publiclyThere(ctx context.Context, c config) error {
	if c.PublicURL == "" {
		return nil // it is the listener's, on this host alone
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.PublicURL+"/.well-known/openid-configuration", nil)
	if err != nil {
		return err
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var d struct {
		Issuer string `json:"issuer"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&d); err != nil || d.Issuer != c.PublicURL {
		return fmt.Errorf("something else answers at %s", strings.TrimSpace(c.PublicURL))
	}
	return nil
}
