package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
)

// template is the configuration that init writes: each setting with its
// default and what it is for.
const template = `# Settings of hpcsera-auth. Unknown keys are refused. Every setting outside a
# list can also be an environment variable: HPCSERA_AUTH_LISTEN,
# HPCSERA_AUTH_TLS_CERTIFICATE and so on. Relative paths start at this file's
# folder. Secrets stand in files of their own, which only the program can read.

# Where to listen. Without tls only a loopback address is allowed, unless
# behind_proxy says that a proxy in front of it does TLS.
listen: 127.0.0.1:8471
# behind_proxy: false
# tls:
#   certificate: cert.pem
#   key: key.pem

# The URL under which people and API servers reach the Auth app. Passkeys and
# signatures hang on it, so choose it once. It should be another host than the
# API server's. Empty: what is listened on, as localhost.
# public_url: https://auth.example.org

# Database, key and socket, unless said otherwise below.
data_dir: data

# A file for SQLite (default: auth.db in data_dir), or PostgreSQL.
# database: postgres://auth@db.example.org/auth

# Agents of all users pin what is derived from this key: keep a copy of it.
# key_file: data/auth.key
# Keys it had before: what they sealed stays readable, new things use key_file.
# Before key_file changes, agents need the new key: hpcsera-auth key FILE.
# old_key_files: []
# admin_socket: data/admin.sock

# Heads of the audit log go to the host's log as well, where whoever changes
# the database cannot change them: a socket, or none. Empty: /dev/log, where
# there is one.
# syslog: /dev/log

# The name above every page.
# product: HPCSerA

# Who tells people by mail what happened to their account. Empty: nobody.
# mail:
#   server: smtp.example.org:587
#   from: hpcsera@example.org
#   user: hpcsera
#   password_file: mail.secret

# Where people may sign in besides here, by OpenID Connect. Give the
# institution public_url/institution/NAME/callback as redirect address and
# public_url/institution/NAME/logout for back-channel logout.
# institutions:
#   - name: university
#     title: Example University
#     issuer: https://login.example.edu
#     client_id: hpcsera
#     client_secret_file: university.secret
#     auth_method: client_secret_basic   # default: what the institution says
#     scopes: [profile, email, offline_access]
#     skip_consent: true      # where offline_access is given without asking
#     user_claim: preferred_username
#     domain: example.edu
#     projects_claim: groups
#     projects: {hpc-cfd: cfd}
#     require_claim: groups
#     require: [hpc-users]

# limits:
#   grace: 30s        # for requests in flight when the program stops
#   institution_check: 30m   # how often institutions with offline_access are
#                            # asked whether a person is still there

# log:
#   format: text      # or json
#   level: info       # debug, info, warn, error
`

func (p *program) initCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "Make configuration, key and data folder",
		Long: "Makes hpcsera-auth.yaml, the data folder and the Auth app's key in FOLDER (default: here).\n" +
			"What exists already is left as it is.",
		Example: "  hpcsera-auth init /srv/hpcsera-auth",
		Args:    usage.AtMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) == 1 {
				dir = args[0]
			}
			return p.initialize(dir, listen)
		},
	}
	c.Flags().StringVar(&listen, "listen", "", "address to write into a new configuration, such as 127.0.0.1:0")
	return c
}

func (p *program) initialize(dir, listen string) error {
	text := template
	if listen != "" {
		text = strings.Replace(text, "127.0.0.1:8471", listen, 1)
	}
	path, err := command.Folder(p.stdout, dir, "hpcsera-auth.yaml", text)
	if err != nil {
		return err
	}
	p.config = path
	c, err := p.loadConfig()
	if err != nil {
		return err
	}
	if err := command.Data(p.stdout, c.DataDir, c.KeyFile); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, `
Next:
  1. Look at %[1]s (listen, public_url, tls).
  2. Start it:           hpcsera-auth serve --config %[1]s
     It prints a link that makes the first operator's account, once.
  3. From another terminal, as the same user, register the API server. There,
     hpcserad auth key prints its public key:
       hpcsera-auth --config %[1]s deployment add hpc --url https://hpc.example.org --key hpc.jwk
`, path)
	return err
}
