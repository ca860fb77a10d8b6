package telemetry

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// Handler serves the part of ThingsBoard's telemetry REST API that reads, from store, under
// /api/plugins/telemetry/DEVICE/{subject}, where subject is the device's percent-encoded name:
//
//	GET .../keys/timeseries
//	GET .../values/timeseries?keys=a,b&useStrictDataTypes=true
//	GET .../values/timeseries?keys=a,b&startTs=&endTs=&limit=&orderBy=&agg=&interval=
//	GET .../values/timeseries/history?keys=a,b&startTs=&endTs=&limit=&orderBy=&agg=&interval=
//	GET .../keys/attributes[/CLIENT_SCOPE|/SHARED_SCOPE]
//	GET .../values/attributes[/CLIENT_SCOPE|/SHARED_SCOPE]?keys=a,b
//
// and the part that sets attributes and deletes, unless changes is nil:
//
//	POST .../SHARED_SCOPE, .../attributes/SHARED_SCOPE   with an object
//	DELETE .../SHARED_SCOPE?keys=a,b, .../CLIENT_SCOPE?keys=a,b
//	DELETE .../timeseries/delete?keys=a,b&startTs=&endTs=&deleteAllDataForKeys=&deleteLatest=&rewriteLatestIfDeleted=
//
// A request to delete that has other parameters than these is refused.
//
// key=a&key=b means the same as keys=a,b and is the only way to name a key with a comma. Without
// startTs and endTs the answer is the newest value of each key, or of all if no key is named, and
// null at the present time for a key that the device does not have. The other parameters are those
// of [Query]. Values are strings unless useStrictDataTypes is true; attributes always have their
// own type.
//
// An answer has at most about 16 MiB of values. Four requests that read are answered at once;
// others wait up to ten seconds. Errors are problem details (RFC 9457): 400 if the request is at
// fault or its answer would be too large, 503 if the store fails or there are too many requests.
// The caller authenticates the readers, and decides who may change something.
func Handler(store Reader, changes *Changes) http.Handler {
	api := readAPI{store}
	mux := http.NewServeMux()
	const device = "/api/plugins/telemetry/DEVICE/{subject}/"
	turns := make(turns, maxAtOnce)
	for path, answer := range map[string]answer{
		"keys/timeseries":           api.keys,
		"values/timeseries":         api.values,
		"values/timeseries/history": api.history,
		"keys/attributes":           api.attributeKeys,
		"keys/attributes/{scope}":   api.attributeKeys,
		"values/attributes":         api.attributes,
		"values/attributes/{scope}": api.attributes,
	} {
		mux.Handle(device+path, turns.handler(answer))
	}
	if changes != nil {
		api := changeAPI{changes}
		mux.Handle(device+"{scope}", methods{http.MethodPost: api.set, http.MethodDelete: api.delete})
		mux.Handle(device+"attributes/{scope}", methods{http.MethodPost: api.set, http.MethodDelete: api.delete})
		mux.Handle(device+"timeseries/delete", methods{http.MethodDelete: api.deleteTelemetry})
	}
	mux.Handle("/", answer(func(*http.Request, params) (any, error) {
		return nil, &statusError{http.StatusNotFound, "there is nothing at this path"}
	}))
	return mux
}

const (
	// maxAtOnce is how many requests are answered at once. Each may take 16 MiB.
	maxAtOnce = 4
	// longestWait is how long a further request waits.
	longestWait = 10 * time.Second
)

// turns has a value for each request that is being answered.
type turns chan struct{}

// handler lets h answer while few other requests are being answered.
func (turns turns) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timeout := time.NewTimer(longestWait)
		defer timeout.Stop()
		select {
		case turns <- struct{}{}:
			defer func() { <-turns }()
			h.ServeHTTP(w, r)
		case <-timeout.C:
			w.Header().Set("Retry-After", "1")
			problem.Write(w, http.StatusServiceUnavailable, "there are too many requests at once: try again later")
		case <-r.Context().Done():
		}
	})
}

// statusError is an error with the HTTP status of its answer.
type statusError struct {
	status int
	detail string
}

// Error implements the error interface.
func (e *statusError) Error() string { return e.detail }

func badRequest(format string, args ...any) error {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// answer returns the body of an answer, to be encoded as JSON.
type answer func(*http.Request, params) (any, error)

// ServeHTTP implements http.Handler.
func (a answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		problem.Write(w, http.StatusMethodNotAllowed, "only GET and HEAD are served here")
		return
	}
	p, err := parseParams(r.URL.RawQuery)
	if err != nil {
		problem.Write(w, statusOf(err), err.Error())
		return
	}
	body, err := a(r, p)
	if err != nil {
		problem.Write(w, statusOf(err), err.Error())
		return
	}
	writeJSON(w, body)
}

