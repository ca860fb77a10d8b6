package telemetry

import (
	"errors"
	"io"
	"net/http"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// changeAPI changes the attributes of a device.
type changeAPI struct{ shared *Shared }

// ServeHTTP implements http.Handler.
func (a changeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var change func(http.ResponseWriter, *http.Request, Scope) error
	switch r.Method {
	case http.MethodPost:
		change = a.set
	case http.MethodDelete:
		change = a.delete
	default:
		w.Header().Set("Allow", "POST, DELETE")
		problem.Write(w, http.StatusMethodNotAllowed, "only POST and DELETE are served here")
		return
	}
	scope, err := scopeOf(r.PathValue("scope"))
	if err == nil {
		err = change(w, r, scope)
	}
	if err != nil {
		problem.Write(w, statusOf(err), err.Error())
	}
}

func (a changeAPI) set(w http.ResponseWriter, r *http.Request, scope Scope) error {
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
	return a.shared.Set(r.Context(), r.PathValue("subject"), data)
}

func (a changeAPI) delete(_ http.ResponseWriter, r *http.Request, scope Scope) error {
	p, err := parseParams(r.URL.RawQuery)
	if err != nil {
		return err
	}
	keys, err := p.keys()
	switch {
	case err != nil:
		return err
	case len(keys) == 0:
		return badRequest("keys: names no key")
	case len(keys) > MaxAttributes:
		return badRequest("keys: more than %d", MaxAttributes)
	}
	return a.shared.Delete(r.Context(), r.PathValue("subject"), scope, keys)
}
