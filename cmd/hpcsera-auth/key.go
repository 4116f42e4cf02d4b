package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/settings"
)

func (p *program) keyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "key [FILE]", Short: "Print what agents pin: of the key file, or of another that is to follow it", Args: usage.AtMost(1),
		Long: "Prints the line that agents pin (hpcsera-agent trust pin) and its fingerprint, of the configured key\n" +
			"file or of FILE, which is made where there is none. To change the key without a gap: make the next one,\n" +
			"give its line to the users, who pin it beside the present one; then make it key_file, and the present\n" +
			"one an entry of old_key_files; later the users unpin that one by its fingerprint.",
		Example: "  hpcsera-auth key\n  hpcsera-auth key data/next.key",
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			file := cfg.KeyFile
			if len(args) == 1 {
				file = args[0]
			}
			secret, err := settings.LoadKey(file, len(args) == 1)
			if err != nil {
				return err
			}
			key, err := consent.AuthKeyOf(secret)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "%s\n%s\n", key, key.Fingerprint())
			return err
		},
	}
}
