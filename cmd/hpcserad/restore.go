package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/backup"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/oauth"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/settings"
	"github.com/hpcsera/hpcsera/internal/signin"
	"github.com/hpcsera/hpcsera/internal/store"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/sqlitefile"
)

func (p *program) restoreCommand() *cobra.Command {
	var force, inPlace bool
	c := &cobra.Command{
		Use: "restore FOLDER", Short: "Put a backup in the place of the database; the server must not run", Args: usage.AtMost(1),
		Long: "Puts the databases of a backup in place, in which before all client tokens are revoked, all sessions\n" +
			"and open requests dropped, and the sequence lifted into a new epoch: nobody knows what was revoked, used\n" +
			"or run since the backup. Agents keep their credentials. A database that is there is kept under another\n" +
			"name, and only with --force. With --in-place it does the same in databases that are back already: in\n" +
			"PostgreSQL after pg_restore, or a file that was put back by hand. Run it as the user that the server runs as.",
		Example: "  hpcserad restore /srv/hpcsera/backups/monday --force\n  hpcserad restore --in-place",
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == inPlace {
				return usage.Error{Err: errors.New("name the backup's FOLDER, or say --in-place")}
			}
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			r := restoring{cfg: cfg, force: force, now: time.Now(), log: slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
			if !inPlace {
				r.folder = args[0]
			}
			if err := r.run(c.Context()); err != nil {
				return err
			}
			_, err = fmt.Fprint(p.stdout, r.told())
			return err
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace the database that is there; it is kept under another name")
	c.Flags().BoolVar(&inPlace, "in-place", false, "the databases are back already: revoke in them, and begin a new epoch")
	return c
}

// restoring is one restore with what it did.
type restoring struct {
	cfg    config
	folder string // "" is in place
	force  bool
	now    time.Time
	log    *slog.Logger

	kept                                     []string // databases that were replaced
	tokens, logins, browsers, grants, paused int
	epoch                                    int64
	inside                                   *authapp.Ended // of the Auth app in the server
}

// target is a database with the copy that takes its place.
type target struct {
	name, path string
	check      func(ctx context.Context, path string) error
	renew      func(ctx context.Context, path string) error // makes it one that may be served
}

func (r *restoring) targets() []target {
	list := []target{{mainCopy, r.cfg.Database, sqlstore.CheckFile, r.renewMain}}
	if r.cfg.Auth.URL == "" {
		list = append(list, target{authCopy, r.cfg.Auth.Database, authstore.CheckFile, r.renewAuth})
	}
	return list
}

// run restores. The socket is held meanwhile: a server that answers there
// refuses the restore, and none can start before its end.
func (r *restoring) run(ctx context.Context) error {
	if err := os.MkdirAll(r.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	alone, err := server.Listen(server.Config{Listen: "unix:" + r.cfg.AdminSocket, Log: r.log})
	if err != nil {
		return hpcsera.Errorf(hpcsera.Conflict, "a server runs, or its socket cannot be held: %w", err).Hint("Stop it first, and all its replicas.")
	}
	defer alone.Close()
	if r.folder == "" {
		for _, t := range r.targets() {
			if err := t.inPlace(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	return r.replace(ctx)
}

func (t target) inPlace(ctx context.Context) error {
	if settings.Elsewhere(t.path) {
		return t.renew(ctx, t.path)
	}
	if there, err := backup.Exists(t.path); err != nil || !there {
		return errors.Join(err, hpcsera.Errorf(hpcsera.NotFound, "there is no database %s.", t.path).Hint("Put it back first."))
	}
	unlock, err := sqlitefile.Lock(t.path)
	if err != nil {
		return err
	}
	unlock()
	return t.renew(ctx, t.path)
}

// replace puts the copies of the folder in place. Nothing is put there before
// all of them are ready.
func (r *restoring) replace(ctx context.Context) error {
	all := r.targets()
	for _, t := range all {
		if err := r.mayReplace(ctx, t); err != nil {
			return err
		}
	}
	var prepared []string
	defer func() {
		for _, path := range prepared {
			backup.Discard(path)
		}
	}()
	for _, t := range all {
		unlock, err := sqlitefile.Lock(t.path)
		if err != nil {
			return err
		}
		defer unlock()
		path, err := backup.Prepare(filepath.Join(r.folder, t.name), t.path)
		if err != nil {
			return err
		}
		prepared = append(prepared, path)
		if err := t.renew(ctx, path); err != nil {
			return err
		}
	}
	for i, t := range all {
		kept, err := backup.Place(prepared[i], t.path, r.now)
		if kept != "" {
			r.kept = append(r.kept, kept)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayReplace refuses before anything is written.
func (r *restoring) mayReplace(ctx context.Context, t target) error {
	if settings.Elsewhere(t.path) {
		return hpcsera.Errorf(hpcsera.Conflict, "the database is PostgreSQL, which is put back by pg_restore.").
			Hint("After that type: hpcserad restore --in-place")
	}
	if err := t.check(ctx, filepath.Join(r.folder, t.name)); err != nil {
		return err
	}
	there, err := backup.Exists(t.path)
	if err != nil {
		return err
	}
	if there && !r.force {
		return hpcsera.Errorf(hpcsera.Conflict, "there is a database %s already.", t.path).
			Hint("With --force the backup takes its place; it is kept under another name.")
	}
	return nil
}

// renewMain makes a database of the server one that may be served again.
func (r *restoring) renewMain(ctx context.Context, path string) (err error) {
	db, err := sqlstore.Open(ctx, path, r.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return store.Failed("make the restored database fit", db.Write(ctx, r.renewed))
}

// renewed is all that a restore changes in the server's database. Each feature
// ends what is its own.
func (r *restoring) renewed(tx store.Tx) (err error) {
	if r.epoch, err = tx.NewEpoch(r.now); err != nil {
		return err
	}
	ledger, err := store.NewLedger(tx, r.now)
	if err != nil {
		return err
	}
	revoked, logins, err := access.Restored(tx, r.now)
	if err != nil {
		return err
	}
	r.tokens, r.logins = len(revoked), logins
	if r.paused, err = jobs.Restored(tx, ledger, revoked); err != nil {
		return err
	}
	if r.browsers, err = signin.Restored(tx); err != nil {
		return err
	}
	if r.grants, err = oauth.Restored(tx); err != nil {
		return err
	}
	return tx.Note(hpcsera.AuditLine{At: r.now, Actor: auth.OperatorOnHost().Actor(), Action: "backup.restore", Detail: fmt.Sprintf(
		"A backup was restored, epoch %d: %d tokens revoked, %d logins, %d browser sessions and %d open requests dropped, %d jobs held.",
		r.epoch, r.tokens, r.logins, r.browsers, r.grants, r.paused)})
}

// renewAuth is the same for the Auth app inside.
func (r *restoring) renewAuth(ctx context.Context, path string) (err error) {
	db, err := authstore.Open(ctx, path, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ended, err := authapp.Restored(ctx, db, r.now)
	r.inside = &ended
	return err
}

// told is what the operator reads in the end.
func (r *restoring) told() string {
	text := fmt.Sprintf(`Restored, in epoch %d.
  revoked  %d client tokens; %d jobs that no agent had are held
  dropped  %d sessions of hpcsera login, %d of browsers, %d open requests
  kept     agents' credentials, users, projects, clients, code and approvals
`, r.epoch, r.tokens, r.paused, r.logins, r.browsers, r.grants)
	if r.inside != nil {
		text += fmt.Sprintf("  dropped  in the Auth app inside: %d sessions, %d one-time links, %d requests; accounts and factors are kept\n",
			r.inside.Sessions, r.inside.Links, r.inside.Requests)
	}
	for _, path := range r.kept {
		text += "  replaced database: " + path + " (delete it when you need it no more; it holds hashes of secrets)\n"
	}
	return text + `Now:
  1. Do again what was taken away since the backup, before you start the server: nobody here knows it. Users and
     clients that were disabled, agents that were removed and secrets of clients that were renewed are as before.
  2. Start it: hpcserad serve
  3. Users sign in again (hpcsera login), make new tokens for their services, look at hpcsera list, release what is
     held or submit again what is missing; it may have run in the lost hours.
  4. Agents go on by themselves within two minutes, and tell of jobs that this database does not know; what they ran
     is not run again.
`
}
