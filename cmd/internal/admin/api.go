package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/problem"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/refusals"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// API serves the paths below /v1 with these parts, all of which must be set. They may
// be called from many goroutines. Other packages that change something call the methods of API,
// which record the change, and not the parts.
type API struct {
	// Status returns the answer of /v1/status.
	Status func() Status
	// Devices is the method of presence.Recorder.
	Devices func(context.Context, presence.Query) (presence.Page, error)
	// Sessions and Kick are the methods of proxy.Server.
	Sessions func() iter.Seq2[*proxy.Client, func() proxy.Activity]
	Kick     func(match func(*proxy.Client) bool, cause error) int
	// Refusals are the last refusals of the proxy.
	Refusals *refusals.Store
	// KickSubject ends the sessions of a subject with proxy.ErrKicked, here and on all other
	// replicas. It returns how many have ended here.
	KickSubject func(subject string) int
	// Withdraw removes the answers that the withdrawal names from the caches and, if the
	// withdrawal asks for it, denies the token. It returns how many entries it has removed. Its
	// error may be [ErrFull].
	Withdraw func(Withdrawal) (entries int, err error)
	// Save stores denials, so that they survive a restart.
	Save func() error
	// Purge empties the caches and returns how many entries it has removed.
	Purge func() int
	// Drain takes a broker out of use or puts it back. Its error may be [ErrNoBroker].
	Drain func(BrokerChange) (BrokerStatus, error)
	// Reload reads the configuration and its files again and returns an error that lists the
	// faults. It records itself in Audit, for the requester of its context.
	Reload func(context.Context) error
	// Audit records every change. If it is nil, none is recorded.
	Audit *Audit
	// Tokens returns the token sources that can be changed, and TokensSeen is the method of
	// presence.Recorder. If Tokens is nil, there are none; if TokensSeen is nil, nothing is known.
	Tokens     func() ([]NamedStore, error)
	TokensSeen func(ctx context.Context, ids []string) (map[string]time.Time, error)

	once    sync.Once // makes reading
	reading chan struct{}
}

func (a *API) routes() []Route {
	return []Route{
		{"GET /v1/status", Read, http.HandlerFunc(a.status)},
		{"GET /v1/sessions", Read, http.HandlerFunc(a.sessions)},
		{"GET /v1/devices", Read, http.HandlerFunc(a.devices)},
		{"GET /v1/refusals", Read, http.HandlerFunc(a.refusals)},
		{"DELETE /v1/sessions/{id}", Operate, http.HandlerFunc(a.kick)},
		{"DELETE /v1/sessions", Operate, http.HandlerFunc(a.kickSubject)},
		{"POST /v1/revocations", Operate, http.HandlerFunc(a.revoke)},
		{"DELETE /v1/cache", Operate, http.HandlerFunc(a.clearCaches)},
		{"POST /v1/brokers/drain", Operate, http.HandlerFunc(a.drain)},
		{"POST /v1/brokers/enable", Operate, http.HandlerFunc(a.enable)},
		{"POST /v1/reload", Operate, http.HandlerFunc(a.reload)},
		{"GET /v1/audit", Operate, http.HandlerFunc(a.audit)},
		{"GET /v1/tokens", Read, http.HandlerFunc(a.listTokens)},
		{"POST /v1/tokens", Operate, http.HandlerFunc(a.createToken)},
		{"POST /v1/tokens/rotate", Operate, http.HandlerFunc(a.rotateToken)},
		{"POST /v1/tokens/{change}", Operate, http.HandlerFunc(a.changeTokens)},
	}
}

func (a *API) status(w http.ResponseWriter, _ *http.Request) { writeJSON(w, a.Status()) }

func (a *API) clearCaches(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, map[string]int{"entries": a.ClearCaches(r.Context())})
}

// Session is a live session in an answer of the API.
type Session struct {
	ID          uint64    `json:"id"`
	Subject     string    `json:"subject"`
	TokenID     string    `json:"token_id"`
	Fingerprint string    `json:"fingerprint"`
	ClientID    string    `json:"client_id"`
	Address     string    `json:"address,omitempty"`
	Listener    string    `json:"listener"`
	Version     string    `json:"version"`
	TLS         string    `json:"tls,omitempty"`
	Server      string    `json:"server,omitempty"` // the broker, empty for the bundled one
	Since       time.Time `json:"since"`
	// BytesUp and BytesDown are the bytes sent to the broker and to the device.
	BytesUp   int64 `json:"bytes_up"`
	BytesDown int64 `json:"bytes_down"`
	// Denied is how many messages and topic filters its topic rules, topic map or limits did not allow.
	Denied int64 `json:"denied"`
	// Holds is how often the device went over a rate of its limits.
	Holds int64 `json:"holds"`
	// IdleSeconds is how long ago data last came from or went to the device, or nil if the
	// system does not know.
	IdleSeconds *int64 `json:"idle_seconds,omitempty"`
	// Expires is when the grant expires, or nil for never.
	Expires *time.Time `json:"expires,omitempty"`
}

// Sessions is the answer to GET /v1/sessions.
type Sessions struct {
	// Sessions are the sessions that match, up to the limit. Total is how many match.
	Sessions []Session `json:"sessions"`
	Total    int       `json:"total"`
}

const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// sessions lists the sessions with the subject and client_id of the query.
func (a *API) sessions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if err := checkParameters(q, "subject", "client_id", "limit"); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	limit, err := limitOf(q)
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	found := Sessions{Sessions: []Session{}}
	for c, activity := range a.Sessions() {
		if q.Has("subject") && c.Subject() != q.Get("subject") || q.Has("client_id") && c.ClientID != q.Get("client_id") {
			continue
		}
		if found.Total++; found.Total <= limit {
			found.Sessions = append(found.Sessions, SessionOf(c, activity()))
		}
	}
	writeJSON(w, found)
}

