package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/test/commandtest"
)

func TestTheDatabasesPasswordIsNeverShown(t *testing.T) {
	const password = "Planted7Password"
	for name, database := range map[string]string{
		"as it should be":     "postgres://hpcsera:" + password + "@127.0.0.1:1/hpcsera",
		"the other scheme":    "postgresql://hpcsera:" + password + "@127.0.0.1:1/hpcsera",
		"several hosts":       "postgres://hpcsera:" + password + "@127.0.0.1:1,127.0.0.1:2/hpcsera",
		"as a parameter":      "postgres://127.0.0.1:1/hpcsera?user=hpcsera&password=" + password,
		"not escaped":         "postgres://hpcsera:" + password + "%z@127.0.0.1:1/hpcsera",
		"with a strange port": "postgres://hpcsera:" + password + "@127.0.0.1:port/hpcsera",
		"with another @":      "postgres://hpcsera:a@" + password + "@127.0.0.1:1/hpcsera",
		"with a slash":        "postgres://hpcsera:a/" + password + "@127.0.0.1:1/hpcsera",
		"a mistyped scheme":   "postgress://hpcsera:" + password + "@127.0.0.1:1/hpcsera",
		"another database":    "mysql://hpcsera:" + password + "@127.0.0.1:1/hpcsera",
		"as words":            "host=127.0.0.1 port=1 user=hpcsera password=" + password,
	} {
		t.Run(name, func(t *testing.T) {
			dir := initialized(t)
			var out, log bytes.Buffer
			// A server that starts all the same is stopped.
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			err := run(ctx, []string{"serve", "--config", filepath.Join(dir, "hpcserad.yaml")},
				[]string{"HPCSERAD_DATABASE=" + database, "HPCSERAD_LOG_LEVEL=debug"}, &out, &log)
			if err == nil {
				t.Error("a server started")
			}
			for where, text := range map[string]string{"the error": fmt.Sprint(err), "the log": log.String(), "the output": out.String()} {
				if strings.Contains(text, password) {
					t.Errorf("%s shows the password: %s", where, text)
				}
			}
		})
	}
}

func TestNoCommandTakesASecretAsAFlag(t *testing.T) {
	commandtest.NoSecretInFlags(t, (&program{}).root())
}

func TestEveryCommandHasAnExample(t *testing.T) {
	commandtest.Examples(t, (&program{}).root())
}
