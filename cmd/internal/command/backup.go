package command

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hpcsera/hpcsera/internal/backup"
	"github.com/hpcsera/hpcsera/internal/operator"
)

// Backup asks the running program to copy its databases into a new folder, by
// the operation op of its socket, and tells what was copied and what has to be
// copied otherwise. It returns the folder's absolute path.
func Backup(ctx context.Context, socket, op, folder string, out io.Writer) (string, error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", err
	}
	made, err := operator.Wait[backup.Made](ctx, socket, op, backup.Request{Folder: folder})
	if err != nil {
		return "", err
	}
	for _, file := range made.Files {
		fmt.Fprintf(out, "copied   %s\n", file)
	}
	for _, dump := range made.Elsewhere {
		fmt.Fprintf(out, "missing  a database in PostgreSQL. Type: %s\n", dump)
	}
	return folder, nil
}