// checkParameters returns an error if q has a parameter with another name, or one of them twice: if
// it were ignored, the answer would have more than was asked for.
func checkParameters(q url.Values, names ...string) error {
	for name, values := range q {
		if !slices.Contains(names, name) || len(values) > 1 {
			return errors.New("the parameters are " + strings.Join(names, ", ") + ", each at most once")
		}
	}
	return nil
}

// limitOf returns how many entries a list may have.
func limitOf(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return defaultLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, fmt.Errorf("limit is a number from 1 to %d", maxLimit)
	}
	return n, nil
}

// SessionOf returns what an answer says of a session.
func SessionOf(c *proxy.Client, a proxy.Activity) Session {
	s := Session{
		ID: c.ID, Subject: c.Subject(), TokenID: c.Grant.TokenID, Fingerprint: c.Fingerprint(), ClientID: c.ClientID,
		Listener: c.Listener, Version: c.Version(), TLS: c.TLSVersion(), Server: c.Server, Since: c.Since.UTC(),
		BytesUp: a.Up, BytesDown: a.Down, Denied: a.Denied, Holds: a.Holds,
	}
	if a.Idle >= 0 {
		idle := int64(a.Idle.Seconds())
		s.IdleSeconds = &idle
	}
	if c.Addr.IsValid() {
		s.Address = c.Addr.String()
	}
	if e := c.Grant.Expires; !e.IsZero() {
		e = e.UTC()
		s.Expires = &e
	}
	return s
}

func (a *API) kick(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || !a.EndSession(r.Context(), id) {
		problem.Write(w, http.StatusNotFound, "there is no live session with this id")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// kickSubject ends the sessions of the subject in the query.
func (a *API) kickSubject(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	subject := q.Get("subject")
	if len(q) != 1 || subject == "" || len(subject) > maxSubject {
		problem.Write(w, http.StatusBadRequest, fmt.Sprintf("name the device as ?subject=NAME, with at most %d bytes, and nothing else", maxSubject))
		return
	}
	writeJSON(w, map[string]int{"sessions": a.EndSessions(r.Context(), subject)})
}

// Withdrawal is a request to POST /v1/revocations.
type Withdrawal struct {
	authz.Revocation
	// Deny means that the token is refused even if a token source grants it, until the time
	// Until. If Until is zero, [API.Withdraw] chooses the time.
	Deny  bool
	Until time.Time
}

// ErrFull means that no further denial can be stored.
var ErrFull = errors.New("there is no room for one more denial")

// revocation is the body of POST /v1/revocations. Exactly one of the first three is set.
type revocation struct {
	Token   string `json:"token"`
	TokenID string `json:"token_id"`
	Subject string `json:"subject"`
	Mode    string `json:"mode"`
	Until   string `json:"until"`
}

// The longest token id and subject that a grant can have, in bytes.
const (
	maxTokenID = 128
	maxSubject = 256
)

// maxBody is the size of the largest request body, in bytes.
const maxBody = 128 << 10

func (a *API) revoke(w http.ResponseWriter, r *http.Request) {
	var body revocation
	if err := decode(w, r, &body); err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	withdrawal, err := body.withdrawal(time.Now())
	if err != nil {
		problem.Write(w, http.StatusBadRequest, err.Error())
		return
	}
	entries, sessions, err := a.Revoke(r.Context(), withdrawal)
	switch {
	case errors.Is(err, ErrFull):
		problem.Write(w, http.StatusInsufficientStorage, err.Error())
	case err != nil:
		problem.Write(w, http.StatusInternalServerError, err.Error())
	default:
		writeJSON(w, map[string]int{"entries": entries, "sessions": sessions})
	}
}

// withdrawal returns the request, or an error for the client.
func (b revocation) withdrawal(now time.Time) (Withdrawal, error) {
	w := Withdrawal{Revocation: authz.Revocation{TokenID: b.TokenID, Subject: b.Subject}, Deny: b.Mode == "deny"}
	if b.Token != "" {
		w.TokenHash = authz.NewToken(b.Token).Hash()
	}
	given := 0
	for _, s := range []string{b.Token, b.TokenID, b.Subject} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return Withdrawal{}, errors.New("give exactly one of token, token_id and subject")
	case len(b.TokenID) > maxTokenID || len(b.Subject) > maxSubject:
		return Withdrawal{}, fmt.Errorf("token_id has at most %d bytes, subject at most %d", maxTokenID, maxSubject)
	case b.Mode != "" && b.Mode != "evict" && b.Mode != "deny":
		return Withdrawal{}, errors.New("mode is evict (ask the sources again) or deny (refuse whatever the sources say)")
	case b.Until == "":
		return w, nil
	case !w.Deny:
		return Withdrawal{}, errors.New("until is allowed only with mode deny")
	}
	var err error
	if w.Until, err = time.Parse(time.RFC3339, b.Until); err != nil {
		return Withdrawal{}, errors.New("until is a time such as 2027-01-31T00:00:00Z (RFC 3339)")
	}
	if !w.Until.After(now) {
		return Withdrawal{}, errors.New("until has passed")
	}
	return w, nil
}

func (a *API) reload(w http.ResponseWriter, r *http.Request) {
	if err := a.Reload(r.Context()); err != nil {
		problem.Write(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	writeJSON(w, map[string]string{"status": "reloaded"})
}

// writeJSON answers with v in JSON.
func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		problem.Write(w, http.StatusInternalServerError, "the answer cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}
