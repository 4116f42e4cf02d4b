package admin

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
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/audit"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/backup"
)

// Operation names one of the operator's operations on the socket.
type Operation string

// The operations. Each takes the JSON of one request type and answers with
// that of one answer type; see the methods of [access.Service].
const (
	OpCreateUser    Operation = "user-create"     // access.NewUser: hpcsera.User
	OpSetUser       Operation = "user-set"        // access.Switch: hpcsera.User
	OpUsers         Operation = "users"           // access.Filter: []hpcsera.User
	OpCreateProject Operation = "project-create"  // access.NewProject: hpcsera.Project
	OpSetMember     Operation = "project-member"  // access.NewMember: hpcsera.Project
	OpProjects      Operation = "projects"        // access.Filter: []hpcsera.Project
	OpCreateClient  Operation = "client-create"   // access.Named: hpcsera.Client
	OpSetClient     Operation = "client-set"      // access.Switch: hpcsera.Client
	OpClients       Operation = "clients"         // access.Filter: []hpcsera.Client
	OpRegister      Operation = "client-register" // access.NewRegistration: access.RegistrationMade
	OpCreateSite    Operation = "site-create"     // access.Named: hpcsera.Site
	OpSetSite       Operation = "site-set"        // access.Switch: hpcsera.Site
	OpSites         Operation = "sites"           // access.Filter: []hpcsera.Site
	OpCreateAgent   Operation = "agent-create"    // access.NewAgent: access.AgentMade
	OpRemoveAgent   Operation = "agent-remove"    // access.Removal: hpcsera.Agent
	OpAgents        Operation = "agents"          // access.Filter: []hpcsera.Agent
	OpCreateToken   Operation = "token-create"    // access.NewToken: access.TokenMade
	OpRevokeToken   Operation = "token-revoke"    // access.Revocation: hpcsera.Token
	OpTokens        Operation = "tokens"          // access.Filter: []hpcsera.Token
)

// OpBackup copies the databases.
const OpBackup Operation = "backup" // backup.Request: backup.Made

// The audit log.
const (
	OpVerifyAudit Operation = "audit-verify" // audit.Verification: audit.Verified
	OpAudit       Operation = "audit"        // audit.Pages: []hpcsera.AuditLine
)

type handler func(ctx context.Context, body []byte) (any, error)

// socket serves the operations.
type socket struct{ log *slog.Logger }

// Backups makes a backup.
type Backups func(context.Context, *auth.Principal, backup.Request) (backup.Made, error)

// New serves the operations of s and book, and backups, on admin.sock: POST
// /OPERATION. It is not for any other listener, since it asks nobody who they
// are.
func New(s *access.Service, book *audit.Log, backups Backups, log *slog.Logger) http.Handler {
	mux, edge := http.NewServeMux(), socket{log}
	for op, run := range map[Operation]handler{
		OpCreateUser: on(s.CreateUser), OpSetUser: on(s.SetUser), OpUsers: on(s.Users),
		OpCreateProject: on(s.CreateProject), OpSetMember: on(s.SetMember), OpProjects: on(s.Projects),
		OpCreateClient: on(s.CreateClient), OpSetClient: on(s.SetClient), OpClients: on(s.Clients), OpRegister: on(s.Register),
		OpCreateSite: on(s.CreateSite), OpSetSite: on(s.SetSite), OpSites: on(s.Sites),
		OpCreateAgent: on(s.CreateAgent), OpRemoveAgent: on(s.RemoveAgent), OpAgents: on(s.Agents),
		OpCreateToken: on(s.CreateToken), OpRevokeToken: on(s.RevokeToken), OpTokens: on(s.Tokens),
		OpVerifyAudit: on(book.Verify), OpAudit: on(book.Export), OpBackup: on(backups),
	} {
		mux.HandleFunc("POST /"+string(op), func(w http.ResponseWriter, r *http.Request) { edge.serve(w, r, op, run) })
	}
	return mux
}

// on makes a handler of an operation.
func on[Req, Ans any](f func(context.Context, *auth.Principal, Req) (Ans, error)) handler {
	return func(ctx context.Context, body []byte) (any, error) {
		var req Req
		if err := hpcsera.Decode(body, &req); err != nil {
			return nil, err
		}
		return f(ctx, auth.OperatorOnHost(), req)
	}
}

// maxBody is far above what any request needs.
const maxBody = 1 << 20

func (s socket) serve(w http.ResponseWriter, r *http.Request, op Operation, run handler) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var answer any
	if err == nil {
		answer, err = run(r.Context(), body)
	}
	// The request is logged without its body: answers hold secrets, and
	// whoever reads the log need not read names twice.
	s.log.Info("operator's command", "operation", string(op), "about", about(body), "ok", err == nil)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		answer = s.problem(op, err)
	}
	_ = json.NewEncoder(w).Encode(answer) // the command that asked is gone if this fails
}

// about returns the names in a request, which tell the log what was touched.
func about(body []byte) slog.Value {
	var named struct {
		Name    string `json:"name"`
		ID      string `json:"id"`
		User    string `json:"user"`
		Project string `json:"project"`
		Client  string `json:"client"`
		Site    string `json:"site"`
	}
	var attrs []slog.Attr
	if json.Unmarshal(body, &named) == nil {
		for _, a := range [][2]string{{"name", named.Name}, {"id", named.ID}, {"user", named.User}, {"project", named.Project}, {"client", named.Client}, {"site", named.Site}} {
			if a[1] != "" {
				attrs = append(attrs, slog.String(a[0], a[1]))
			}
		}
	}
	return slog.GroupValue(attrs...)
}

// problem is an error on the socket.
type problem struct {
	Code    hpcsera.Code `json:"code"`
	Message string       `json:"message"`
	Field   string       `json:"field,omitempty"`
	Advice  string       `json:"advice,omitempty"`
}

func (s socket) problem(op Operation, err error) problem {
	var e *hpcsera.Error
	if errors.As(err, &e) {
		return problem{e.Code, e.Message, e.Field, e.Advice}
	}
	s.log.Error("operator's command failed", "operation", string(op), "err", err)
	return problem{Code: hpcsera.Internal, Message: "the server failed; its log says why."}
}

// patience is how long an operation may take; 0 is without an end.
func patience(op Operation) time.Duration {
	if op == OpBackup {
		return 0 // as long as the databases are large
	}
	return time.Minute
}

// Call asks the server that listens on socket to do op, and reads its answer.
// The error is the server's, or unavailable when no server listens.
func Call[Ans any](ctx context.Context, socket string, op Operation, request any) (answer Ans, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return answer, fmt.Errorf("write %s: %w", op, err)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience(op)}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin.sock/"+string(op), bytes.NewReader(body))
	if err != nil {
		return answer, fmt.Errorf("ask for %s: %w", op, err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return answer, hpcsera.Errorf(hpcsera.Unavailable, "no server answers on %s: %w", socket, err).
			Hint("Start it with hpcserad serve, and run this command as the user that it runs as.")
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
		return answer, fmt.Errorf("read the answer to %s: %w", op, err)
	}
	return answer, nil
}
