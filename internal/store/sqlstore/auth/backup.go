package authstore

import (
	"context"
	"fmt"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/sqlitefile"
)

// Backup writes a consistent copy of a SQLite database into a new file, which
// only we can read, while others go on writing.
func (s *Store) Backup(ctx context.Context, into string) error {
	if s.path == "" {
		return hpcsera.Errorf(hpcsera.Conflict, "PostgreSQL copies its databases itself.").Hint("Use pg_dump.")
	}
	if err := sqlitefile.Copy(ctx, s.path, into); err != nil {
		return fmt.Errorf("copy the Auth app's database: %w", err)
	}
	return nil
}

// CheckFile refuses a file that is no sound database of this kind. It changes
// nothing in it.
func CheckFile(ctx context.Context, path string) error {
	return sqlitefile.Check(ctx, path, "an Auth app's", "auth_head")
}
