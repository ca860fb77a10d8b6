package replicas

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// ClientIDPrefix begins the client ids of all replicas. No device may have such a client id at the
// broker, because it would end the connection of the replica.
const ClientIDPrefix = "mqtt-auth-proxy-bus-"

const (
	// mqttMessage is the size of the largest message that is sent through a broker, in bytes.
	mqttMessage = 64 << 10
	keepAlive   = 5 * time.Second
	// receiveMaximum is how many messages the broker may send without an acknowledgement.
	receiveMaximum = 64
)

// Brokers is how replicas reach each other through MQTT brokers, which must speak MQTT 5.0.
type Brokers struct {
	Username string // none is sent if it is empty
	// Password returns the password. It is called for each connection.
	Password func() (string, error)
	// Dial connects to a server.
	Dial func(context.Context, upstream.Server) (net.Conn, error)
}

// linkBroker keeps a connection to a broker until ctx is done.
func (r *Replicas) linkBroker(ctx context.Context, server upstream.Server, o *outlet) {
	defer r.linkDown(o, nil)
	up := make(chan struct{}, 1)
	manager, err := autopaho.NewConnection(ctx, r.clientConfig(server, o, up))
	if err != nil { // a config without a URL, which is a bug
		panic(err)
	}
	defer func() { <-manager.Done() }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-up:
			if err := r.subscribe(ctx, manager); err != nil {
				r.failed(o, fmt.Errorf("subscribe to %s: %w", r.options.Topic, err))
				time.AfterFunc(longestWait, func() { signal(up) })
				continue
			}
			r.linkUp(o)
		case payload := <-o.queue:
			err := r.publish(ctx, manager, payload)
			r.delivered(o, 1, err)
			if err != nil {
				r.options.Log.Warn("a message to the other replicas is lost", zap.String("server", o.name), zap.Error(err))
			}
		}
	}
}

// clientConfig returns the configuration of the client. The client puts an element into up when a
// connection is up.
func (r *Replicas) clientConfig(server upstream.Server, o *outlet, up chan struct{}) autopaho.ClientConfig {
	b := r.options.Brokers
	clientID := ClientIDPrefix + r.instance
	c := autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{{Scheme: "mqtt", Host: "broker"}}, // AttemptConnection knows the server
		KeepAlive:                     uint16(keepAlive / time.Second),
		CleanStartOnInitialConnection: true,
		ConnectTimeout:                stepTimeout,
		ReconnectBackoff:              backoff,
		AttemptConnection: func(ctx context.Context, _ autopaho.ClientConfig, _ *url.URL) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, stepTimeout)
			defer cancel()
			var conn net.Conn
			err := task.Do(func() (err error) {
				conn, err = b.Dial(ctx, server)
				return err
			})
			if err != nil {
				return nil, err
			}
			return packets.NewThreadSafeConn(conn), nil
		},
		ConnectPacketBuilder: func(c *paho.Connect, _ *url.URL) (*paho.Connect, error) { return b.complete(c) },
		OnConnectionUp:       func(*autopaho.ConnectionManager, *paho.Connack) { signal(up) },
		OnConnectionDown: func() bool {
			r.failed(o, errors.New("the connection was lost"))
			return true
		},
		OnConnectError: func(err error) { r.failed(o, reasonOf(err)) },
	}
	c.ClientID = clientID
	c.PacketTimeout = stepTimeout
	c.OnPublishReceived = []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
		if !p.Packet.Retain { // no replica retains its messages
			r.deliver(p.Packet.Payload)
		}
		return true, nil
	}}
	return c
}

// complete adds to a CONNECT what the config of the client cannot say.
func (b Brokers) complete(c *paho.Connect) (*paho.Connect, error) {
	c.CleanStart = true // what a connection has missed is not worth waiting for
	largest, unacknowledged := uint32(mqttMessage+1024), uint16(receiveMaximum)
	c.Properties = &paho.ConnectProperties{MaximumPacketSize: &largest, ReceiveMaximum: &unacknowledged}
	if b.Username == "" {
		return c, nil
	}
	password, err := b.Password()
	if err != nil {
		return nil, err
	}
	c.Username, c.UsernameFlag = b.Username, true
	c.Password, c.PasswordFlag = []byte(password), password != ""
	return c, nil
}

// reasonOf returns why a connection failed, without the address that paho has made up.
func reasonOf(err error) error {
	if refused, ok := errors.AsType[*autopaho.ConnackError](err); ok {
		return fmt.Errorf("the broker refused the replica with reason code 0x%02x %s: it must speak MQTT 5.0 and know replicas.username", refused.ReasonCode, strings.ToValidUTF8(refused.Reason, "?"))
	}
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

func (r *Replicas) subscribe(ctx context.Context, manager *autopaho.ConnectionManager) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_, err := manager.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: r.options.Topic, QoS: 1, NoLocal: true, RetainHandling: 2},
	}})
	return err
}

// publish sends one message. If that fails, the others notice that its number is missing.
func (r *Replicas) publish(ctx context.Context, manager *autopaho.ConnectionManager, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if _, err := manager.Publish(ctx, &paho.Publish{Topic: r.options.Topic, QoS: 1, Payload: payload}); err != nil {
		return fmt.Errorf("publish to %s: %w", r.options.Topic, err)
	}
	return nil
}
