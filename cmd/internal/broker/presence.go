package broker

import (
	"encoding/json"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
)

// Presence says that a device has connected or disconnected, with one of its sessions. Fields that
// are not known are left out.
type Presence struct {
	Connected bool      `json:"connected"`
	Time      time.Time `json:"time"`
	ClientID  string    `json:"client_id,omitempty"`
	// Session is the number of the session in the proxy.
	Session uint64 `json:"session,omitempty"`
	Address string `json:"address,omitempty"`
	// Reason is why the session has ended, and By which side has ended it.
	Reason string `json:"reason,omitempty"`
	By     string `json:"by,omitempty"`
}

// presences knows which devices are connected. The lock is held while an event is published, so
// that the events of a device keep their order. It is taken before all other locks.
type presences struct {
	mu      sync.Mutex
	devices map[string]*present
}

// present is a device that is connected.
type present struct {
	sessions int
	since    Presence // when the first of them began
}

// PublishPresence is called when a session of a device has begun, and when it has ended. Readers
// that have subscribed to v1/devices/NAME/presence get the beginning of the first session of the
// device and the end of its last. A new subscriber gets, as if they were retained, the former for
// all devices that are connected.
func (b *Broker) PublishPresence(device string, p Presence) {
	b.presence.mu.Lock()
	defer b.presence.mu.Unlock()
	if !b.presence.change(device, p) || b.ledger.readers.Load() == 0 {
		return
	}
	topic := readerTopic(device, "presence")
	if readers := b.readersOf(topic); len(readers) > 0 {
		b.publishToReaders(readers, topic, p.encode(), new(durable.Receipt))
	}
}

// change records that a session has begun or ended. It reports whether the device has connected or
// disconnected by that. Called with mu held.
func (s *presences) change(device string, p Presence) bool {
	now := s.devices[device]
	switch {
	case p.Connected && now == nil:
		if s.devices == nil {
			s.devices = make(map[string]*present)
		}
		s.devices[device] = &present{1, p}
		return true
	case p.Connected:
		now.sessions++
		return false
	case now == nil:
		return false
	}
	if now.sessions--; now.sessions > 0 {
		return false
	}
	delete(s.devices, device)
	return true
}

// matching returns the devices that are connected and whose topic matches a filter.
func (s *presences) matching(filter string) (devices []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for device := range s.devices {
		if matches(filter, readerTopic(device, "presence")) {
			devices = append(devices, device)
		}
	}
	return devices
}

// sendPresence sends a new subscriber which devices are connected. It runs on the subscriber's own
// goroutine, like sendRetained. A device that has disconnected meanwhile is left out: the subscriber
// has already got that event.
func (b *Broker) sendPresence(c *conn, cl *mqtt.Client, sub packets.Subscription) {
	sub.FwdRetainedFlag = true
	for _, device := range b.presence.matching(sub.Filter) {
		c.out.wait()
		if cl.Closed() {
			return
		}
		b.sendPresent(cl.ID, sub, device)
	}
}

func (b *Broker) sendPresent(clientID string, sub packets.Subscription, device string) {
	b.presence.mu.Lock()
	defer b.presence.mu.Unlock()
	now := b.presence.devices[device]
	if now == nil {
		return
	}
	pk := readerMessage(readerTopic(device, "presence"), now.since.encode())
	pk.FixedHeader.Retain = true
	b.deliverToReader(clientID, sub, pk, newBody(pk), new(durable.Receipt))
}

// encode returns the event as JSON.
func (p *Presence) encode() []byte {
	data, err := json.Marshal(p)
	if err != nil {
		return nil // does not happen: there are only texts, numbers and a time of this century
	}
	return data
}
