package admin

import (
	"cmp"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// Options are the parts of the admin side. If a handler is nil, its path does not exist. The
// functions are called for every request, from many goroutines.
type Options struct {
	// Access returns who may use the admin side, and by which names. It must be set.
	Access func() *Access
	// Ready returns nil while the proxy can serve devices, and otherwise why not. It must be
	// set.
	Ready func() error
	// Degraded returns what does not work although devices can be served. If it is nil, nothing is
	// reported.
	Degraded func() []string
	// Metrics serves /metrics.
	Metrics http.Handler
	// Telemetry serves the paths below /api/plugins/telemetry/.
	Telemetry http.Handler
	// RPC serves the paths below /api/rpc/ and /api/plugins/rpc/.
	RPC http.Handler
	// API serves the paths below /v1.
	API *API
	// Page are the routes for browsers.
	Page []Route
	// WrongSignIn is called with the address of a browser that has sent a wrong token, if it is not
	// nil.
	WrongSignIn func(address string)
	// PushSecret returns the secret with which token services sign pushes. While it is empty,
	// every push is refused. If PushSecret is nil, there is no /v1/push.
	PushSecret func() string
	// Connections is how many connections may be open at once, at least 1; 0 means MaxConnections.
	Connections int
}

// MaxConnections is how many connections may be open at once if there are enough file descriptors:
// enough for some dozens of browsers, each with a live view.
const MaxConnections = 128

// NewServer returns an HTTP server for o that limits the time and memory of a request, and the
// number of connections. Its address is not set: call Serve.
func NewServer(o Options) *http.Server {
	open := &connections{most: cmp.Or(o.Connections, MaxConnections)}
	return &http.Server{
		Handler:           newHandler(o),
		ConnState:         open.changed,
		ConnContext:       open.inContext,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

func newHandler(o Options) http.Handler {
	gate := &gate{access: o.Access, form: template.Must(template.New("sign-in").Parse(signInHTML)), wrong: o.WrongSignIn}
	if o.API != nil {
		gate.audit = o.API.Audit
	}
	mux := http.NewServeMux()
	for _, route := range o.routes() {
		mux.Handle(route.Pattern, gate.protect(route, false))
	}
	for _, route := range o.pages(gate) {
		mux.Handle(route.Pattern, gate.protect(route, true))
	}
	return harden(mux)
}

// routes returns the routes for programs.
func (o Options) routes() []Route {
	all := []Route{
		{"GET /livez", Everyone, http.HandlerFunc(livez)},
		{"GET /readyz", Everyone, readyz(o.Ready, o.Degraded)},
		{"/", Metrics, http.HandlerFunc(nothing)},
	}
	if o.Metrics != nil {
		all = append(all, Route{"GET /metrics", Metrics, o.Metrics})
	}
	if o.Telemetry != nil {
		all = append(all, Route{"/api/plugins/telemetry/", Read, o.Telemetry})
	}
	if o.RPC != nil {
		all = append(all, Route{"/api/rpc/", Operate, o.RPC}, Route{"/api/plugins/rpc/", Operate, o.RPC})
	}
	all = append(all, profiles()...)
	if o.API != nil {
		all = append(all, o.API.routes()...)
	}
	if o.API != nil && o.PushSecret != nil {
		all = append(all, Route{"POST /v1/push", Everyone, newPushVerifier(o.PushSecret, http.HandlerFunc(o.API.revoke))})
	}
	return all
}

// pages returns the routes for browsers.
func (o Options) pages(g *gate) []Route {
	return append([]Route{
		{"POST /sign-in", Everyone, http.HandlerFunc(g.signIn)},
		{"POST /sign-out", Everyone, http.HandlerFunc(g.signOut)},
	}, o.Page...)
}

// Patterns returns the patterns of all routes, in the form of http.ServeMux.
func (o Options) Patterns() (all []string) {
	for _, route := range slices.Concat(o.routes(), o.pages(&gate{})) {
		all = append(all, route.Pattern)
	}
	return all
}

func livez(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") }

func readyz(ready func() error, degraded func() []string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			writeText(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		text := "ready"
		if degraded != nil {
			for _, fault := range degraded() {
				text += "\ndegraded: " + fault
			}
		}
		writeText(w, http.StatusOK, text)
	}
}

func nothing(w http.ResponseWriter, _ *http.Request) {
	problem.Write(w, http.StatusNotFound, "there is nothing at this path")
}

// harden refuses requests that pages of other origins cause and that could change something. It
// sets headers with which browsers load nothing from elsewhere, show no answer in a frame, and
// store none.
func harden(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem.Write(w, http.StatusForbidden, "the request comes from a page of another origin")
	}))
	next = origin.Handler(plainQuery(next))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
				"form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Permissions-Policy":           "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
		} {
			w.Header().Set(name, value)
		}
		next.ServeHTTP(w, r)
	})
}

// plainQuery refuses queries of which net/url would pass over a part: the rest may select more than
// was asked for.
func plainQuery(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
			problem.Write(w, http.StatusBadRequest, "the query cannot be read: write a semicolon as %3B and a percent sign as %25")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// writeText answers with a line of text.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
