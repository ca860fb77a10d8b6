package replicas

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
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
	keepAlive = 5 * time.Second
	// stepTimeout is how long a dial, a SUBACK or a PUBACK may take.
	stepTimeout = 5 * time.Second
	longestWait = 5 * time.Second // between two attempts to connect
	// queueLength is how many messages wait for a server.
	queueLength = 256
	// receiveMaximum is how many messages the broker may send without an acknowledgement.
	receiveMaximum = 64
)

// Bus is how replicas reach each other through MQTT brokers, which must speak MQTT 5.0.
type Bus struct {
	Topic    string
	Username string // none is sent if it is empty
	// Password returns the password. It is called for each connection.
	Password func() (string, error)
	// Dial connects to a server.
	Dial func(context.Context, upstream.Server) (net.Conn, error)
}

// outlet is the way to a server.
type outlet struct {
	server upstream.Server
	queue  chan []byte

	up  bool  // guarded by Replicas.mu
	err error // why it was last not up; guarded by Replicas.mu
}

// Server is the connection to a server in an answer of [Replicas.Servers].
type Server struct {
	Server    upstream.Server
	Connected bool
	Err       error // why it was last not connected, or nil
}

// Servers returns the state of the connections.
func (r *Replicas) Servers() (all []Server) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.outlets {
		all = append(all, Server{o.server, o.up, o.err})
	}
	return all
}

// Connect makes the replica use these servers from now on.
func (r *Replicas) Connect(servers []upstream.Server) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.outlets
	r.outlets = nil
	for _, server := range servers {
		if i := slices.IndexFunc(before, func(o *outlet) bool { return o.server == server }); i >= 0 {
			r.outlets = append(r.outlets, before[i])
			continue
		}
		r.outlets = append(r.outlets, &outlet{server: server, queue: make(chan []byte, queueLength)})
	}
	signal(r.changed)
}

// connect keeps a connection to each server until ctx is done.
func (r *Replicas) connect(ctx context.Context) {
	links := make(map[*outlet]context.CancelFunc)
	var linked sync.WaitGroup
	defer linked.Wait()
	for {
		r.mu.Lock()
		now := slices.Clone(r.outlets)
		r.mu.Unlock()
		for o, stop := range links {
			if !slices.Contains(now, o) {
				stop()
				delete(links, o)
			}
		}
		for _, o := range now {
			if links[o] == nil {
				inner, stop := context.WithCancel(ctx)
				links[o] = stop
				linked.Go(func() { task.Run(inner, r.options.Panicked, func(ctx context.Context) { r.link(ctx, o) }) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		}
	}
}

// link keeps a connection to one server until ctx is done.
func (r *Replicas) link(ctx context.Context, o *outlet) {
	defer r.linkDown(o, nil)
	up := make(chan struct{}, 1)
	manager, err := autopaho.NewConnection(ctx, r.clientConfig(o, up))
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
				r.failed(o, fmt.Errorf("subscribe to %s: %w", r.options.Bus.Topic, err))
				time.AfterFunc(longestWait, func() { signal(up) })
				continue
			}
			r.options.Log.Info("connected to the other replicas", zap.Stringer("server", o.server))
			r.linkUp(o)
		case payload := <-o.queue:
			r.publish(ctx, manager, o, payload)
		}
	}
}

// clientConfig returns the configuration of the client. The client puts an element into up when a
// connection is up.
func (r *Replicas) clientConfig(o *outlet, up chan struct{}) autopaho.ClientConfig {
	b := r.options.Bus
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
				conn, err = b.Dial(ctx, o.server)
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
		err := task.Do(func() error {
			if !p.Packet.Retain { // no replica retains its messages
				r.receive(p.Packet.Payload)
			}
			return nil
		})
		if bug := (*task.Panic)(nil); errors.As(err, &bug) {
			r.options.Panicked(bug)
		}
		return true, nil
	}}
	return c
}

// complete adds to a CONNECT what the config of the client cannot say.
func (b Bus) complete(c *paho.Connect) (*paho.Connect, error) {
	c.CleanStart = true // what a connection has missed is not worth waiting for
	largest, unacknowledged := uint32(maxMessage+1024), uint16(receiveMaximum)
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

// backoff returns how long to wait before an attempt to connect.
func backoff(attempt int) time.Duration {
	if attempt == 0 {
		return 0
	}
	wait := min(longestWait, 250*time.Millisecond<<min(attempt, 10))
	return wait/2 + rand.N(wait/2)
}

func (r *Replicas) subscribe(ctx context.Context, manager *autopaho.ConnectionManager) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_, err := manager.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{
		{Topic: r.options.Bus.Topic, QoS: 1, NoLocal: true, RetainHandling: 2},
	}})
	return err
}

// publish sends one message. If that fails, the others notice that its number is missing.
func (r *Replicas) publish(ctx context.Context, manager *autopaho.ConnectionManager, o *outlet, payload []byte) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_, err := manager.Publish(ctx, &paho.Publish{Topic: r.options.Bus.Topic, QoS: 1, Payload: payload})
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Dropped++
	o.err = fmt.Errorf("publish to %s: %w", r.options.Bus.Topic, err)
	r.options.Log.Warn("a message to the other replicas is lost", zap.Stringer("server", o.server), zap.Error(o.err))
}

// failed records and logs why a server is not connected.
func (r *Replicas) failed(o *outlet, err error) {
	r.linkDown(o, err)
	r.options.Log.Warn("not connected to the other replicas", zap.Stringer("server", o.server), zap.Error(err))
}
