package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// Options are the parts of the admin side. Handlers that are nil are not
// mounted.
type Options struct {
	// Token returns what callers present as bearer token (RFC 6750 section 2.1); it
	// is asked for every request. While it is empty every path but the probes
	// refuses. It must be set.
	Token func() string
	// Ready returns nil while the proxy can serve devices, else why not.
	Ready func() error
	// Metrics serves /metrics.
	Metrics http.Handler
	// Telemetry serves the paths below /api/plugins/telemetry/.
	Telemetry http.Handler
	// API serves the paths below /v1.
	API *API
	// PushSecret returns what pushes of token services are signed with; while it
	// is empty none is taken. Nil is always empty.
	PushSecret func() string
}

// NewServer returns an HTTP server for o, with limits on what a caller may take.
// Its address is not set: it is for Serve.
func NewServer(o Options) *http.Server {
	return &http.Server{
		Handler:           newHandler(o),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

func newHandler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			plain(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	private := http.NewServeMux()
	if o.Metrics != nil {
		private.Handle("GET /metrics", o.Metrics)
	}
	if o.Telemetry != nil {
		private.Handle("/api/plugins/telemetry/", o.Telemetry)
	}
	mountProfiles(private)
	if o.API != nil {
		o.API.mount(private)
	}
	private.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, http.StatusNotFound, "there is nothing at this path")
	})
	if o.API != nil && o.PushSecret != nil {
		mux.Handle("POST /v1/push", newPushGate(o.PushSecret, http.HandlerFunc(o.API.revoke)))
	}
	mux.Handle("/", http.NewCrossOriginProtection().Handler(requireToken(o.Token, private)))
	return mux
}

// requireToken lets only callers with the bearer token through.
func requireToken(current func() string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := current()
		want := sha256.Sum256([]byte(token))
		given, ok := bearer(r.Header.Get("Authorization"))
		// Digests have one length, so the comparison tells nothing about that of
		// the token.
		got := sha256.Sum256([]byte(given))
		if !ok || token == "" || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="mqtt-auth-proxy"`)
			problem.Write(w, http.StatusUnauthorized, "send the admin token as bearer token: it is in the file that admin.token_file names")
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// bearer returns the credentials of an Authorization header; the scheme's case
// does not count (RFC 9110 section 11.1).
func bearer(header string) (string, bool) {
	scheme, rest, ok := strings.Cut(header, " ")
	return strings.TrimLeft(rest, " "), ok && strings.EqualFold(scheme, "Bearer")
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
