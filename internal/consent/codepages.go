package consent

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// codeView is code as its signer sees it.
type codeView struct {
	*decision.CodeDetails
	Digest  string
	Asked   hpcsera.Limits
	Agents  []agentView
	Parts   []part
	Before  *Signed // the version that the parts are compared with
	Unknown string  // the approval that the deployment says was before, where it was not given here
	Keys    []CodeKey

	Inside bool // the Auth app is in the server's process, whose passkeys agents refuse
	// Of the page to sign.
	Statement *approval.Statement
	Bytes     string // that are signed
	Sum       string // their SHA-256
	Options   string // for the browser
}

type agentView struct {
	decision.CodeAgent
	Confirmed bool // this user compared its key's fingerprint here
}

// codeView collects what a page about code shows; the draft only to sign.
func (s *Service) codeView(r records.Reader, p pending, sign bool) (*codeView, error) {
	c := p.Request.Code
	v := &codeView{CodeDetails: c, Asked: asked(c), Inside: s.cfg.InProcess}
	var err error
	if v.Digest, err = c.Manifest.Digest(); err != nil {
		return nil, fmt.Errorf("digest the code of %s: %w", p.key(), err)
	}
	if v.Keys, err = s.CodeKeys(r, p.User); err != nil {
		return nil, err
	}
	for _, a := range c.Agents {
		_, confirmed, err := get[named](r, kindConfirmed, p.User+"/"+a.Thumbprint)
		if err != nil {
			return nil, err
		}
		v.Agents = append(v.Agents, agentView{a, confirmed})
	}
	if sign && len(p.Draft) > 0 {
		return v, v.addDraft(p.Draft, s.host)
	}
	last, err := s.lastApproved(r, p)
	switch {
	case err != nil:
		return nil, err
	case last != nil:
		before, _, err := get[Signed](r, kindSigned, last.Approval)
		if err != nil {
			return nil, err
		}
		v.Before, v.Parts = &before, difference(c.Manifest, c.Contents, &last.Manifest, last.Contents)
	default:
		if c.Last != nil {
			v.Unknown = c.Last.Approval
		}
		v.Parts = difference(c.Manifest, c.Contents, nil, nil)
	}
	return v, nil
}

// addDraft adds what is about to be signed, and what the browser is asked for:
// a signature by one of this user's passkeys for code over exactly the bytes
// that the page shows.
func (v *codeView) addDraft(draft []byte, host string) error {
	st, err := approval.Parse(draft)
	if err != nil {
		return err
	}
	type credential struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	}
	allowed := []credential{}
	for _, k := range v.Keys {
		allowed = append(allowed, credential{"public-key", base64.RawURLEncoding.EncodeToString(k.Credential)})
	}
	challenge := approval.Challenge(draft)
	options, err := json.Marshal(map[string]any{"publicKey": map[string]any{
		"challenge": base64.RawURLEncoding.EncodeToString(challenge), "rpId": host, "allowCredentials": allowed,
		"userVerification": "required", "timeout": 300_000,
	}})
	if err != nil {
		return fmt.Errorf("ask the browser for a signature: %w", err)
	}
	v.Statement, v.Bytes, v.Sum, v.Options = &st, string(draft), hex.EncodeToString(challenge), string(options)
	return nil
}

// readNarrowed reads what the user makes of the limits.
func readNarrowed(f url.Values) (Narrowed, error) {
	var n Narrowed
	for field, into := range map[string]*int{"days": &n.Days, "runs": &n.Runs, "node_count": &n.Limits.NodeCount} {
		number, err := strconv.Atoi(f.Get(field))
		if err != nil {
			return n, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a whole number.", page.Show(f.Get(field))).At(field)
		}
		*into = number
	}
	var err error
	if text := f.Get("duration"); text != "" {
		if n.Limits.Duration, err = hpcsera.ParseDuration(text); err != nil {
			return n, err
		}
	}
	if text := f.Get("memory"); text != "" {
		if n.Limits.Memory, err = hpcsera.ParseBytes(text); err != nil {
			return n, err
		}
	}
	n.Limits.QueueNames, n.Limits.Accounts, n.Limits.ReservationIDs = f["queue_names"], f["accounts"], f["reservation_ids"]
	n.Limits.Requeue = f.Get("requeue") == "yes"
	return n, nil
}

// approvalsView is what a user signed, and with what.
type approvalsView struct {
	Keys      []keyView
	Signed    []Signed
	AuthKey   approval.AuthKey
	InProcess bool
	Issuer    string
	Now       time.Time
}

type keyView struct {
	CodeKey
	Line string
}

// Over reports whether an approval's end is surely past: not by a server's word.
func (v approvalsView) Over(a Signed) bool { return !a.Elsewhere && !v.Now.Before(a.NotAfter) }

func (s *Service) approvals(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, false)
	if !ok {
		return
	}
	v := approvalsView{AuthKey: s.AuthKey(), InProcess: s.cfg.InProcess, Issuer: s.cfg.Issuer, Now: s.cfg.Now()}
	err := s.cfg.Store.Read(r.Context(), func(rd records.Reader) error {
		keys, err := s.CodeKeys(rd, who.User)
		if err != nil {
			return err
		}
		for _, k := range keys {
			v.Keys = append(v.Keys, keyView{k, s.trustLine(k)})
		}
		v.Signed, err = list[Signed](rd, kindSigned, who.User)
		return err
	})
	if err != nil {
		s.cfg.Frame.Fail(w, r, who.User, err)
		return
	}
	newestFirst(v.Signed)
	s.pages.Render(w, r, http.StatusOK, "approvals", page.View{User: who.User, Operator: who.Operator, Data: v})
}

// withdrawPage takes consent back. It needs no second factor: less is always
// allowed.
func (s *Service) withdrawPage(w http.ResponseWriter, r *http.Request) {
	if who, ok := s.cfg.Sessions.Require(w, r, false); ok {
		s.after(w, r, who, s.Withdraw(r.Context(), who.User, r.PathValue("id")), "withdrawn", "/approvals")
	}
}

func (s *Service) codeKeyForm(w http.ResponseWriter, r *http.Request) {
	if who, ok := s.cfg.Sessions.Require(w, r, true); ok {
		s.pages.Render(w, r, http.StatusOK, "codekey", page.View{User: who.User, Operator: who.Operator})
	}
}

func (s *Service) codeKeyOptions(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, true)
	if !ok {
		return
	}
	options, err := s.beginCodeKey(r.Context(), who)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, options)
}

func (s *Service) addCodeKey(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, true)
	if !ok {
		return
	}
	f, err := form(w, r)
	if err == nil {
		err = s.addCodeKeyOf(r.Context(), who, f.Get("name"), f.Get("credential"))
	}
	s.after(w, r, who, err, "key added", "/approvals")
}

func (s *Service) removeCodeKey(w http.ResponseWriter, r *http.Request) {
	who, ok := s.cfg.Sessions.Require(w, r, true)
	if !ok {
		return
	}
	f, err := form(w, r)
	if err == nil {
		err = s.RemoveCodeKey(r.Context(), who.User, f.Get("fingerprint"))
	}
	s.after(w, r, who, err, "key gone", "/approvals")
}
