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

// Options are the parts of the admin side. If a handler is nil, its path does not exist. The
// functions are called for every request, from many goroutines.
type Options struct {
	// Token returns the admin token, which callers send as bearer token (RFC 6750 section 2.1).
	// While it is empty, every path that needs it refuses requests. Token must be set.
	Token func() string
	// Ready returns nil while the proxy can serve devices, and otherwise why not. It must be
	// set.
	Ready func() error
	// Metrics serves /metrics.
	Metrics http.Handler
	// Telemetry serves the paths below /api/plugins/telemetry/.
	Telemetry http.Handler
	// API serves the paths below /v1.
	API *API
	// PushSecret returns the secret with which token services sign pushes. While it is empty,
	// every push is refused. If PushSecret is nil, there is no /v1/push.
	PushSecret func() string
}

// NewServer returns an HTTP server for o that limits the time and memory of a request. Its
// address is not set: call Serve.
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
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.Ready(); err != nil {
			writeText(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		writeText(w, http.StatusOK, "ready")
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
		mux.Handle("POST /v1/push", newPushVerifier(o.PushSecret, http.HandlerFunc(o.API.revoke)))
	}
	mux.Handle("/", http.NewCrossOriginProtection().Handler(requireToken(o.Token, private)))
	return mux
}

// requireToken answers 401 to requests without the bearer token.
func requireToken(current func() string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := current()
		want := sha256.Sum256([]byte(token))
		given, ok := bearer(r.Header.Get("Authorization"))
		// The digests have the same length, so the time of the comparison reveals nothing about
		// the length of the token.
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

// bearer returns the token in an Authorization header. The scheme is case-insensitive (RFC
// 9110 section 11.1).
func bearer(header string) (string, bool) {
	scheme, rest, ok := strings.Cut(header, " ")
	return strings.TrimLeft(rest, " "), ok && strings.EqualFold(scheme, "Bearer")
}

// writeText answers with a line of text.
func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}
