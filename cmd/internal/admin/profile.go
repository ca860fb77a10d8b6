package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// maxProfile is the longest time that a profile may watch the process, in
// seconds. It must end before the server's WriteTimeout.
const maxProfile = 30

// mountProfiles mounts what `go tool pprof` reads. Profiles hold names of
// functions and numbers, nothing of what clients sent.
func mountProfiles(mux *http.ServeMux) {
	for path, h := range map[string]http.HandlerFunc{
		"":        pprof.Index, // and the profiles by their names
		"cmdline": pprof.Cmdline,
		"profile": pprof.Profile,
		"symbol":  pprof.Symbol,
		"trace":   pprof.Trace,
	} {
		mux.HandleFunc("GET /debug/pprof/"+path, boundProfile(h))
	}
}

// boundProfile refuses to watch for longer than maxProfile, which is also what
// package pprof takes for a CPU profile that does not say how long.
func boundProfile(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if text := r.URL.Query().Get("seconds"); text != "" {
			// Fractions are for /debug/pprof/trace.
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || !(n > 0 && n <= maxProfile) {
				problem.Write(w, http.StatusBadRequest, fmt.Sprintf("seconds is a number from 1 to %d", maxProfile))
				return
			}
		}
		h(w, r)
	}
}
