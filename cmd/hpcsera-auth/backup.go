package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/backup"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/settings"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/sqlitefile"
)

// copyName is the copy's name in a backup's folder.
const copyName = "auth.db"

func (p *program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup FOLDER", Short: "Copy the database of the running program into a new folder", Args: usage.Exactly(1),
		Long: "Makes FOLDER with a consistent copy of the SQLite database while the program goes on. PostgreSQL is\n" +
			"copied by pg_dump; the command is printed. The key file is not in it: without it the copy opens no\n" +
			"sealed secret, so keep the two apart.",
		Example: "  hpcsera-auth backup /srv/hpcsera-auth/backups/monday",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			folder, err := command.Backup(c.Context(), cfg.AdminSocket, authapp.OpBackup, args[0], p.stdout)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "Not in it, keep a copy elsewhere: %s\nTo put it back: hpcsera-auth restore %s\n", cfg.KeyFile, folder)
			return err
		},
	}
}

// databases are what a backup copies.
func databases(cfg config, db *authstore.Store) []backup.Database {
	if settings.Elsewhere(cfg.Database) {
		return []backup.Database{{Name: copyName, Elsewhere: settings.DumpCommand(cfg.Database, "auth.dump")}}
	}
	return []backup.Database{{Name: copyName, Copy: db.Backup}}
}

func (p *program) restoreCommand() *cobra.Command {
	var force, inPlace bool
	c := &cobra.Command{
		Use: "restore FOLDER", Short: "Put a backup in the place of the database; the program must not run", Args: usage.AtMost(1),
		Long: "Puts the database of a backup in place, in which before all sessions, one-time links and open requests\n" +
			"are dropped; accounts, factors and approvals stay. A database that is there is kept under another name,\n" +
			"and only with --force. With --in-place it does the same in a database that is back already: in\n" +
			"PostgreSQL after pg_restore, or a file that was put back by hand. Run it as the user that the program runs as.",
		Example: "  hpcsera-auth restore /srv/hpcsera-auth/backups/monday --force\n  hpcsera-auth restore --in-place",
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == inPlace {
				return usage.Error{Err: errors.New("name the backup's FOLDER, or say --in-place")}
			}
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			var folder string
			if !inPlace {
				folder = args[0]
			}
			return restore(c.Context(), cfg, folder, force, p.stdout, slog.New(slog.NewTextHandler(p.stderr, nil)))
		},
	}
	c.Flags().BoolVar(&force, "force", false, "replace the database that is there; it is kept under another name")
	c.Flags().BoolVar(&inPlace, "in-place", false, "the database is back already: end in it what may have ended")
	return c
}

// restore puts a backup in place, or renews the database that is there for
// folder "". The socket is held meanwhile: a program that answers there refuses
// the restore, and none can start before its end.
func restore(ctx context.Context, cfg config, folder string, force bool, out io.Writer, log *slog.Logger) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	alone, err := server.Listen(server.Config{Listen: "unix:" + cfg.AdminSocket, Log: log})
	if err != nil {
		return hpcsera.Errorf(hpcsera.Conflict, "the program runs, or its socket cannot be held: %w", err).Hint("Stop it first.")
	}
	defer alone.Close()
	now := time.Now()
	var ended authapp.Ended
	var kept string
	if folder == "" {
		ended, err = renewInPlace(ctx, cfg.Database, now)
	} else {
		ended, kept, err = replace(ctx, cfg.Database, folder, force, now)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Restored.\n  dropped  %d sessions, %d one-time links, %d open requests\n  kept     accounts, factors, deployments, keys that sign code, approvals\n",
		ended.Sessions, ended.Links, ended.Requests)
	if kept != "" {
		fmt.Fprintf(out, "  replaced database: %s (delete it when you need it no more; it holds hashes of secrets)\n", kept)
	}
	_, err = fmt.Fprint(out, `Now:
  1. Start it: hpcsera-auth serve
  2. Do again what was taken away since the backup; nobody here knows it. Disabled users are enabled, and removed
     passkeys, used recovery codes and older passwords work again.
  3. Users withdraw again what they withdrew since: the next status list does not name it.
`)
	return err
}

func renewInPlace(ctx context.Context, database string, now time.Time) (authapp.Ended, error) {
	if settings.Elsewhere(database) {
		return renew(ctx, database, now)
	}
	if there, err := backup.Exists(database); err != nil || !there {
		return authapp.Ended{}, errors.Join(err, hpcsera.Errorf(hpcsera.NotFound, "there is no database %s.", database).Hint("Put it back first."))
	}
	unlock, err := sqlitefile.Lock(database)
	if err != nil {
		return authapp.Ended{}, err
	}
	unlock()
	return renew(ctx, database, now)
}

// replace puts the copy of the folder in place, after it was renewed.
func replace(ctx context.Context, database, folder string, force bool, now time.Time) (ended authapp.Ended, kept string, err error) {
	if settings.Elsewhere(database) {
		return ended, "", hpcsera.Errorf(hpcsera.Conflict, "the database is PostgreSQL, which is put back by pg_restore.").
			Hint("After that type: hpcsera-auth restore --in-place")
	}
	from := filepath.Join(folder, copyName)
	if err := authstore.CheckFile(ctx, from); err != nil {
		return ended, "", err
	}
	if there, err := backup.Exists(database); err != nil {
		return ended, "", err
	} else if there && !force {
		return ended, "", hpcsera.Errorf(hpcsera.Conflict, "there is a database %s already.", database).
			Hint("With --force the backup takes its place; it is kept under another name.")
	}
	unlock, err := sqlitefile.Lock(database)
	if err != nil {
		return ended, "", err
	}
	defer unlock()
	prepared, err := backup.Prepare(from, database)
	if err != nil {
		return ended, "", err
	}
	defer backup.Discard(prepared) // gone after it was put in place
	if ended, err = renew(ctx, prepared, now); err != nil {
		return ended, "", err
	}
	kept, err = backup.Place(prepared, database, now)
	return ended, kept, err
}

// renew makes a database that was put back one that may be served.
func renew(ctx context.Context, database string, now time.Time) (ended authapp.Ended, err error) {
	db, err := authstore.Open(ctx, database, time.Now)
	if err != nil {
		return ended, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return authapp.Restored(ctx, db, now)
}
