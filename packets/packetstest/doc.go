// Package packetstest is the MQTT client of this repository's tests. It shows every
// packet, and can do what the clients of other projects hide or never do.
//
//	c := packetstest.Connect(t, packetstest.Dial(t, address), packetstest.Identity(5, "pump-7", token))
//	if err := c.Publish("level", "17"); err != nil {
//		t.Error(err)
//	}
//
// A Client is a net.Conn, so that a test can write bytes that no client should send
// and read bytes that no parser takes. Methods that return an error may run on any
// goroutine. The others fail the test for which the client was made, and run on its
// goroutine. Except where it says otherwise an answer may take 20 seconds.
package packetstest
