// Package operator carries an operator's commands to a running server: JSON
// over HTTP on a unix socket that only the server's own user can open. Which
// operations there are, the server says; [Handler] serves them, and the
// commands use [Call].
//
// Who may open the socket is the operator. There is no other check, so the
// socket's file mode and folder are the lock. Every operation is logged, and
// never its request or answer, which hold secrets and links.
package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Operation does one of the operator's operations.
type Operation func(ctx context.Context, body []byte) (any, error)

// On makes an operation of a function; it reads the request strictly.
func On[Req, Ans any](f func(context.Context, Req) (Ans, error)) Operation {
	return func(ctx context.Context, body []byte) (any, error) {
		var req Req
		if err := hpcsera.Decode(body, &req); err != nil {
			return nil, err
		}
		return f(ctx, req)
	}
}

// maxBody is far above what any request needs.
const maxBody = 1 << 20

// Handler serves operations by name: POST /NAME. It is for no other listener
// than the socket, since it asks nobody who they are.
func Handler(log *slog.Logger, operations map[string]Operation) http.Handler {
	mux := http.NewServeMux()
	for name, run := range operations {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			var answer any
			if err == nil {
				answer, err = run(r.Context(), body)
			}
			log.Info("operator's command", "operation", name, "ok", err == nil)
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(http.StatusUnprocessableEntity)
				answer = told(log, name, err)
			}
			_ = json.NewEncoder(w).Encode(answer) // the command that asked is gone if this fails
		})
	}
	return mux
}

// problem is an error on the socket.
type problem struct {
	Code    hpcsera.Code `json:"code"`
	Message string       `json:"message"`
	Field   string       `json:"field,omitempty"`
	Advice  string       `json:"advice,omitempty"`
}

func told(log *slog.Logger, name string, err error) problem {
	var e *hpcsera.Error
	if errors.As(err, &e) {
		return problem{e.Code, e.Message, e.Field, e.Advice}
	}
	log.Error("operator's command failed", "operation", name, "error", err)
	return problem{Code: hpcsera.Internal, Message: "the server failed; its log says why."}
}

// Call asks the server that listens on socket to do an operation, and reads
// its answer, within a minute. The error is the server's, or unavailable when
// none listens.
func Call[Ans any](ctx context.Context, socket, name string, request any) (answer Ans, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return Wait[Ans](ctx, socket, name, request)
}

// Wait is Call for as long as ctx lasts.
func Wait[Ans any](ctx context.Context, socket, name string, request any) (answer Ans, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, fmt.Errorf("write %s: %w", name, err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin.sock/"+name, bytes.NewReader(body))
	if err != nil {
		return answer, fmt.Errorf("ask for %s: %w", name, err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer, hpcsera.Errorf(hpcsera.Unavailable, "no server answers on %s: %w", socket, err).
			Hint("Start it with the command serve, and run this command as the user that it runs as.")
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var p problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
			return answer, hpcsera.Errorf(hpcsera.Internal, "the server on %s answered %s.", socket, resp.Status)
		}
		e := hpcsera.Errorf(p.Code, "%s", p.Message).At(p.Field)
		e.Advice = p.Advice
		return answer, e
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("read the answer to %s: %w", name, err)
	}
	return answer, nil
}
