package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed templates
var templates embed.FS

//go:embed assets
var assets embed.FS

// Config is what a Frame is made of.
type Config struct {
	Prefix  string // of all paths: "/auth", or "" at the top
	Product string // the name above every page
	// Nav are the places of the program, shown to who is signed in.
	Nav []Link
	// Account and SignOut are the paths behind the user's name.
	Account, SignOut string
	// Secure says that users come by https: cookies are then bound to the host.
	Secure bool
	Log    *slog.Logger
}

// Link is one entry of the navigation.
type Link struct {
	Path, Label string
	Operators   bool // shown to operators only
}

// Frame is what all pages of a program share. It can be used concurrently.
type Frame struct {
	cfg    Config
	layout *template.Template
	files  map[string]file // by the name in their address
	names  map[string]string
	own    *Pages
}

// file is an embedded file as it is served.
type file struct {
	kind string
	data []byte
}

// New returns a frame.
func New(cfg Config) (*Frame, error) {
	f := &Frame{cfg: cfg, files: map[string]file{}, names: map[string]string{}}
	own, err := fs.Sub(assets, "assets")
	if err != nil {
		return nil, err
	}
	if err := f.Assets(own); err != nil {
		return nil, err
	}
	f.layout, err = template.New("layout").Funcs(f.functions()).ParseFS(templates, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	pages, err := fs.Sub(templates, "templates/pages")
	if err == nil {
		f.own, err = f.Pages(pages, nil, nil)
	}
	return f, err
}

// Assets adds a feature's scripts and pictures. Their addresses carry a hash
// of what is in them, so browsers may keep them for ever. It must be called
// before the frame is used.
func (f *Frame) Assets(files fs.FS) error {
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		if _, taken := f.names[name]; taken {
			return fmt.Errorf("there are two files %s", name)
		}
		sum := sha256.Sum256(data)
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "-" + base64.RawURLEncoding.EncodeToString(sum[:9]) + ext
		f.names[name], f.files[hashed] = hashed, file{kind: mime.TypeByExtension(ext), data: data}
		return nil
	})
}

// Path returns a path of the program as browsers have to ask for it.
func (f *Frame) Path(p string) string { return f.cfg.Prefix + p }

// Handler serves the embedded files below PREFIX/assets/.
func (f *Frame) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asset, ok := f.files[strings.TrimPrefix(r.URL.Path, f.Path("/assets/"))]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", asset.kind)
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(asset.data))
	})
}

// policy lets a page load from its own server only, run no script and no
// style that stands in it, send forms nowhere else, and be framed by nobody.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// headers are on everything that Protect wraps. The referrer stays within the
// server rather than being left out, because browsers leave out the origin of
// a form with it, by which we tell our own forms where Sec-Fetch-Site is not
// sent.
func headers(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()")
	h.Set("Cache-Control", "no-store")
}

// Protect wraps everything that shows pages or takes forms: it sets the
// headers and refuses what another site's page sends with the user's cookies.
// Programs, which send no such headers as browsers do, are not kept out.
func (f *Frame) Protect(h http.Handler) http.Handler {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.own.Render(w, r, http.StatusForbidden, "foreign", View{})
	}))
	guarded := guard.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers(w.Header())
		guarded.ServeHTTP(w, r)
	})
}

// SetCookie gives a browser a cookie that scripts cannot read and that other
// sites' forms do not send. Where users come by https its name binds it to
// this host: no neighbour in the domain can set it. Zero ends means for as
// long as the browser is open.
func (f *Frame) SetCookie(w http.ResponseWriter, name, value string, ends time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name: f.cookieName(name), Value: value, Path: "/", Expires: ends,
		Secure: f.cfg.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// DropCookie takes a cookie back.
func (f *Frame) DropCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, &http.Cookie{
		Name: f.cookieName(name), Path: "/", MaxAge: -1,
		Secure: f.cfg.Secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// Cookie returns a cookie's value, or "". A name that comes twice is nobody's:
// one of the two was planted.
func (f *Frame) Cookie(r *http.Request, name string) string {
	if all := r.CookiesNamed(f.cookieName(name)); len(all) == 1 {
		return all[0].Value
	}
	return ""
}

func (f *Frame) cookieName(name string) string {
	if f.cfg.Secure {
		return "__Host-" + name
	}
	return name
}
