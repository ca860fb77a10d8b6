//go:build integration

package tokenpostgres

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// heard is what a Source has reported.
type heard struct {
	mu     sync.Mutex
	all    []authz.Revocation
	missed int
}

func (h *heard) count() (revocations, missed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.all), h.missed
}

// await waits until so much has been reported.
func (h *heard) await(t *testing.T, what string, revocations, missed int) {
	t.Helper()
	harness.Eventually(t, what, func() bool { r, m := h.count(); return r == revocations && m == missed })
}

// listening returns a Source that listens, and what it reports until the test ends.
func (d *database) listening(t *testing.T, o Options) (*Source, *heard) {
	t.Helper()
	o.Query, o.Channel = tokensQuery, "Tokens changed"
	return d.listeningTo(t, o)
}

// listeningTo is listening with a query and a channel of the caller.
func (d *database) listeningTo(t *testing.T, o Options) (*Source, *heard) {
	t.Helper()
	h := &heard{}
	o.OnMissed = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.missed++
	}
	s := d.source(o)
	if err := s.Open(t.Context(), s.workers); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- s.Notify(ctx, func(r authz.Revocation) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.all = append(h.all, r)
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Notify = %v", err)
		}
	})
	harness.Eventually(t, "listening", func() bool { return s.Stats().Listening })
	return s, h
}

func (d *database) notify(payload string) {
	d.sql(`SELECT pg_notify('Tokens changed', '` + payload + `')`)
}

// TestNotifications: each is reported once, with what it names, or as a change that was missed
// if it names nothing.
func TestNotifications(t *testing.T) {
	d := newDatabase(t, harness.StartPostgres(t))
	s, h := d.listening(t, Options{})
	d.notify(`{"subject":"pump-7"}`)
	h.await(t, "the revocation", 1, 0)
	d.sql(`BEGIN; NOTIFY "Tokens changed", '{"subject":"a"}'; NOTIFY "Tokens changed", '{"subject":"b"}'; COMMIT; NOTIFY other, 'x'`)
	h.await(t, "both", 3, 0)
	d.notify("pump-7")
	h.await(t, "a change of unknown extent", 3, 1)
	d.sql(`BEGIN; NOTIFY "Tokens changed", '{"subject":"a"}'; ROLLBACK`)
	d.notify(`{"subject":"c"}`)
	h.await(t, "what was committed", 4, 1)
	if outcome(s, t, tokenRequest(goodToken)) != "allowed" {
		t.Error("the source does not answer while it listens")
	}
}

// TestLostNotifications: after a lost connection, and after a restart of the server, changes may
// have been missed, and later ones are heard.
func TestLostNotifications(t *testing.T) {
	server := harness.StartPostgres(t)
	d := newDatabase(t, server)
	s, h := d.listening(t, Options{})
	outcome(s, t, tokenRequest(goodToken)) // there is a grant that could become wrong
	server.CutConnections()
	h.await(t, "the loss", 0, 1)
	server.Stop()
	harness.Eventually(t, "the end of listening", func() bool { return !s.Stats().Listening })
	server.Start()
	h.await(t, "the second loss", 0, 2)
	d.notify(`{"subject":"pump-7"}`)
	h.await(t, "the revocation", 1, 2)
}

// TestListenBesidePgBouncer: notifications come on a connection that leads to the server itself.
func TestListenBesidePgBouncer(t *testing.T) {
	server := harness.StartPostgres(t)
	d := newDatabase(t, server)
	listen := filepath.Join(t.TempDir(), "direct")
	harness.WriteFile(t, listen, d.dsn)
	d.dsn = server.StartPgBouncer(t, d.name)
	_, h := d.listening(t, Options{Unprepared: true, ListenDSNFile: listen})
	d.notify(`{"subject":"pump-7"}`)
	h.await(t, "the revocation", 1, 0)
}
