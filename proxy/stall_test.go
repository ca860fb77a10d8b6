package proxy

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// TestWriteTimeout: a client that does not take what the broker has for it loses its
// session after the server's WriteTimeout, not before.
func TestWriteTimeout(t *testing.T) {
	for name, tt := range map[string]struct{ set, want time.Duration }{
		"default": {0, 60 * second},
		"set":     {2 * second, 2 * second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				b.srv.WriteTimeout = tt.set
				c := b.mustLogin(with(4, "d", goodToken))
				c.Send([]byte{0x30, 3, 0, 1, 't'}) // the broker sends it back
				time.Sleep(tt.want - second)
				synctest.Wait()
				b.mu.Lock()
				early := len(b.closed)
				b.mu.Unlock()
				if early > 0 {
					t.Fatalf("the session has ended before %v", tt.want)
				}
				time.Sleep(tt.want + 5*second)
				if end := b.lastEnd(); !errors.Is(end.Err, relay.ErrStalled) || end.By != "client" {
					t.Errorf("the session has ended with %+v, want a stalled client", end)
				}
			})
		})
	}
}
