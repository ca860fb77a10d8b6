package hooks

import (
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// The events.
const (
	Connected    = "connected"
	Disconnected = "disconnected"
	Refused      = "refused"
)

// Events returns the names of all events.
func Events() []string { return []string{Connected, Disconnected, Refused} }

// Event is one event as the receiver gets it. What is not known is left out.
type Event struct {
	Event    string    `json:"event"`
	Time     time.Time `json:"time"`
	Subject  string    `json:"subject,omitempty"`
	ClientID string    `json:"client_id,omitempty"`
	TokenID  string    `json:"token_id,omitempty"`
	// Session is the number of the session in its proxy.
	Session  uint64 `json:"session,omitempty"`
	Listener string `json:"listener"`
	Address  string `json:"address,omitempty"`
	// Reason is the reason of a refusal, see proxy.Reasons, or the cause for which a session ended,
	// see proxy.Causes.
	Reason string `json:"reason,omitempty"`
	// By is which side ended the session: client, upstream or proxy.
	By string `json:"by,omitempty"`
}

// maxText is the length in bytes to which the texts of an event are cut.
const maxText = 512

// Opened queues the event that a session has begun. It is a hook of proxy.Trace.
func (s *Sender) Opened(c *proxy.Client) {
	if s.wants(Connected) {
		s.add(&s.sessions, c.Subject(), ofClient(Connected, c))
	}
}

// Closed queues the event that a session has ended. It is a hook of proxy.Trace.
func (s *Sender) Closed(c *proxy.Client, end proxy.End) {
	if s.wants(Disconnected) {
		e := ofClient(Disconnected, c)
		e.Reason, e.By = string(end.Cause()), end.By
		s.add(&s.sessions, c.Subject(), e)
	}
}

// Refused queues the event that a connection was refused, unless it was a health check of a load
// balancer. It is a hook of proxy.Trace.
func (s *Sender) Refused(r proxy.Refusal) {
	if r.Reason == proxy.HealthCheck || !s.wants(Refused) {
		return
	}
	s.add(&s.refused, party(r.Addr.Addr()), Event{
		Event: Refused, Subject: r.Subject, ClientID: r.ClientID, Listener: r.Listener,
		Address: addressOf(r.Addr), Reason: string(r.Reason),
	})
}

func ofClient(name string, c *proxy.Client) Event {
	return Event{
		Event: name, Subject: c.Subject(), ClientID: c.ClientID, TokenID: c.Grant.TokenID,
		Session: c.ID, Listener: c.Listener, Address: addressOf(c.Addr),
	}
}

func addressOf(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// party returns the network that counts as one party: an IPv4 address, or a /64 of IPv6.
func party(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// encode returns the event as JSON, with its texts cut.
func (e Event) encode() []byte {
	for _, text := range []*string{&e.Subject, &e.ClientID, &e.TokenID, &e.Listener} {
		if len(*text) > maxText {
			*text = strings.ToValidUTF8((*text)[:maxText], "")
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		return nil // does not happen: there are only texts and a time of this century
	}
	return b
}
