package settings

import (
	"net/url"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Elsewhere reports whether a database is meant to be no file: a URL, or the
// words that PostgreSQL's own programs take. They can hold a password, which
// must not become a file's name.
func Elsewhere(database string) bool {
	return strings.Contains(database, "://") || strings.Contains(database, "password=")
}

// CheckDatabase refuses what is neither a file nor PostgreSQL, and a URL that
// can be read in two ways: one of them would take the password for something
// that may be shown. So no refusal repeats what it refuses.
func CheckDatabase(database string) error {
	if !Elsewhere(database) {
		return nil
	}
	u, err := url.Parse(database)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || strings.Count(database, "@") > 1 || strings.Contains(u.Path, "@") {
		return hpcsera.Errorf(hpcsera.InvalidField, "it is neither a file nor a PostgreSQL URL.").At("database").
			Hint("Write postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %%40, %%2F, %%3A and %%25 for @, /, : and %% in the password.")
	}
	return nil
}

// DumpCommand is how PostgreSQL's own program copies a database into a file. It
// repeats no password, which would stand in the list of processes.
func DumpCommand(database, file string) string {
	u, err := url.Parse(database)
	if err != nil {
		return "pg_dump --format=custom --file=" + file
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	for key := range q {
		if strings.Contains(key, "password") {
			q.Del(key)
		}
	}
	u.RawQuery = q.Encode()
	return "pg_dump --format=custom --file=" + file + " '" + u.String() + "'"
}

// ShownDatabase is a database's URL without the passwords in it.
func ShownDatabase(database string) string {
	u, err := url.Parse(database)
	if err != nil || !Elsewhere(database) {
		return database
	}
	q := u.Query()
	for key := range q {
		if strings.Contains(key, "password") {
			q.Set(key, "xxxxx")
		}
	}
	u.RawQuery = q.Encode()
	return u.Redacted()
}
