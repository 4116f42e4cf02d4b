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
const template = `# Settings of hpcserad. Unknown keys are refused. Every setting outside a
# list can also be an environment variable: HPCSERAD_LISTEN,
# HPCSERAD_TLS_CERTIFICATE and so on. Relative paths start at this file's folder.

# Where to listen. Without tls only a loopback address is allowed, unless
# behind_proxy says that a proxy in front of it does TLS.
listen: 127.0.0.1:8470
# behind_proxy: false
# tls:
#   certificate: cert.pem
#   key: key.pem

# The URL under which clients and agents reach the server. Signed approvals and
# agents' proofs name it, so choose it once. Empty: what is listened on.
# public_url: https://hpc.example.org

# Blobs, logs and, unless said otherwise below, database, key and socket.
data_dir: data

# A file for SQLite (default: hpcsera.db in data_dir), or PostgreSQL, which any
# number of servers may share if they have the same key_file.
# database: postgres://hpcsera@db.example.org/hpcsera

# key_file: data/server.key
# admin_socket: data/admin.sock

# Prometheus metrics, without authentication: keep the address to yourself.
# metrics: 127.0.0.1:9470

# Heads of the audit log go here, so that a log made anew is found out: a socket
# of syslog, or none. Empty: /dev/log, where there is one.
# syslog: /dev/log

# Where people sign in and decide: an Auth app of its own, at which this server
# is registered under a name and the key that hpcserad auth key prints. Without
# url this server has one inside, at /auth/.
# auth:
#   url: https://auth.example.org
#   name: hpcsera
#   key_file: data/deployment.key
#   # of the one inside: its own secret and database
#   secret_file: data/auth.key
#   database: data/auth.db
#   # secrets it had before: what they sealed stays readable, new things use
#   # secret_file
#   old_secret_files: []
#   # also of the one inside: who tells people by mail what happened to their
#   # account and their agents. Empty: nobody.
#   mail:
#     server: smtp.example.org:587
#     from: hpcsera@example.org
#     user: hpcsera
#     password_file: mail.secret
#   # also of the one inside: where people may sign in besides here, by OpenID
#   # Connect. Give the institution public_url/auth/institution/NAME/callback as
#   # redirect address and public_url/auth/institution/NAME/logout for
#   # back-channel logout.
#   institutions:
#     - name: university
#       title: Example University
#       issuer: https://login.example.edu
#       client_id: hpcsera
#       client_secret_file: university.secret
#       auth_method: client_secret_basic   # default: what the institution says
#       scopes: [profile, email, offline_access]
#       skip_consent: true      # where offline_access is given without asking
#       user_claim: preferred_username
#       domain: example.edu
#       projects_claim: groups
#       projects: {hpc-cfd: cfd}
#       require_claim: groups
#       require: [hpc-users]
#   # true lets people into the projects that their institution names. Default:
#   # false, so that the owners of a project alone decide who is in it.
#   institutions_name_projects: false
#   # networks that are not public, but in which clients may be notified
#   private_networks: 10.0.0.0/8, fd00::/8

# How long clients' tokens live, in days: when nobody says, and at most.
# tokens:
#   days: 30
#   max_days: 90

# limits:
#   body: 64MiB       # of a JSON request; files travel as blobs, which have none
#   grace: 30s        # for requests in flight when the server stops
#   institution_check: 30m   # how often the Auth app inside asks institutions
#                            # with offline_access whether a person is still there

# log:
#   format: text      # or json
#   level: info       # debug, info, warn, error
`

func (p *program) initCommand() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "init [FOLDER]",
		Short: "Make configuration, server key and data folder",
		Long: "Makes hpcserad.yaml, the data folder and the server's key in FOLDER (default: here).\n" +
			"What exists already is left as it is.",
		Example: "  hpcserad init /srv/hpcsera",
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
		text = strings.Replace(text, "127.0.0.1:8470", listen, 1)
	}
	path, err := command.Folder(p.stdout, dir, "hpcserad.yaml", text)
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
  2. Start the server:   hpcserad serve --config %[1]s
     It prints a link that makes the first operator's account, once.
  3. Without a browser, from another terminal as the same user:
       hpcserad --config %[1]s user add alice
       hpcserad --config %[1]s project add cfd --member alice=owner
       hpcserad --config %[1]s client add cli
       hpcserad --config %[1]s site add mysite
       hpcserad --config %[1]s token create --user alice --project cfd --client cli --for ci-code
`, path)
	return err
}
