package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// API is what the paths below /v1 act on.
type API struct {
	// Status is what /v1/status answers, a value for encoding/json.
	Status func() any
	// Sessions and Kick are those of the proxy.Server.
	Sessions func() iter.Seq2[*proxy.Client, func() proxy.Activity]
	Kick     func(match func(*proxy.Client) bool, cause error) int
	// Forget makes the caches forget a grant and, with deny, refuse it for as
	// long as they might have kept it. It returns how many entries went, or an
	// error that is the caller's fault.
	Forget func(r authz.Revocation, deny bool) (entries int, err error)
	// Purge empties the caches and returns how many entries went.
	Purge func() int
	// Reload takes up what has changed on disk.
	Reload func(context.Context) error
}

func (a *API) mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.Status()) })
	mux.HandleFunc("GET /v1/sessions", a.sessions)
	mux.HandleFunc("DELETE /v1/sessions/{id}", a.kick)
	mux.HandleFunc("POST /v1/revocations", a.revoke)
	mux.HandleFunc("DELETE /v1/cache", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]int{"entries": a.Purge()})
	})
	mux.HandleFunc("POST /v1/reload", a.reload)
}

// Session is a live session as the API shows it.
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
	Server      string    `json:"server,omitempty"` // the broker; none for the bundled one
	Since       time.Time `json:"since"`
	// BytesUp and BytesDown are what was passed to the broker and to the device.
	BytesUp   int64 `json:"bytes_up"`
	BytesDown int64 `json:"bytes_down"`
	// IdleSeconds is how long ago data last came from or went to the device, nil
	// if the system does not know.
	IdleSeconds *int64 `json:"idle_seconds,omitempty"`
	// Expires is when the grant ends, nil if it does not.
	Expires *time.Time `json:"expires,omitempty"`
}

// Sessions is the answer to GET /v1/sessions.
type Sessions struct {
	// Sessions are those asked for, up to the limit; Total is how many there
	// are.
	Sessions []Session `json:"sessions"`
	Total    int       `json:"total"`
}

const (
	defaultLimit = 100
	maxLimit     = 10_000
)

// sessions lists the sessions that the query's subject and client_id describe.
func (a *API) sessions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := defaultLimit
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxLimit {
			Problem(w, http.StatusBadRequest, fmt.Sprintf("limit is a number from 1 to %d", maxLimit))
			return
		}
		limit = n
	}
	found := Sessions{Sessions: []Session{}}
	for c, activity := range a.Sessions() {
		if q.Has("subject") && c.Subject() != q.Get("subject") || q.Has("client_id") && c.ClientID != q.Get("client_id") {
			continue
		}
		if found.Total++; found.Total <= limit {
			found.Sessions = append(found.Sessions, sessionOf(c, activity()))
		}
	}
	answer(w, found)
}

func sessionOf(c *proxy.Client, a proxy.Activity) Session {
	s := Session{
		ID: c.ID, Subject: c.Subject(), TokenID: c.Grant.TokenID, Fingerprint: c.Fingerprint(), ClientID: c.ClientID,
		Listener: c.Listener, Version: c.Version(), TLS: c.TLSVersion(), Server: c.Server, Since: c.Since.UTC(),
		BytesUp: a.Up, BytesDown: a.Down,
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
	if err != nil || a.Kick(func(c *proxy.Client) bool { return c.ID == id }, proxy.ErrKicked) == 0 {
		Problem(w, http.StatusNotFound, "there is no live session with this id")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// revocation is the body of POST /v1/revocations: one of the first three.
type revocation struct {
	Token   string `json:"token"`
	TokenID string `json:"token_id"`
	Subject string `json:"subject"`
	Mode    string `json:"mode"`
}

// maxBody is the size of the largest request body, in bytes.
const maxBody = 128 << 10

func (a *API) revoke(w http.ResponseWriter, r *http.Request) {
	var body revocation
	if err := decode(w, r, &body); err != nil {
		Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	revoked, err := body.meaning()
	if err != nil {
		Problem(w, http.StatusBadRequest, err.Error())
		return
	}
	entries, err := a.Forget(revoked, body.Mode == "deny")
	if err != nil {
		Problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	sessions := a.Kick(func(c *proxy.Client) bool { return revoked.Matches(c.Grant, c.TokenHash) }, proxy.ErrRevoked)
	answer(w, map[string]int{"entries": entries, "sessions": sessions})
}

func (b revocation) meaning() (authz.Revocation, error) {
	given := 0
	for _, s := range []string{b.Token, b.TokenID, b.Subject} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return authz.Revocation{}, errors.New("give exactly one of token, token_id and subject")
	case b.Mode != "" && b.Mode != "evict" && b.Mode != "deny":
		return authz.Revocation{}, errors.New("mode is evict (ask the source again) or deny (refuse for as long as an answer might have been kept)")
	case b.Token != "":
		return authz.Revocation{TokenHash: authz.NewToken(b.Token).Hash()}, nil
	}
	return authz.Revocation{TokenID: b.TokenID, Subject: b.Subject}, nil
}

// decode reads a JSON object strictly. Its errors hold nothing of the content,
// which may be a token.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return errors.New("the body is not a JSON object with the fields of this call")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body goes on after its JSON object")
	}
	return nil
}

func (a *API) reload(w http.ResponseWriter, r *http.Request) {
	if err := a.Reload(r.Context()); err != nil {
		Problem(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, map[string]string{"status": "reloaded"})
}

func answer(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		Problem(w, http.StatusInternalServerError, "the answer cannot be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}
