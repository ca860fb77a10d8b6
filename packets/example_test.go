package packets_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// A client has sent a CONNECT with a token as its user name, followed at once by a PINGREQ. The
// broker gets the proxy's own credentials.
func ExampleReadConnect() {
	conn := strings.NewReader("\x10\x16\x00\x04MQTT\x04\x82\x00\x3C\x00\x02id\x00\x06t0k3n!" + "\xC0\x00")

	in, err := packets.ReadConnect(conn, 64<<10)
	if err != nil {
		fmt.Println(err)
		return
	}
	out := *in
	out.Username, out.HasUsername = "device-1", true
	out.Password, out.HasPassword = "secret", true
	if err := out.Check(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(in)
	fmt.Println(out)
	fmt.Printf("%q\n", out.Append(nil))
	fmt.Println(conn.Len(), "bytes left")
	// Output:
	// CONNECT level 4, clean start, client identifier, user name
	// CONNECT level 4, clean start, client identifier, user name, password
	// "\x10 \x00\x04MQTT\x04\xc2\x00<\x00\x02id\x00\bdevice-1\x00\x06secret"
	// 2 bytes left
}

// A refused client gets the answer that its protocol level has, if any, and no details.
func ExampleReadConnect_refused() {
	for _, sent := range []string{
		"GET / HTTP/1.1\r\n",
		"\x10\x0E\x00\x04MQTT\x06\x02\x00\x3C\x00\x00id",
		"\x10\x0F\x00\x04MQTT\x05\x03\x00\x3C\x00\x00\x02id",
		"\x10\xFF\xFF\x7F\x00\x04MQTT\x05\x02\x00\x3C\x00",
	} {
		_, err := packets.ReadConnect(strings.NewReader(sent), 64<<10)
		var level *packets.ProtocolLevelError
		var large *packets.TooLargeError
		var malformed *packets.MalformedError
		ack := packets.Connack{}
		switch {
		case errors.Is(err, packets.ErrNotConnect):
			fmt.Println("closed:", err)
			continue
		case errors.As(err, &level):
			ack.Code = packets.UnsupportedProtocolVersion
		case errors.As(err, &large) && large.Level == 5:
			ack.Code = packets.PacketTooLarge
		case errors.As(err, &malformed) && malformed.Level == 5:
			ack.Code = malformed.Code
		}
		fmt.Printf("% x: %v\n", ack.Append(nil, 5), err)
	}
	// Output:
	// closed: first packet is not a CONNECT: looks like HTTP or a PROXY protocol header
	// 20 03 00 84 00: unsupported protocol MQTT level 6
	// 20 03 00 81 00: malformed CONNECT: reserved connect flag is set [MQTT-3.1.2-3]
	// 20 03 00 95 00: packet of 2097155 bytes exceeds the limit of 65536 bytes
}

// The token came in an MQTT 5.0 user property that the broker must not see.
func ExampleProperties_WithoutUserProperty() {
	p := packets.Properties("\x26\x00\x05token\x00\x03abc" + "\x26\x00\x04site\x00\x01A")
	token, ok := p.UserProperty("token")
	fmt.Println(token, ok)
	for id, value := range p.WithoutUserProperty("token").All() {
		fmt.Printf("%v %q\n", id, value)
	}
	// Output:
	// abc true
	// User Property "\x00\x04site\x00\x01A"
}

// A client that sent no client identifier gets the one that was assigned to it.
func ExampleProperties_With() {
	ack := packets.Connack{}
	if err := ack.Parse([]byte("\x20\x06\x00\x00\x03\x22\x00\x0A"), 5); err != nil {
		fmt.Println(err)
		return
	}
	ack.Properties = ack.Properties.With(packets.AssignedClientIdentifier, "p-1")
	fmt.Printf("%q\n", ack.Append(nil, 5))
	// Output:
	// " \f\x00\x00\t\"\x00\n\x12\x00\x03p-1"
}

// A DISCONNECT may be inserted only between two packets.
func ExampleFramer() {
	var f packets.Framer
	for _, chunk := range []string{"\x30\x05\x00\x01", "t25", "\xC0\x00\xC0"} {
		if _, err := f.Advance([]byte(chunk)); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(f.AtBoundary())
	}
	// Output:
	// false
	// true
	// false
}
