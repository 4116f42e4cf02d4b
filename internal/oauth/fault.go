package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// The error codes of RFC 6749 section 5.2, RFC 8628 section 3.5, RFC 9396
// section 5, RFC 9449 section 5, RFC 7009 section 2.2.1 and CIBA Core section
// 13. Nothing else is answered.
const (
	invalidRequest       = "invalid_request"
	invalidClient        = "invalid_client"
	invalidGrant         = "invalid_grant"
	unauthorizedClient   = "unauthorized_client"
	unsupportedGrantType = "unsupported_grant_type"
	invalidScope         = "invalid_scope"
	invalidDetails       = "invalid_authorization_details"
	authorizationPending = "authorization_pending"
	slowDown             = "slow_down"
	expiredToken         = "expired_token"
	accessDenied         = "access_denied"
	invalidProof         = "invalid_dpop_proof"
	useNonce             = "use_dpop_nonce"
	unsupportedTokenType = "unsupported_token_type"
	unknownUser          = "unknown_user_id"
	invalidWords         = "invalid_binding_message"
	unavailable          = "temporarily_unavailable"
	serverError          = "server_error"
)

// fault is an error as OAuth tells it.
type fault struct {
	status int
	code   string
	text   string // for the client's developer
}

// Error returns the code and the text.
func (f fault) Error() string { return f.code + ": " + f.text }

// bad is what most faults are: 400.
func bad(code, text string) fault { return fault{http.StatusBadRequest, code, text} }

// refuse answers with an error. What is no fault is ours, and logged.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var f fault
	if !errors.As(err, &f) {
		f = s.ours(r.Context(), err)
	}
	switch {
	case f.status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Basic realm="hpcsera", charset="UTF-8"`)
	case f.code == useNonce || f.code == invalidProof:
		w.Header().Set("DPoP-Nonce", s.cfg.Auth.Nonce())
	case f.status == http.StatusServiceUnavailable || f.status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "10")
	}
	writeJSON(w, f.status, map[string]string{"error": f.code, "error_description": description(f.text)})
}

// ours turns an error of a feature into a fault: a proof that is wrong is the
// client's, a database that is down is ours.
func (s *Service) ours(ctx context.Context, err error) fault {
	var e *hpcsera.Error
	if errors.As(err, &e) {
		switch e.Code {
		case hpcsera.UseDPoPNonce:
			return bad(useNonce, e.Message)
		case hpcsera.DPoPRequired:
			return bad(invalidProof, e.Message)
		case hpcsera.Unavailable, hpcsera.StorageFull:
			s.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "a grant was not served", slog.String("error", err.Error()))
			return fault{http.StatusServiceUnavailable, unavailable, "try again later"}
		}
	}
	s.cfg.Log.LogAttrs(ctx, slog.LevelError, "a grant failed", slog.String("error", err.Error()))
	return fault{http.StatusInternalServerError, serverError, "something went wrong in the server"}
}

// description returns text in the characters that RFC 6749 allows for
// error_description.
func description(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r < 0x20 || r > 0x7e || r == '\\':
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), 300)]
}
