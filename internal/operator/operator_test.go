package operator_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/operator"
)

type greeting struct {
	Name string `json:"name"`
}

// serve listens on a socket in a folder with a short name: the path of a
// socket has a limit.
func serve(t *testing.T, log *strings.Builder) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "op")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{ReadHeaderTimeout: time.Minute, Handler: operator.Handler(slog.New(slog.NewTextHandler(log, nil)), map[string]operator.Operation{
		"greet": operator.On(func(_ context.Context, g greeting) (greeting, error) {
			switch g.Name {
			case "":
				return g, hpcsera.Errorf(hpcsera.InvalidField, "nobody is named.").At("name").Hint("Name somebody.")
			case "ghost":
				return g, errors.New("geheim")
			}
			return greeting{"hello " + g.Name}, nil
		}),
	})}
	go func() { _ = web.Serve(listener) }()
	t.Cleanup(func() { _ = web.Close() })
	return socket
}

func TestRefusalsKeepTheirWordsAndFailuresDoNot(t *testing.T) {
	var log strings.Builder
	socket := serve(t, &log)
	for name, c := range map[string]struct {
		socket, op string
		request    any
		code       hpcsera.Code
		says       string
	}{
		"a refusal":            {socket, "greet", greeting{}, hpcsera.InvalidField, "name: nobody is named. Name somebody."},
		"a failure":            {socket, "greet", greeting{"ghost"}, hpcsera.Internal, "its log says why"},
		"an unknown member":    {socket, "greet", map[string]string{"nmae": "x"}, hpcsera.UnknownField, "name"},
		"an unknown operation": {socket, "drop-tables", greeting{"x"}, hpcsera.Internal, "404"},
		"nobody who listens":   {socket + "x", "greet", greeting{"x"}, hpcsera.Unavailable, "command serve"},
	} {
		_, err := operator.Call[greeting](t.Context(), c.socket, c.op, c.request)
		if hpcsera.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: got %v, want %s with %q", name, err, c.code, c.says)
		}
	}
	got, err := operator.Call[greeting](t.Context(), socket, "greet", greeting{"alice"})
	if err != nil || got.Name != "hello alice" {
		t.Errorf("got %v, %v", got, err)
	}
	if text := log.String(); !strings.Contains(text, "operation=greet ok=true") || strings.Contains(text, "alice") {
		t.Errorf("the log: %s, want the operation and nothing that was said", text)
	}
}
