package broker

import (
	"log/slog"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

const (
	// listenerID marks the connections of Dial. No listener has this id: mochi would only call
	// it to close them.
	listenerID = "bundled"

	// maxQueued bounds the messages of QoS 1 and 2 that wait in one session, even if they are so
	// small that the device's memory has room for more. It leaves packet identifiers for the other
	// direction.
	maxQueued        = 50_000
	maxSubscriptions = 1000 // of one session
	maxRetained      = 100_000

	// receiveMax is announced to MQTT 5 clients. mochi is allowed more, because it applies its
	// limit to older clients as well, which know none, and also counts exchanges of the other
	// direction.
	receiveMax        = 64
	allowedReceiveMax = 1024
)

// newServer returns mochi's server with safe limits. The server is never started. sweep
// replaces its event loop, which would publish $SYS topics and Wills without any check, and
// expire sessions while they are resumed.
func (b *Broker) newServer() (*mqtt.Server, error) {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.MaximumMessageExpiryInterval = 0 // else every message gets an expiry
	limits.MaximumClientWritesPending = 1   // messages do not take that way, see publish
	limits.MaximumSessionExpiryInterval = uint32(b.options.SessionExpiry / time.Second)
	limits.MaximumPacketSize = uint32(b.options.MaxPacket)
	limits.ReceiveMaximum = allowedReceiveMax
	limits.MaximumInflight = maxQueued
	limits.TopicAliasMaximum = 0 // an alias hides the topic from every check
	limits.MinimumProtocolVersion = 3
	limits.Compatibilities.NoInheritedPropertiesOnAck = true

	server := mqtt.New(&mqtt.Options{
		Capabilities:            limits,
		ClientNetReadBufferSize: 1, // the least that there is, see input
		Logger:                  slog.New(discreetHandler{b.options.Logger.Handler()}),
	})
	return server, server.AddHook(&hook{b: b}, nil)
}
