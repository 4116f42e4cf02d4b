package web

import (
	"cmp"
	"net/url"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// clientRow is a client in the list.
type clientRow struct {
	*hpcsera.Client
	MayAsk bool // the visitor, out of band
}

// clients lists all clients: whoever makes a token chooses among them.
func (s *Site) clients(v *visit) error {
	rows, err := s.clientRows(v)
	if err != nil {
		return err
	}
	return s.show(v, "clients", struct {
		User, Name string
		Clients    []clientRow
	}{v.user(), v.PostFormValue("name"), rows})
}

func (s *Site) clientRows(v *visit) ([]clientRow, error) {
	all, err := s.cfg.Access.Clients(v.Context(), v.by, access.Filter{})
	if err != nil {
		return nil, err
	}
	asking, err := s.cfg.Access.EnabledClients(v.Context(), v.by, access.Filter{User: v.user()})
	if err != nil {
		return nil, err
	}
	may := map[string]bool{}
	for _, e := range asking {
		may[e.Client] = true
	}
	var rows []clientRow
	for _, c := range all {
		rows = append(rows, clientRow{c, may[c.Name]})
	}
	return rows, nil
}

func (s *Site) createClient(v *visit) error {
	made, err := s.cfg.Access.CreateClient(v.Context(), v.by, access.Named{Name: v.text("name")})
	if err != nil {
		return err
	}
	return s.done(v, "client-made", "/clients/"+made.Name)
}

// client shows one client; who registered it sets how it gets tokens.
func (s *Site) client(v *visit) error {
	return s.showClient(v, "")
}

// showClient shows a client, with a secret that was just made.
func (s *Site) showClient(v *visit, secret string) error {
	rows, err := s.clientRows(v)
	if err != nil {
		return err
	}
	name := v.PathValue("client")
	for _, row := range rows {
		if row.Name != name {
			continue
		}
		registered, err := s.cfg.Access.Registration(v.Context(), v.by, access.Named{Name: name})
		if err != nil {
			return err
		}
		if v.problem != nil && v.PostForm.Has("method") { // what the visitor had typed
			registered.Method, registered.CIBA = hpcsera.ClientMethod(v.text("method")), hpcsera.CIBAMode(v.text("ciba"))
			registered.Keys, registered.Notify = []byte(v.text("jwks")), v.text("notify")
		}
		return s.show(v, "client", struct {
			Client       clientRow
			Registration hpcsera.Registration
			Keys, Secret string
			Owns         bool
			Operator     bool
			Server       string
		}{row, registered, string(registered.Keys), secret, row.Owner == v.user() || v.operator(), v.operator(), s.cfg.URL})
	}
	return hpcsera.Errorf(hpcsera.NotFound, "there is no client %q.", name)
}

// register sets how a client gets tokens on demand. A new secret is shown once.
func (s *Site) register(v *visit) error {
	made, err := s.cfg.Access.Register(v.Context(), v.by, access.NewRegistration{
		Client: v.PathValue("client"), Method: hpcsera.ClientMethod(v.text("method")), NewSecret: v.text("new_secret") == "yes",
		Keys: v.text("jwks"), CIBA: hpcsera.CIBAMode(v.text("ciba")), Notify: v.text("notify"),
	})
	if err != nil {
		return err
	}
	if made.Secret != "" {
		return s.showClient(v, made.Secret)
	}
	return s.done(v, "client-set", s.clientPath(v))
}

func (s *Site) clientPath(v *visit) string {
	return "/clients/" + url.PathEscape(v.PathValue("client"))
}

func (s *Site) enableClient(v *visit) error {
	on := v.text("asking") == "yes"
	_, err := s.cfg.Access.EnableClient(v.Context(), v.by, access.Enabling{User: v.user(), Client: v.PathValue("client"), Enabled: on})
	if err != nil {
		return err
	}
	return s.done(v, map[bool]string{true: "client-may", false: "client-may-not"}[on], s.clientPath(v))
}

func (s *Site) disableClient(v *visit) error {
	off := v.text("disabled") == "yes"
	if _, err := s.cfg.Access.SetClient(v.Context(), v.by, access.Switch{Name: v.PathValue("client"), Disabled: off}); err != nil {
		return err
	}
	return s.done(v, cmp.Or(map[bool]string{true: "client-disabled"}[off], "client-enabled"), s.clientPath(v))
}
