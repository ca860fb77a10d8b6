package broker

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestPacketsAreFollowedInAnyPieces: the same packets are found however the stream is split.
func TestPacketsAreFollowedInAnyPieces(t *testing.T) {
	connect := login{version: 3, id: "c"}.encode()
	subscribe := packet(tSubscribe|2|dup, u16(1), str("x"), []byte{0})
	large := packet(tPublish|dup|2, str("x"), u16(1), make([]byte, largePacket))
	small := packet(tPublish|dup|2, str("x"), u16(1), make([]byte, 100))
	stream := join(connect, subscribe, large, small, []byte{tPingreq, 0}, packet(tPubrel|2|dup, u16(1)), large)
	want := bytes.Clone(stream)
	want[len(connect)] &^= dup
	want[len(connect)+len(subscribe)+len(large)+len(small)+2] &^= dup
	charge := packetCopies * (len(large) - 3)
	for _, piece := range []int{1, 2, 3, 7, 1024, len(stream)} {
		var charged []int
		in := ingress{large: func(n int) { charged = append(charged, n) }}
		got := bytes.Clone(stream)
		for rest := got; len(rest) > 0; {
			rest = rest[in.read(rest[:min(piece, len(rest))]):]
		}
		in.ended()
		if !bytes.Equal(got, want) {
			t.Errorf("pieces of %d: the stream is changed elsewhere", piece)
		}
		if fmt.Sprint(charged) != fmt.Sprint([]int{charge, 0, charge, 0}) {
			t.Errorf("pieces of %d: charged %v, want %d twice", piece, charged, charge)
		}
	}
}

// TestDupOnlyInMQTT31: MQTT 3.1 may repeat a SUBSCRIBE with the DUP flag, in which mochi
// sees a malformed packet. From 3.1.1 on that is right.
func TestDupOnlyInMQTT31(t *testing.T) {
	for version, ok := range map[byte]bool{3: true, 3 | bridgeBit: true, 4: false, 5: false} {
		b, _ := newBroker(t, nil)
		for name, p := range map[string]func(c *client) []byte{
			"SUBSCRIBE":   func(c *client) []byte { return packet(tSubscribe|2|dup, u16(1), c.props(nil), str("x"), []byte{0}) },
			"UNSUBSCRIBE": func(c *client) []byte { return packet(tUnsubscribe|2|dup, u16(1), c.props(nil), str("x")) },
			"PUBREL":      func(c *client) []byte { return packet(tPubrel|2|dup, u16(1)) },
		} {
			c := connect(t, b, "d", login{version: version, id: "c"})
			c.Send(p(c))
			f, err := c.ReadPacket()
			accepted := err == nil && f.Type() != packets.DISCONNECT
			if accepted != ok {
				t.Errorf("version %#x: %s with DUP: accepted %t, want %t", version, name, accepted, ok)
			}
			c.Close()
		}
	}
}

// FuzzIngress: no stream causes a panic or leaves memory charged.
func FuzzIngress(f *testing.F) {
	f.Add(join(login{version: 3, id: "c"}.encode(), packet(tPublish, str("x"), make([]byte, largePacket))), 5)
	f.Add([]byte{tConnect, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}, 1)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		piece = max(piece, 1)
		charged := 0
		in := ingress{large: func(n int) {
			if (n == 0) == (charged == 0) || n > 0 && n < packetCopies*largePacket {
				t.Fatalf("charged %d after %d", n, charged)
			}
			charged = n
		}}
		for len(stream) > 0 {
			n := in.read(stream[:min(piece, len(stream))])
			if n == 0 {
				t.Fatal("nothing was read")
			}
			stream = stream[n:]
		}
		if in.ended(); charged != 0 && in.left == 0 {
			t.Fatalf("%d bytes stay charged", charged)
		}
	})
}
