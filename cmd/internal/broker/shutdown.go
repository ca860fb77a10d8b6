package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Shutdown disconnects every device (MQTT 5: reason code 0x8B, server shutting down), publishes or stores their wills, and waits
// until nothing of the broker runs any more. Payloads being stored are waited for. When the context ends first, their storing is
// cancelled and an error that wraps the context's is returned; the rest then ends on its own. Further calls wait like the first.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	first := !b.closed
	b.closed = true
	b.mu.Unlock()
	if first {
		close(b.stop)
	}
	select {
	case <-b.stopped:
		return nil
	case <-ctx.Done():
		b.cancel()
		return fmt.Errorf("shut down the bundled broker: %d connections left: %w", b.open(), ctx.Err())
	}
}

// Close is Shutdown with five seconds of patience.
func (b *Broker) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return b.Shutdown(ctx)
}

func (b *Broker) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// run is the life of the broker, beside that of its connections.
func (b *Broker) run() {
	defer close(b.stopped)
	defer b.cancel()
	ctx, cancel := context.WithCancel(b.storing)
	var sweeping sync.WaitGroup
	sweeping.Go(func() { b.sweep(ctx) })
	<-b.stop
	b.wills.close()
	b.disconnectAll()
	b.work.Wait()
	cancel()
	sweeping.Wait()
}

// disconnectAll ends all connections. There are no new ones by then.
func (b *Broker) disconnectAll() {
	b.mu.Lock()
	conns := slices.Collect(maps.Keys(b.conns))
	b.mu.Unlock()
	for _, c := range conns {
		if cl := c.client.Load(); cl != nil {
			b.sessions.RLock() // not before CONNACK
			_ = b.server.DisconnectClient(cl, packets.ErrServerShuttingDown)
			b.sessions.RUnlock()
		}
		_ = c.Close()
	}
}
