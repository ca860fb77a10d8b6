package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strconv"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// maxProfile is the longest duration of a profile, in seconds. It must be shorter than the
// WriteTimeout of the server.
const maxProfile = 30

// profiles returns the routes of the profiles for go tool pprof. They consist of numbers and
// names of functions, and contain no data of clients.
func profiles() (all []Route) {
	for path, h := range map[string]http.HandlerFunc{
		"":        pprof.Index, // which also serves the profiles by name
		"cmdline": pprof.Cmdline,
		"profile": pprof.Profile,
		"symbol":  pprof.Symbol,
		"trace":   pprof.Trace,
	} {
		all = append(all, Route{"GET /debug/pprof/" + path, Operate, boundProfile(h)})
	}
	return all
}

// boundProfile refuses profiles that are longer than maxProfile, which is also the default
// of package pprof for a CPU profile.
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
