package inspect_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/inspect"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/internal/relay"
)

// Both directions at once: the client asks while the broker answers.
func TestDirectionsAtOnce(t *testing.T) {
	const rounds = 2000
	up, down := newFilters(t, 5)
	toBroker := make(chan uint16, 16) // packet identifiers
	var client sync.WaitGroup
	client.Go(func() {
		defer close(toBroker)
		for id := uint16(1); id <= rounds; id++ {
			s := packets.Subscribe{Type: packets.SUBSCRIBE, PacketID: id}
			s.Add("a", 0)
			s.Add("no", 0)
			if pass, _, err := up.Filter(s.Append(nil, 5)); len(pass) == 0 || err != nil {
				t.Errorf("%x, %v", pass, err)
				return
			}
			toBroker <- id
		}
	})
	for id := range toBroker {
		ack := packets.Suback{Type: packets.SUBACK, PacketID: id, Codes: []packets.ReasonCode{0}}
		want := packets.Suback{Type: packets.SUBACK, PacketID: id, Codes: []packets.ReasonCode{0, packets.NotAuthorized}}
		if pass, _, err := down.Filter(ack.Append(nil, 5)); !bytes.Equal(pass, want.Append(nil, 5)) || err != nil {
			t.Fatalf("%x, %v", pass, err)
		}
	}
	client.Wait()
}

// tcp returns both ends of a connection.
func tcp(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if far, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if near, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	if err := far.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

// expect reads exactly want.
func expect(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v, want %q", got, err, want)
	}
}

func send(t *testing.T, c net.Conn, b string) {
	t.Helper()
	if _, err := io.WriteString(c, b); err != nil {
		t.Fatal(err)
	}
}

// A session as the proxy runs it.
func TestInRelay(t *testing.T) {
	nearClient, client := tcp(t)
	nearBroker, broker := tcp(t)
	up, down := newFilters(t, 5)
	ended := make(chan relay.Result, 1)
	pump := relay.Pump{Grace: time.Minute}
	pump.Start(relay.Pair{
		Client: relay.NewStack(nearClient), Upstream: relay.NewStack(nearBroker),
		FromClient: &packets.Framer{Forbidden: packets.ForbidCONNECT}, FromUpstream: &packets.Framer{},
		FilterUp: up, FilterDown: down,
		Done: func(r relay.Result) { ended <- r },
	})
	send(t, client, publish(5, "no", 1, "secret")+publish(5, "a", 1, "x"))
	expect(t, client, ack(5, packets.PUBACK, packets.NotAuthorized))
	expect(t, broker, publish(5, "a", 1, "x"))

	// The answer waits for the end of a message that has begun.
	message := publish(5, "a", 0, "in two parts")
	send(t, broker, message[:5])
	expect(t, client, message[:5])
	send(t, client, publish(5, "no", 2, "x")+subscribe(5, packets.SUBSCRIBE, "no", "a"))
	expect(t, broker, subscribe(5, packets.SUBSCRIBE, "a"))
	send(t, broker, message[5:])
	expect(t, client, message[5:]+ack(5, packets.PUBREC, packets.NotAuthorized))
	send(t, broker, suback(5, granted))
	expect(t, client, suback(5, packets.NotAuthorized, granted))

	send(t, client, "\x30\x00")
	if _, err := broker.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the broker got %v, want the end", err)
	}
	broker.Close()
	expect(t, client, string((&packets.Disconnect{Code: packets.MalformedPacket}).Append(nil, 5)))
	client.Close()
	if r := <-ended; r.By != relay.Client || !errors.As(r.Err, new(*packets.MalformedError)) {
		t.Errorf("%+v", r)
	}
	pump.Wait()
}

// TestBodiesPassInOneOrder: the rest of a large message may be moved by the kernel, and what
// follows it is filtered again.
func TestBodiesPassInOneOrder(t *testing.T) {
	nearClient, client := tcp(t)
	nearBroker, broker := tcp(t)
	up, down := inspect.New(mapped(t, 4))
	var pump relay.Pump
	session := pump.Start(relay.Pair{
		Client: relay.NewStack(nearClient), Upstream: relay.NewStack(nearBroker),
		FromClient: &packets.Framer{Forbidden: packets.ForbidCONNECT}, FromUpstream: &packets.Framer{},
		FilterUp: up, FilterDown: down, Done: func(relay.Result) {},
	})
	large := strings.Repeat("0123456789abcde\n", 32<<10)
	in, want := "", ""
	for range 20 {
		in += publish(4, "v1/devices/me/x", 1, large) + publish(4, "v1/devices/other/x", 0, large) + publish(4, "cmd", 0, "x")
		want += publish(4, "v1/devices/pump/x", 1, large) + publish(4, "devices/pump/cmd", 0, "x")
	}
	var sent sync.WaitGroup
	sent.Go(func() { _, _ = io.WriteString(client, in) })
	expect(t, broker, want)
	sent.Wait()

	// The answer to a message that is dropped meanwhile comes after the body.
	body := publish(4, "v1/devices/pump/x", 0, large)
	send(t, broker, body[:1000])
	expect(t, client, publish(4, "v1/devices/me/x", 0, large)[:900])
	send(t, client, publish(4, "v1/devices/other/x", 1, "x")+pingreq)
	expect(t, broker, pingreq)
	sent.Go(func() { _, _ = io.WriteString(broker, body[1000:]) })
	expect(t, client, publish(4, "v1/devices/me/x", 0, large)[900:]+ack(4, packets.PUBACK, 0))
	sent.Wait()
	session.Cut(relay.CloseNotice{})
	pump.Wait()
}
