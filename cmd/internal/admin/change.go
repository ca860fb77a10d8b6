package admin

import (
	"context"
	"fmt"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// EndSession does what DELETE /v1/sessions/{id} does. It reports whether there was such a session.
func (a *API) EndSession(ctx context.Context, id uint64) bool {
	var ended *proxy.Client
	n := a.Kick(func(c *proxy.Client) bool {
		if c.ID == id {
			ended = c
		}
		return c.ID == id
	}, proxy.ErrKicked)
	if n == 0 {
		return false
	}
	a.Audit.Record(ctx, "end session", ended.Subject(), fmt.Sprintf("session %d has ended", id))
	return true
}

// EndSessions does what DELETE /v1/sessions?subject= does. It returns how many sessions have ended
// here.
func (a *API) EndSessions(ctx context.Context, subject string) int {
	n := a.KickSubject(subject)
	a.Audit.Record(ctx, "end sessions", subject, fmt.Sprintf("%d have ended", n))
	return n
}

// Revoke does what POST /v1/revocations does: it withdraws what w names and ends its sessions. It
// returns how many remembered answers and how many sessions there were. Its error says what has
// taken effect nevertheless, and may be ErrFull.
func (a *API) Revoke(ctx context.Context, w Withdrawal) (entries, sessions int, err error) {
	entries, sessions, err = a.revokeAll(w)
	action, outcome := "revoke", fmt.Sprintf("%d remembered answers are forgotten, %d sessions have ended", entries, sessions)
	if w.Deny {
		action = "deny"
	}
	if err != nil {
		outcome = "failed: " + err.Error()
	}
	a.Audit.Record(ctx, action, withdrawn(w.Revocation), outcome)
	return entries, sessions, err
}

func (a *API) revokeAll(w Withdrawal) (entries, sessions int, err error) {
	if entries, err = a.Withdraw(w); err != nil {
		return 0, 0, fmt.Errorf("nothing has changed: %w", err)
	}
	sessions = a.Kick(func(c *proxy.Client) bool { return w.Matches(c.Grant, c.TokenHash) }, proxy.ErrRevoked)
	if w.Deny {
		if err := a.Save(); err != nil {
			return entries, sessions, fmt.Errorf(
				"the denial is in force and %d sessions have ended, but it will not survive a restart until it can be saved: %w", sessions, err)
		}
	}
	return entries, sessions, nil
}

// withdrawn names what a revocation withdraws. A token is named by its fingerprint.
func withdrawn(r authz.Revocation) string {
	switch {
	case r.TokenID != "":
		return "token id " + r.TokenID
	case r.Subject != "":
		return r.Subject
	}
	return "token " + authz.FingerprintOf(r.TokenHash)
}

// ClearCaches does what DELETE /v1/cache does. It returns how many answers there were.
func (a *API) ClearCaches(ctx context.Context) int {
	n := a.Purge()
	a.Audit.Record(ctx, "clear caches", "", fmt.Sprintf("%d remembered answers are forgotten", n))
	return n
}
