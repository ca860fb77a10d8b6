// Package packetstest is the MQTT client of this repository's tests. Unlike other clients it
// shows every packet and can violate the protocol.
//
//	c := packetstest.Connect(t, packetstest.Dial(t, address), packetstest.Identity(5, "pump-7", token))
//	if err := c.Publish("level", "17"); err != nil {
//		t.Error(err)
//	}
//
// A Client is a net.Conn, so that a test can write bytes that no client should send and read
// bytes that no parser accepts. Methods that return an error may run on any goroutine. The
// others fail the test for which the client was made, and must run on its goroutine. Unless
// documented otherwise, an answer may take 20 seconds.
package packetstest
