package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/admin"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/backup"
	"github.com/hpcsera/hpcsera/internal/settings"
	"github.com/hpcsera/hpcsera/internal/store"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// The names of the copies in a backup's folder.
const (
	mainCopy = "hpcsera.db"
	authCopy = "auth.db"
)

func (p *program) backupCommand() *cobra.Command {
	return &cobra.Command{
		Use: "backup FOLDER", Short: "Copy the database of the running server into a new folder", Args: usage.Exactly(1),
		Long: "Makes FOLDER with a consistent copy of the SQLite database, and of the Auth app's where it runs\n" +
			"inside the server, while the server goes on. PostgreSQL is copied by pg_dump; the command is printed.\n" +
			"Keys and data/files are not in it: copy files after the database.",
		Example: "  hpcserad backup /srv/hpcsera/backups/monday",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			folder, err := command.Backup(c.Context(), cfg.AdminSocket, admin.OpBackup, args[0], p.stdout)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.stdout, "Not in it, copy them now: %s\nTo put it back: hpcserad restore %s\n", strings.Join(cfg.besideDatabases(), ", "), folder)
			return err
		},
	}
}

// besideDatabases are the files without which a database is not of much use.
func (c config) besideDatabases() []string {
	list := []string{filepath.Join(c.DataDir, "files"), c.KeyFile, c.Auth.KeyFile}
	if c.Auth.URL == "" {
		list = append(list, c.Auth.SecretFile)
	}
	return list
}

// backups makes backups of what a server has open.
func backups(cfg config, db *sqlstore.Store, inside *authstore.Store) admin.Backups {
	list := []backup.Database{database(mainCopy, cfg.Database, db.Backup)}
	if inside != nil {
		list = append(list, database(authCopy, cfg.Auth.Database, inside.Backup))
	}
	return func(ctx context.Context, by *auth.Principal, r backup.Request) (backup.Made, error) {
		if err := auth.Allow(by, auth.ManageService, auth.Target{}); err != nil {
			return backup.Made{}, err
		}
		made, err := backup.Make(ctx, r, list)
		if err != nil {
			return made, err
		}
		// Copies leave with hashes of all secrets, so the log says when.
		err = db.Write(ctx, func(tx store.Tx) error {
			return tx.Note(hpcsera.AuditLine{At: time.Now(), Actor: by.Actor(), Action: "backup.make", About: r.Folder})
		})
		return made, store.Failed("note the backup", err)
	}
}

func database(name, setting string, copied func(context.Context, string) error) backup.Database {
	if settings.Elsewhere(setting) {
		return backup.Database{Name: name, Elsewhere: settings.DumpCommand(setting, strings.TrimSuffix(name, ".db")+".dump")}
	}
	return backup.Database{Name: name, Copy: copied}
}
