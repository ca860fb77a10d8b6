package harness

import (
	"bufio"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Sink is a broker that accepts every client, acknowledges everything and forwards
// nothing. It keeps the CONNECT packets it has received.
type Sink struct {
	net.Listener

	mu       sync.Mutex
	opened   int
	connects []packets.Connect
	// NewestLevel is the newest protocol level that is accepted; 0 accepts all.
	NewestLevel byte
	// KeepOpen keeps a connection open after its client has closed its half.
	KeepOpen bool
}

// StartSink runs a Sink until the test ends.
func StartSink(t testing.TB) *Sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{Listener: ln}
	s.start(t)
	return s
}

func (s *Sink) start(t testing.TB) {
	t.Cleanup(func() { s.Close() })
	go s.serve()
}

// Upstream returns the section upstream of a config that leads to the sink.
func (s *Sink) Upstream() string {
	return fmt.Sprintf("upstream: {servers: ['tcp://%s'], username: proxy}\n", s.Addr())
}

// Reached returns the number of connections so far and their CONNECT packets.
func (s *Sink) Reached() (opened int, connects []packets.Connect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, append([]packets.Connect(nil), s.connects...)
}

func (s *Sink) serve() {
	for {
		conn, err := s.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.opened++
		s.mu.Unlock()
		go s.handle(conn)
	}
}

func (s *Sink) handle(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 2<<10)
	var level byte
	for {
		raw, err := packets.ReadPacket(r, 2<<20)
		if err != nil {
			break
		}
		answer, err := s.answer(raw, &level)
		if err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
	if s.KeepOpen {
		select {}
	}
}

// answer returns the answer of a broker to a packet, which may be empty.
func (s *Sink) answer(raw []byte, level *byte) ([]byte, error) {
	switch packets.Type(raw[0] >> 4) {
	case packets.CONNECT:
		var c packets.Connect
		if err := c.Parse(raw); err != nil {
			return nil, err
		}
		if *level = c.Level; s.NewestLevel != 0 && c.Level > s.NewestLevel {
			return (&packets.Connack{Code: packets.RefusedProtocolVersion}).Append(nil, s.NewestLevel), nil
		}
		s.mu.Lock()
		s.connects = append(s.connects, c)
		s.mu.Unlock()
		return (&packets.Connack{}).Append(nil, c.Level), nil
	case packets.PUBLISH:
		var p packets.Publish
		if _, err := p.Parse(raw, *level); err != nil {
			return nil, err
		}
		if p.QoS == 1 {
			return (&packets.Ack{Type: packets.PUBACK, PacketID: p.PacketID}).Append(nil, *level), nil
		}
	case packets.SUBSCRIBE:
		var sub packets.Subscribe
		if err := sub.Parse(raw, *level); err != nil {
			return nil, err
		}
		return (&packets.Suback{Type: packets.SUBACK, PacketID: sub.PacketID, Codes: []packets.ReasonCode{0}}).Append(nil, *level), nil
	case packets.PINGREQ:
		return []byte{0xD0, 0}, nil
	}
	return nil, nil
}
