package broker

import (
	"errors"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// quietAfter is how long a connection keeps its goroutine and its buffer after a packet. Then doze
// waits for the next packet. A device that sends a message every few seconds causes a little work
// by that, and one that sends more causes none.
const quietAfter = 2 * time.Second

// errQuiet is the reason why the goroutine of a connection ends when the connection does not.
var errQuiet = errors.New("the device sends nothing")

// serve processes the packets of a connection, CONNECT first. When it returns, the connection has
// ended and everything is cleaned up, or it has been quiet for a while and goes on in doze.
func (b *Broker) serve(c *conn) {
	err := b.process(c)
	if errors.Is(err, errQuiet) {
		go b.doze(c)
		return
	}
	b.end(c, err)
}

// doze waits for the next packet of a quiet device. What processes packets makes the stack of its
// goroutine grow to 16 KiB. So doze has a goroutine of its own, with the smallest stack that there
// is, and leaves what it reads to another one.
func (b *Broker) doze(c *conn) {
	b.counts.quiet.Add(1)
	c.readFirst()
	b.counts.quiet.Add(-1)
	go b.serve(c)
}

// process runs a connection until it ends or is quiet.
func (b *Broker) process(c *conn) (err error) {
	defer b.recoverPanic(c.device)
	cl := c.client.Load()
	if cl == nil {
		if cl, err = b.connect(c); err != nil {
			return err
		}
		c.beginKeepAlive(cl.State.Keepalive)
	}
	for !cl.Closed() {
		if err := c.await(); err != nil {
			return err
		}
		pk, err := readPacket(cl)
		if err != nil {
			return err
		}
		if err := b.inject(cl, pk); err != nil {
			return err
		}
		c.beginKeepAlive(cl.State.Keepalive)
	}
	return nil
}

func readPacket(cl *mqtt.Client) (packets.Packet, error) {
	header := new(packets.FixedHeader)
	if err := cl.ReadFixedHeader(header); err != nil {
		return packets.Packet{}, err
	}
	return cl.ReadPacket(header)
}

// inject lets mochi process a packet. An error ends the connection.
func (b *Broker) inject(cl *mqtt.Client, pk packets.Packet) error {
	err := b.server.InjectPacket(cl, pk)
	if err == nil {
		return nil
	}
	code, ok := errors.AsType[packets.Code](err)
	if ok && cl.Properties.ProtocolVersion == 5 && code.Code >= packets.ErrUnspecifiedError.Code {
		_ = b.server.DisconnectClient(cl, code)
	}
	return err
}

// end cleans up after a connection, however it has ended.
func (b *Broker) end(c *conn, err error) {
	defer b.work.Done()
	c.releaseBuffer()
	c.noteLarge(0)
	c.releaseSessions() // after a panic
	if cl := c.client.Load(); cl != nil {
		cl.Stop(err)
		b.counts.clients.Add(-1)
	}
	_ = c.Close()
	b.leave(c)
	c.leaveSessions()
	b.options.Logger.Debug("connection to the bundled broker ended", "device", c.device, "error", err)
	b.wills.end(c)
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
}

// leave removes a session that ends with its connection, and notes when the connection of another
// one has ended. After it sessions are held, so that nothing takes over what is removed.
func (b *Broker) leave(c *conn) {
	cl := c.client.Load()
	if cl == nil {
		return
	}
	c.enterSessions()
	switch current, ok := b.server.Clients.Get(cl.ID); {
	case !ok:
		b.ledger.closeSession(cl.ID)
		return
	case current != cl:
		return
	}
	ends := cl.Properties.Clean
	if cl.Properties.ProtocolVersion == 5 {
		ends = cl.Properties.Props.SessionExpiryInterval == 0
	}
	if ends {
		b.remove(cl)
		return
	}
	b.ledger.end(cl, time.Now())
}
