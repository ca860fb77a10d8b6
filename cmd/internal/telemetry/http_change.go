package telemetry

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// methods answers the requests of each method. An answer that is not an error has no body.
type methods map[string]func(http.ResponseWriter, *http.Request) error

// ServeHTTP implements http.Handler.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	change, ok := m[r.Method]
	if !ok {
		names := slices.Sorted(maps.Keys(m))
		w.Header().Set("Allow", strings.Join(names, ", "))
		problem.Write(w, http.StatusMethodNotAllowed, "only these methods are served here: "+strings.Join(names, ", "))
		return
	}
	if err := change(w, r); err != nil {
		problem.Write(w, statusOf(err), err.Error())
	}
}

// changeAPI changes what is stored of a device.
type changeAPI struct{ changes *Changes }

func (a changeAPI) set(w http.ResponseWriter, r *http.Request) error {
	scope, err := scopeOf(r.PathValue("scope"))
	if err != nil {
		return err
	}
	if scope != SharedScope {
		return badRequest("CLIENT_SCOPE attributes are set by devices: use SHARED_SCOPE")
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxPayload))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return &statusError{http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB"}
	case err != nil:
		return badRequest("the body cannot be read: %v", err)
	}
	return a.changes.SetShared(r.Context(), r.PathValue("subject"), data)
}

func (a changeAPI) delete(_ http.ResponseWriter, r *http.Request) error {
	scope, err := scopeOf(r.PathValue("scope"))
	if err != nil {
		return err
	}
	_, keys, err := keysOf(r)
	if err != nil {
		return err
	}
	if len(keys) > MaxAttributes {
		return badRequest("keys: more than %d", MaxAttributes)
	}
	return a.changes.DeleteAttributes(r.Context(), r.PathValue("subject"), scope, keys)
}

// keysOf returns the parameters of a request to delete and the keys that it has to name. Others are
// the parameters that it may have besides keys and key.
func keysOf(r *http.Request, others ...string) (params, []string, error) {
	p, err := parseParams(r.URL.RawQuery)
	if err != nil {
		return nil, nil, err
	}
	if err := p.only(append([]string{"keys", "key"}, others...)); err != nil {
		return nil, nil, err
	}
	keys, err := p.keys()
	if err == nil && len(keys) == 0 {
		err = badRequest("keys: names no key")
	}
	return p, keys, err
}

func (a changeAPI) deleteTelemetry(_ http.ResponseWriter, r *http.Request) error {
	p, keys, err := keysOf(r, "startTs", "endTs", "deleteAllDataForKeys", "deleteLatest", "rewriteLatestIfDeleted")
	if err != nil {
		return err
	}
	d := Deletion{Device: r.PathValue("subject"), Keys: keys, Start: math.MinInt64, End: math.MaxInt64}
	all, latest := false, true
	for _, flag := range []struct {
		name   string
		target *bool
	}{{"deleteAllDataForKeys", &all}, {"deleteLatest", &latest}, {"rewriteLatestIfDeleted", &d.RewriteLatest}} {
		if err := p.bool(flag.name, flag.target); err != nil {
			return err
		}
	}
	d.KeepLatest = !latest
	if !all {
		if !p.has("startTs") || !p.has("endTs") {
			return badRequest("startTs and endTs: one of them is missing; give both, or deleteAllDataForKeys=true")
		}
		if err := p.int("startTs", &d.Start); err != nil {
			return err
		}
		if err := p.int("endTs", &d.End); err != nil {
			return err
		}
	}
	err = a.changes.DeleteTelemetry(r.Context(), d)
	if errors.Is(err, context.DeadlineExceeded) {
		return &statusError{http.StatusServiceUnavailable, "not everything is deleted yet: send the same request again"}
	}
	return err
}
