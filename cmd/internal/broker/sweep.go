package broker

import (
	"context"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

const (
	sessionSweep = time.Second // the resolution of a session's expiry
	messageSweep = time.Minute // expired messages are not sent in the meantime either
)

// keepSweeping sweeps until the context ends, and goes on after a panic.
func (b *Broker) keepSweeping(ctx context.Context) {
	task.Run(ctx, func(p *task.Panic) { b.panicked("", p) }, b.sweep)
}

// sweep removes what has expired until the context ends.
func (b *Broker) sweep(ctx context.Context) {
	sessions, messages := time.NewTicker(sessionSweep), time.NewTicker(messageSweep)
	defer sessions.Stop()
	defer messages.Stop()
	for {
		select {
		case now := <-sessions.C:
			b.expireSessions(now)
		case now := <-messages.C:
			b.expireMessages(now)
		case <-ctx.Done():
			return
		}
	}
}

// expireSessions removes the sessions that have been without a connection for too long.
func (b *Broker) expireSessions(now time.Time) {
	for id, cl := range b.server.Clients.GetAll() {
		left := cl.StopTime()
		if c, ok := cl.Net.Conn.(*conn); ok && c.away != 0 {
			left = c.away
		}
		if left == 0 || now.Unix() <= left+b.sessionExpiry(cl) {
			continue
		}
		b.withSessions(func() {
			if current, ok := b.server.Clients.Get(id); ok && current == cl {
				b.remove(cl)
			}
		})
	}
}

// withSessions calls f with sessions held, and releases it also if f panics.
func (b *Broker) withSessions(f func()) {
	b.sessions.Lock()
	defer b.sessions.Unlock()
	f()
}

// sessionExpiry returns how many seconds a session outlives its connection. CONNACK has limited
// what the client asked for.
func (b *Broker) sessionExpiry(cl *mqtt.Client) int64 {
	if cl.Properties.ProtocolVersion == 5 {
		return int64(cl.Properties.Props.SessionExpiryInterval)
	}
	return int64(b.server.Options.Capabilities.MaximumSessionExpiryInterval)
}

// remove deletes a session with its queue and its subscriptions, which mochi would keep for
// ever. Called with sessions held.
func (b *Broker) remove(cl *mqtt.Client) {
	cl.ClearInflights()
	b.server.UnsubscribeClient(cl)
	b.server.Clients.Delete(cl.ID)
	b.ledger.closeSession(cl.ID)
}

// expireMessages removes retained and queued messages whose expiry has passed. What waits in a
// connection stays, because its identifier is in use there.
func (b *Broker) expireMessages(now time.Time) {
	for topic, pk := range b.server.Topics.Retained.GetAll() {
		if expired(pk, now) {
			b.expireRetained(topic, now) // which looks again: another may have replaced it
		}
	}
	for _, cl := range b.server.Clients.GetAll() {
		if cl.Closed() {
			b.withSessions(func() { cl.ClearExpiredInflights(now.Unix(), 0) })
		}
	}
}

// expired reports whether the Message Expiry Interval has passed [MQTT-3.3.2-5].
func expired(pk packets.Packet, now time.Time) bool {
	return pk.ProtocolVersion == 5 && pk.Expiry > 0 && pk.Expiry < now.Unix()
}
