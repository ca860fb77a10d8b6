package broker

import (
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// will is the Will of a connection, to be published when that ends without a DISCONNECT.
// mochi's own Wills skip every check, lose their properties, and are not published when this
// side ends the connection, so mochi gets none.
type will struct {
	device  string
	client  *mqtt.Client
	message packets.Packet
	delay   time.Duration
}

// cost returns what the device is charged for a Will, in bytes.
func (w *will) cost() int64 {
	if w == nil {
		return 0
	}
	return messageCost + newBody(w.message).bytes
}

// newWill removes the Will from a client and returns it, nil if there is none.
func newWill(c *conn, cl *mqtt.Client, pk packets.Packet) *will {
	w := cl.Properties.Will
	cl.Properties.Will = mqtt.Will{}
	if w.Flag == 0 {
		return nil
	}
	message := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: w.Qos, Retain: w.Retain},
		ProtocolVersion: cl.Properties.ProtocolVersion,
		Origin:          cl.ID,
		TopicName:       w.TopicName,
		Payload:         w.Payload,
		Properties:      pk.Connect.WillProperties.Copy(false),
	}
	if c.emptyWill {
		message.Payload = nil
	}
	delay := time.Duration(pk.Connect.WillProperties.WillDelayInterval) * time.Second
	return &will{device: c.device, client: cl, message: message, delay: delay}
}

// wills holds the Wills of all connections and those that wait for their delay.
type wills struct {
	fire func(*will)     // publishes or stores a Will; it is called once, or drop is
	drop func(*will)     // forgets a Will that is not to be published
	work *sync.WaitGroup // counts what is delayed or being fired

	mu      sync.Mutex
	delayed map[string]*delayedWill // by client identifier
	closed  bool
}

type delayedWill struct {
	*will
	timer *time.Timer
}

// set gives a connection its Will, or none.
func (w *wills) set(c *conn, will *will) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.will != nil {
		w.drop(c.will)
	}
	c.will = will
}

// end fires or delays the Will of a connection that has ended. The delay ends with the session
// (MQTT 5.0 section 3.1.3.2.2).
func (w *wills) end(c *conn) {
	w.mu.Lock()
	will := c.will
	c.will = nil
	if will == nil {
		w.mu.Unlock()
		return
	}
	session := time.Duration(will.client.Properties.Props.SessionExpiryInterval) * time.Second
	delay := min(will.delay, session)
	if delay > 0 && !w.closed {
		w.postpone(will, delay)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.fire(will)
}

// postpone fires a Will later. The code that removes it from the map also ends its work.
// Called with mu held.
func (w *wills) postpone(will *will, delay time.Duration) {
	d := &delayedWill{will: will}
	if w.delayed == nil {
		w.delayed = make(map[string]*delayedWill)
	}
	id := will.client.ID
	w.delayed[id] = d
	w.work.Add(1)
	d.timer = time.AfterFunc(delay, func() {
		w.mu.Lock()
		due := w.delayed[id] == d
		if due {
			delete(w.delayed, id)
		}
		w.mu.Unlock()
		if due {
			defer w.work.Done()
			w.fire(will)
		}
	})
}

// resume handles the Will of a session to which a client connects again: it is dropped if the
// session goes on [MQTT-3.1.3-9], and fired if the session ends because the client wants a
// fresh one. old is the session's previous connection, which may not have ended yet, or nil.
func (w *wills) resume(clientID string, fresh bool, old *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.delayed[clientID]; d != nil {
		delete(w.delayed, clientID)
		d.timer.Stop()
		if fresh {
			w.work.Go(func() { w.fire(d.will) })
		} else {
			w.drop(d.will)
		}
		w.work.Done()
	}
	if old == nil || old.will == nil || old.will.delay == 0 {
		return
	}
	if fresh {
		old.will.delay = 0
	} else {
		w.drop(old.will)
		old.will = nil
	}
}

// close fires all delayed Wills, since no session outlives the broker.
func (w *wills) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for id, d := range w.delayed {
		delete(w.delayed, id)
		d.timer.Stop()
		w.work.Go(func() { w.fire(d.will) })
		w.work.Done()
	}
}

// fireWill handles a Will like a message that the device publishes.
func (b *Broker) fireWill(w *will) {
	defer b.recoverPanic(w.device)
	b.dropWill(w) // its message is charged for where it is kept
	w.message.Created = time.Now().Unix()
	if expiry := w.message.Properties.MessageExpiryInterval; expiry > 0 {
		w.message.Expiry = w.message.Created + int64(expiry)
	}
	switch routeOf(w.message.TopicName) {
	case routeTelemetry: // store counts and logs; the device has gone
		_ = b.store(w.device, b.options.Telemetry, w.message.Payload)
	case routeAttributes:
		_ = b.store(w.device, b.options.Attributes, w.message.Payload)
	case routeUnsupported, routeRPC, routeAttributeRequest: // there is no session for an answer
		b.refuseTopic(w.device, w.message.TopicName)
	case routeRefused:
		b.counts.refused.Add(1)
	case routeShared:
		var kept durable.Receipt
		if !b.publish(w.device, w.message, &kept) { // not retained, but delivered
			b.counts.refused.Add(1)
			b.distribute(w.message, newBody(w.message), &kept)
		}
	}
}

// dropWill ends the charge for a Will.
func (b *Broker) dropWill(w *will) { b.ledger.releaseWill(w.device, w.cost()) }
