// Package websocket lets MQTT clients in browsers connect: it accepts WebSocket connections
// (RFC 6455) that carry MQTT (MQTT 5.0 section 6) and turns each into a net.Conn for the MQTT
// bytes.
//
//	endpoint := &websocket.Endpoint{Paths: []string{"/mqtt"}}
//	conn, request, err := endpoint.Accept(nc, peer)
//
// # Opening
//
// [Endpoint.Accept] reads one HTTP request from a connection and answers it, all on the caller's
// goroutine and under the connection's deadline. It accepts a GET of a path in Endpoint.Paths
// with the subprotocol mqtt (or mqttv3.1), and answers everything else with a status and a line
// of text. The request may have up to 16 KiB and 100 header fields. Nothing may follow it before
// the answer.
//
// A browser sends the origin of the page that opens the connection. The request is refused if
// the page is from another host and Endpoint.Origins does not have its origin. A request
// without an Origin does not come from a browser and is allowed.
//
// # Carrying
//
// A [Conn] has no buffer: it reads into the caller's buffer, decodes the frames in place, and
// stores only the state of its decoder. A read that is interrupted by a deadline loses no data.
// A packet may span several frames, and a frame may contain several packets.
//
// Decoding is strict: frames must be masked, binary, in their shortest form and without
// extensions. Any other frame closes the connection with the code from RFC 6455 section 7.4.
// Pings are answered. Compression is never negotiated.
package websocket
