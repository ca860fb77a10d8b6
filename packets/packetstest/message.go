package packetstest

import (
	"fmt"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// NextID returns a packet identifier that was not used recently.
func (c *Client) NextID() uint16 {
	c.lastID++
	if c.lastID == 0 {
		c.lastID = 1
	}
	return c.lastID
}

// Subscribe subscribes to one filter and returns the code of the SUBACK. For MQTT 5.0
// options may have more than the QoS (section 3.8.3.1).
func (c *Client) Subscribe(filter string, options byte) packets.ReasonCode {
	c.t.Helper()
	s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: c.NextID()}
	s.Add(filter, options)
	c.Send(s.Append(nil, c.Level))
	raw, err := c.ReadType(packets.SUBACK)
	if err != nil {
		c.t.Fatalf("subscribe: %v", err)
	}
	var ack packets.Suback
	if err := ack.Parse(raw, c.Level); err != nil || len(ack.Codes) != 1 || ack.PacketID != s.PacketID {
		c.t.Fatalf("subscribe: %+v, %v", ack, err)
	}
	return ack.Codes[0]
}

// MustSubscribe subscribes to one filter and fails the test if that is not granted.
func (c *Client) MustSubscribe(filter string, qos byte) {
	c.t.Helper()
	if code := c.Subscribe(filter, qos); code >= 0x80 {
		c.t.Fatalf("subscribe: %v", code)
	}
}

// Publish sends one message at QoS 1 and waits for the acknowledgement.
func (c *Client) Publish(topic, payload string) error {
	return c.PublishAll(topic, [][]byte{[]byte(payload)}, func([]byte) {})
}

// PublishAll publishes all payloads at QoS 1 before it reads the first acknowledgement, and
// calls acked for each payload that was acknowledged.
func (c *Client) PublishAll(topic string, payloads [][]byte, acked func(payload []byte)) error {
	var b []byte
	waiting := make(map[uint16][]byte, len(payloads))
	for _, payload := range payloads {
		p := packets.Publish{QoS: 1, Topic: []byte(topic), PacketID: c.NextID(), Payload: payload}
		b = p.Append(b, c.Level)
		waiting[p.PacketID] = payload
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	for len(waiting) > 0 {
		raw, err := c.ReadType(packets.PUBACK)
		if err != nil {
			return err
		}
		var ack packets.Ack
		if err := ack.Parse(raw, c.Level); err != nil {
			return err
		}
		payload, ok := waiting[ack.PacketID]
		switch {
		case !ok:
			return fmt.Errorf("PUBACK for packet %d, which is not waiting for one", ack.PacketID)
		case ack.Code >= 0x80:
			return fmt.Errorf("PUBACK with %v", ack.Code)
		}
		delete(waiting, ack.PacketID)
		acked(payload)
	}
	return nil
}

// Next returns the next message. It has been acknowledged if its QoS requires that.
func (c *Client) Next(limit time.Duration) (packets.Publish, error) {
	for len(c.inbox) == 0 {
		p, err := c.read(limit)
		if err != nil {
			return packets.Publish{}, err
		}
		if p.Type() != packets.PUBLISH {
			return packets.Publish{}, &UnexpectedError{p}
		}
		if err := c.receive(p); err != nil {
			return packets.Publish{}, err
		}
	}
	m := c.inbox[0]
	c.inbox = c.inbox[1:]
	return m, nil
}

// receive stores a message and acknowledges it.
func (c *Client) receive(raw Packet) error {
	var m packets.Publish
	if _, err := m.Parse(raw, c.Level); err != nil {
		return err
	}
	c.inbox = append(c.inbox, m)
	if m.QoS == 0 {
		return nil
	}
	ack := packets.Ack{Type: packets.PUBACK, PacketID: m.PacketID}
	if m.QoS == 2 {
		ack.Type = packets.PUBREC
	}
	if _, err := c.Write(ack.Append(nil, c.Level)); err != nil || m.QoS == 1 {
		return err
	}
	if p, err := c.ReadType(packets.PUBREL); err != nil {
		return err
	} else if err := ack.Parse(p, c.Level); err != nil {
		return err
	} else if ack.PacketID != m.PacketID {
		return fmt.Errorf("PUBREL of packet %d, want %d", ack.PacketID, m.PacketID)
	}
	ack = packets.Ack{Type: packets.PUBCOMP, PacketID: m.PacketID}
	_, err := c.Write(ack.Append(nil, c.Level))
	return err
}
