package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
)

// devices answers with a page of the devices that were seen.
func (a *API) devices(w http.ResponseWriter, r *http.Request) {
	q, err := deviceQuery(r.URL.Query())
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	page, err := a.Devices(r.Context(), q)
	switch {
	case errors.Is(err, presence.ErrUnavailable):
		problem.Write(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		problem.Write(w, http.StatusInternalServerError, err.Error())
	default:
		writeJSON(w, page)
	}
}

// deviceQuery reads the parameters of GET /v1/devices.
func deviceQuery(values url.Values) (presence.Query, error) {
	q := presence.Query{Limit: defaultLimit, Subject: values.Get("subject"), After: values.Get("after")}
	for name, given := range values {
		if !slices.Contains([]string{"subject", "connected", "limit", "after"}, name) || len(given) > 1 {
			return q, errors.New("the parameters are subject, connected, limit and after, each at most once")
		}
	}
	if text := values.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > presence.MaxLimit {
			return q, fmt.Errorf("limit is a number from 1 to %d", presence.MaxLimit)
		}
		q.Limit = n
	}
	if text := values.Get("connected"); text != "" {
		is, err := strconv.ParseBool(text)
		if err != nil {
			return q, errors.New("connected is true or false")
		}
		q.Connected = &is
	}
	return q, nil
}
