package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Shutdown disconnects every device (MQTT 5: reason code 0x8B, server shutting down), publishes
// or stores their Wills, and waits until nothing of the broker runs any more, payloads that
// are being stored included. If ctx ends first, Shutdown cancels their storing and returns an
// error that wraps that of ctx; the rest then ends on its own. Further calls wait like the
// first.
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

// Close is Shutdown with a timeout of five seconds.
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

// run sweeps until Shutdown is called, and then ends the broker.
func (b *Broker) run() {
	defer close(b.stopped)
	defer b.cancel()
	ctx, cancel := context.WithCancel(b.storing)
	var sweeping sync.WaitGroup
	sweeping.Go(func() { b.keepSweeping(ctx) })
	<-b.stop
	b.wills.close()
	b.disconnectAll()
	b.work.Wait()
	cancel()
	sweeping.Wait()
}

// disconnectAll ends all connections. No new ones are admitted by then.
func (b *Broker) disconnectAll() {
	b.mu.Lock()
	conns := slices.Collect(maps.Keys(b.conns))
	b.mu.Unlock()
	for _, c := range conns {
		b.disconnect(c)
	}
}

// disconnect ends one connection.
func (b *Broker) disconnect(c *conn) {
	defer b.recoverPanic(c.device)
	defer func() { _ = c.Close() }()
	if cl := c.client.Load(); cl != nil {
		b.sessions.RLock() // not before CONNACK
		defer b.sessions.RUnlock()
		_ = b.server.DisconnectClient(cl, packets.ErrServerShuttingDown)
	}
}