func statusOf(err error) int {
	var withStatus *statusError
	switch {
	case errors.As(err, &withStatus):
		return withStatus.status
	case errors.Is(err, ErrQuery), isPayloadError(err):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

func writeJSON(w http.ResponseWriter, body any) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	// Writing fails only when the client has gone.
	if large, ok := body.(timeseries); ok {
		buffered := bufio.NewWriter(w)
		large.writeJSON(buffered)
		_ = buffered.Flush()
		return
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body)
}

type readAPI struct{ store Reader }

func (a readAPI) keys(r *http.Request, _ params) (any, error) {
	return Keys(r.Context(), a.store, r.PathValue("subject"))
}

func (a readAPI) values(r *http.Request, p params) (any, error) { return a.timeseries(r, p, false) }

func (a readAPI) history(r *http.Request, p params) (any, error) { return a.timeseries(r, p, true) }

// timeseries returns the values of a span, or the newest ones if no span is given and it need not
// be.
func (a readAPI) timeseries(r *http.Request, p params, always bool) (any, error) {
	strict := false
	if err := p.bool("useStrictDataTypes", &strict); err != nil {
		return nil, err
	}
	keys, err := p.keys()
	if err != nil {
		return nil, err
	}
	device := r.PathValue("subject")
	var points map[string][]Point
	if always || p.has("startTs") || p.has("endTs") {
		points, err = a.span(r.Context(), Query{Device: device, Keys: keys}, p)
	} else {
		points, err = a.latest(r.Context(), device, keys)
	}
	if err != nil {
		return nil, err
	}
	return timeseries{points, strict}, nil
}

// timeseries is written as JSON value by value, so that a large answer is in memory only once.
type timeseries struct {
	points map[string][]Point
	strict bool
}

func (t timeseries) writeJSON(w *bufio.Writer) {
	var text []byte
	for i, key := range slices.Sorted(maps.Keys(t.points)) {
		text = append(text[:0], "{,"[min(i, 1)])
		text = append(payload.AppendString(text, key), ':', '[')
		for j, p := range t.points[key] {
			if j > 0 {
				text = append(text, ',')
			}
			text = append(strconv.AppendInt(append(text, `{"ts":`...), p.TS, 10), `,"value":`...)
			text = append(append(text, valueJSON(p.Value, t.strict)...), '}')
			// w keeps the first error.
			_, _ = w.Write(text)
			text = text[:0]
		}
		_, _ = w.Write(append(text, ']'))
	}
	if len(t.points) == 0 {
		_ = w.WriteByte('{')
	}
	_, _ = w.WriteString("}\n")
}

// valueJSON returns v with its own type, or as a string.
func valueJSON(v payload.Value, strict bool) json.RawMessage {
	if strict || v.Kind() == 0 {
		return v.AppendJSON(nil)
	}
	return payload.AppendString(nil, v.String())
}

func (a readAPI) latest(ctx context.Context, device string, keys []string) (map[string][]Point, error) {
	latest, err := Latest(ctx, a.store, device, keys...)
	if err != nil {
		return nil, err
	}
	points := make(map[string][]Point, len(latest))
	for _, key := range keys {
		points[key] = []Point{{TS: time.Now().UnixMilli()}}
	}
	for key, p := range latest {
		points[key] = []Point{p}
	}
	return points, nil
}

// span answers q, which has device and keys, with the other parameters of p.
func (a readAPI) span(ctx context.Context, q Query, p params) (map[string][]Point, error) {
	if !p.has("startTs") || !p.has("endTs") {
		return nil, badRequest("startTs and endTs belong together: one of them is missing")
	}
	var unit string
	for _, option := range []struct {
		name   string
		target *string
	}{{"orderBy", &q.Order}, {"agg", &q.Aggregate}, {"intervalType", &unit}} {
		text, err := p.one(option.name)
		if err != nil {
			return nil, err
		}
		*option.target = strings.ToUpper(text)
	}
	if unit != "" && unit != "MILLISECONDS" {
		return nil, badRequest("intervalType: only MILLISECONDS is served")
	}
	limit := int64(defaultLimit)
	for _, number := range []struct {
		name   string
		target *int64
	}{{"startTs", &q.Start}, {"endTs", &q.End}, {"limit", &limit}, {"interval", &q.Interval}} {
		if err := p.int(number.name, number.target); err != nil {
			return nil, err
		}
	}
	if limit < 1 || limit > maxPoints {
		return nil, badRequest("limit: not in 1 to %d", maxPoints)
	}
	q.Limit = int(limit)
	return Points(ctx, a.store, q)
}

type attributeJSON struct {
	Updated int64           `json:"lastUpdateTs"`
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`
}

func (a readAPI) attributes(r *http.Request, p params) (any, error) {
	keys, err := p.keys()
	if err != nil {
		return nil, err
	}
	list, err := a.scoped(r, keys)
	answer := make([]attributeJSON, len(list))
	for i, attr := range list {
		answer[i] = attributeJSON{attr.TS, attr.Key, valueJSON(attr.Value, true)}
	}
	return answer, err
}

func (a readAPI) attributeKeys(r *http.Request, _ params) (any, error) {
	list, err := a.scoped(r, nil)
	keys := make([]string, len(list))
	for i, attr := range list {
		keys[i] = attr.Key
	}
	return slices.Compact(keys), err
}

// scoped returns the attributes of the scope in the path, or those of both without one.
func (a readAPI) scoped(r *http.Request, keys []string) ([]KeyPoint, error) {
	scopes := []Scope{ClientScope, SharedScope}
	if name := r.PathValue("scope"); name != "" {
		scope, err := scopeOf(name)
		if err != nil {
			return nil, err
		}
		scopes = []Scope{scope}
	}
	var all []KeyPoint
	for _, scope := range scopes {
		list, err := Attributes(r.Context(), a.store, r.PathValue("subject"), scope, keys...)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortStableFunc(all, func(a, b KeyPoint) int { return strings.Compare(a.Key, b.Key) })
	return all, nil
}

// scopeOf refuses the other scopes of ThingsBoard, because an empty answer would mean that there
// are no such attributes.
func scopeOf(name string) (Scope, error) {
	switch scope := Scope(name); scope {
	case ClientScope, SharedScope:
		return scope, nil
	}
	return "", &statusError{http.StatusNotFound, "only CLIENT_SCOPE and SHARED_SCOPE attributes are stored"}
}
