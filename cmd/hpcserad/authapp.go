package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/internal/decision"
)

// authConfig says where people decide.
type authConfig struct {
	URL     string `json:"url"`      // of the Auth app; "" is one in this process, at PUBLIC_URL/auth
	Name    string `json:"name"`     // under which this server is registered there
	KeyFile string `json:"key_file"` // this server's key there; "" is DATA_DIR/deployment.key
	// PrivateNetworks are networks in which clients may be notified although
	// they are not public: "10.0.0.0/8, fd00::/8".
	PrivateNetworks string `json:"private_networks"`
}

// authIssuer returns the URL of the Auth app.
func (c config) authIssuer() string {
	if c.Auth.URL != "" {
		return c.Auth.URL
	}
	return c.PublicURL + "/auth"
}

// authPatience is above the longest wait of a poll for decisions.
const authPatience = time.Minute

// authApp returns the way to the Auth app. inProcess is the one of this
// process, which gets the same messages without a network.
func authApp(cfg config, key decision.Key, inProcess http.Handler) *decision.Client {
	web := &http.Client{Timeout: authPatience}
	if cfg.Auth.URL == "" {
		web.Transport = decision.Local(inProcess)
	}
	return decision.NewClient(decision.Config{Issuer: cfg.authIssuer(), Name: cfg.Auth.Name, Key: key, HTTP: web})
}

// noAuthApp answers in the place of an Auth app of this process.
func noAuthApp() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(decision.Problem{ // to memory
			Code: "unavailable", Status: http.StatusServiceUnavailable, Detail: "this server has no Auth app.", Hint: "Set auth.url.",
		})
	})
}

// deploymentKey reads the server's key at the Auth app, or makes one.
func deploymentKey(cfg config) (decision.Key, error) {
	text, err := os.ReadFile(cfg.Auth.KeyFile)
	if err == nil {
		return decision.ParseKey(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return decision.Key{}, fmt.Errorf("read the key for the Auth app: %w", err)
	}
	key, err := decision.NewKey()
	if err != nil {
		return key, err
	}
	if text, err = key.PEM(); err != nil {
		return key, err
	}
	f, err := os.OpenFile(cfg.Auth.KeyFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return key, fmt.Errorf("keep the key for the Auth app: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return key, fmt.Errorf("keep the key for the Auth app: %w", err)
	}
	return key, nil
}

func (p *program) authCommand() *cobra.Command {
	show := &cobra.Command{
		Use: "key", Short: "Print this server's public key, for the operator of the Auth app", Args: exactly(0),
		Long: "Prints the public key by which the Auth app knows this server, as JWK. Its operator registers\n" +
			"it together with auth.name and the public URL. The key is made where there is none.",
		Example: "  hpcserad auth key > deployment.jwk",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
				return fmt.Errorf("make the data folder: %w", err)
			}
			key, err := deploymentKey(cfg)
			if err != nil {
				return err
			}
			return json.NewEncoder(p.stdout).Encode(key.Public())
		},
	}
	return group("auth", "This server at the Auth app", show)
}
