// Package web is hpcserad's own pages: where people see, give and take back
// what programs may do in their name. It is an edge, like httpapi: it turns
// forms into calls of the features (internal/access, internal/code) and their
// answers into pages. Who somebody is comes from internal/signin, how a page
// looks from internal/page, and whether something is allowed is decided by
// auth.Allow within the features, never here.
//
// Every page works without scripts. A form that needs the second factor again
// is kept, the browser goes to the Auth app, and the form is shown once more
// before anything is done (see again.go). Secrets are shown once, in the answer
// to the form that made them, and are stored nowhere.
//
// [Site.Handler] takes everything but the API's own paths.
package web
