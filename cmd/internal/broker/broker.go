package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

// ErrClosed is returned by Dial and Healthy after Shutdown or Close has been called.
var ErrClosed = errors.New("broker is closed")

const (
	defaultMaxPacket     = 2 << 20
	defaultDeviceMemory  = 64 << 20
	defaultReaderQueue   = 256 << 20
	defaultSessionExpiry = 24 * time.Hour
	defaultTimeout       = 10 * time.Second
	defaultWriteTimeout  = 30 * time.Second
	closeTimeout         = 5 * time.Second
)

// Options configure a [Broker]. Telemetry and Attributes are required; the zero value of every
// other field means its default.
type Options struct {
	// Telemetry and Attributes store one payload of a device, which is the identity given to Dial.
	// They return nil once the payload is stored durably; only then is the message acknowledged.
	// They are called by many goroutines at once, one call at a time for each connection, and may
	// keep the payload.
	Telemetry  func(ctx context.Context, device string, payload []byte) error
	Attributes func(ctx context.Context, device string, payload []byte) error
	// AttributeRequest returns the answer to a request of a device for attributes. It is called
	// like them, and its errors are like theirs. Default: every request fails.
	AttributeRequest func(ctx context.Context, device string, request []byte) (answer []byte, err error)
	// Children serves the devices behind gateways.
	Children Children
	// BadPayload reports whether the payload itself caused an error of Telemetry or
	// Attributes, so that sending it again cannot help. Default: no error.
	BadPayload func(err error) bool
	// OverQuota reports whether such an error says that the device has reached its quota.
	// Default: no error.
	OverQuota func(err error) bool
	// Logger receives refused payloads (warn), failures to store and recovered panics (error),
	// and what mochi logs, at debug level and without client identifiers and packet contents.
	// Default: no logging.
	Logger *slog.Logger
	// MaxPacket is the largest packet accepted from a device, in bytes: 1 KiB to 256 MiB. MQTT
	// 5 clients learn it from CONNACK. Default 2 MiB, which leaves room for a payload of 1 MiB
	// with any topic and properties.
	MaxPacket int
	// MaxPayload is the largest payload that Telemetry takes, in bytes. The answer to
	// getSessionLimits has it. Default: any.
	MaxPayload int
	// SessionExpiry is how long the session of a disconnected device is kept, unless an MQTT 5
	// client asks for less. It is rounded down to whole seconds and must be at least one.
	// Default 24 hours.
	SessionExpiry time.Duration
	// ConnectTimeout bounds the time from Dial to the complete CONNECT. Default 10 seconds.
	ConnectTimeout time.Duration
	// WriteTimeout is how long a device may read nothing while bytes wait for it, before it is
	// disconnected. Default 30 seconds.
	WriteTimeout time.Duration
	// DeviceMemory is how many bytes are kept for one device at most; the package comment
	// lists what counts. Default 64 MiB.
	DeviceMemory int64
	// Memory returns how many bytes are kept for all devices together at most, 0 for no limit.
	// Many goroutines call it often, so it must not block. Default: no limit.
	Memory func() int64
	// ReaderQueue is how many bytes wait in the file alone for one session of a reader at most. For
	// all sessions of readers together it is four times as much. Default 256 MiB.
	ReaderQueue int64
	// Sessions keeps the sessions that outlive their connections, and the retained messages, so
	// that they survive the end of the process. The broker begins with those that are in it. It must
	// be closed after the broker. Default: they end with the process.
	Sessions *durable.File
	// StoreTimeout bounds one call of Telemetry or Attributes, and the wait for Sessions. Default 10
	// seconds.
	StoreTimeout time.Duration
}

// validate fills in the defaults.
func (o *Options) validate() error {
	if o.Telemetry == nil || o.Attributes == nil {
		return errors.New("broker options: Telemetry and Attributes must be set")
	}
	if o.OverQuota == nil {
		o.OverQuota = func(error) bool { return false }
	}
	if o.BadPayload == nil {
		o.BadPayload = func(error) bool { return false }
	}
	if o.AttributeRequest == nil {
		o.AttributeRequest = func(context.Context, string, []byte) ([]byte, error) {
			return nil, errors.New("this broker has no attributes")
		}
	}
	o.Children = o.Children.withDefaults()
	if o.MaxPayload == 0 {
		o.MaxPayload = math.MaxInt
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DeviceMemory == 0 {
		o.DeviceMemory = defaultDeviceMemory
	}
	if o.DeviceMemory < 0 {
		return fmt.Errorf("broker options: DeviceMemory %d is negative", o.DeviceMemory)
	}
	if o.ReaderQueue == 0 {
		o.ReaderQueue = defaultReaderQueue
	}
	if o.ReaderQueue < 0 {
		return fmt.Errorf("broker options: ReaderQueue %d is negative", o.ReaderQueue)
	}
	if o.Memory == nil {
		o.Memory = func() int64 { return 0 }
	}
	if o.MaxPacket == 0 {
		o.MaxPacket = defaultMaxPacket
	}
	if o.MaxPacket < 1<<10 || o.MaxPacket > 256<<20 {
		return fmt.Errorf("broker options: MaxPacket %d is not between 1 KiB and 256 MiB", o.MaxPacket)
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
		min   time.Duration
	}{
		{"SessionExpiry", &o.SessionExpiry, defaultSessionExpiry, time.Second},
		{"ConnectTimeout", &o.ConnectTimeout, defaultTimeout, 1},
		{"WriteTimeout", &o.WriteTimeout, defaultWriteTimeout, 1},
		{"StoreTimeout", &o.StoreTimeout, defaultTimeout, 1},
	} {
		if *d.value == 0 {
			*d.value = d.zero
		}
		if *d.value < d.min || *d.value/time.Second >= math.MaxUint32 {
			return fmt.Errorf("broker options: %s %v is out of range", d.name, *d.value)
		}
	}
	return nil
}

// Broker is a running broker. Its methods may be called by any goroutine.
type Broker struct {
	options  Options
	server   *mqtt.Server
	wills    wills
	ledger   *ledger
	presence presences
	order    atomic.Int64 // of the messages in queues
	counts   counters
	unserved unserved
	full     daily // warnings of devices that have as much as they may have
	calls    calls

	// sessions is locked while a session begins or ends, which mochi does in steps between
	// which messages and sessions would be lost, and read-locked for each delivery. Nothing
	// done under it waits for a device or for the store.
	sessions sync.RWMutex
	// retained guards the retained messages in the topic tree, which mochi reads without a
	// lock.
	retained sync.RWMutex

	quietAfter time.Duration     // see the constant
	noAliases  mqtt.TopicAliases // of all clients, since topic aliases are turned off
	buffers    sync.Pool         // of *[inputBuffer]byte

	storing context.Context // ends when the context of Shutdown does
	cancel  context.CancelFunc
	work    sync.WaitGroup // connections, their drains, delayed wills
	stop    chan struct{}  // closed by Shutdown
	stopped chan struct{}  // closed when nothing is left running

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

// New starts a broker without connections. It must be ended by Shutdown or Close.
func New(o Options) (*Broker, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	b := &Broker{options: o, stop: make(chan struct{}), stopped: make(chan struct{}), conns: make(map[*conn]struct{}), quietAfter: quietAfter}
	b.noAliases = mqtt.NewTopicAliases(0)
	b.buffers.New = func() any { return new([inputBuffer]byte) }
	b.wills.fire, b.wills.drop, b.wills.work = b.fireWill, b.dropWill, &b.work
	b.ledger = newLedger(&o)
	var err error
	if b.server, err = b.newServer(); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	if o.Sessions != nil {
		if err := b.restore(context.Background()); err != nil {
			return nil, err
		}
	}
	b.storing, b.cancel = context.WithCancel(context.Background())
	go b.run()
	return b, nil
}

// Device is a device that connects.
type Device struct {
	// Name is the identity of the device, for which [CheckSubject] returns nil.
	Name string
	// Limits are what its sessions must keep to.
	Limits Limits
	// Gateway lets it speak for the devices behind it, see [Children].
	Gateway bool
	// Reader lets its sessions subscribe to the topics of all devices. The caller keeps a reader
	// from publishing.
	Reader bool
}

// Dial connects a device and returns its end of the connection, on which the caller must send a
// CONNECT. It is a *net.UnixConn where the system has socket pairs. Dial returns ErrClosed after
// Shutdown, the error of ctx once that is done, and otherwise fails only without file descriptors.
func (b *Broker) Dial(ctx context.Context, device Device) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	near, far, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connect to the bundled broker: %w", err)
	}
	c, err := newConn(b, near, device)
	if err == nil {
		err = b.admit(c)
	}
	if err != nil {
		return nil, errors.Join(err, near.Close(), far.Close())
	}
	go b.serve(c)
	return far, nil
}

// admit registers a connection, which then counts as work until serve returns.
func (b *Broker) admit(c *conn) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	b.conns[c] = struct{}{}
	b.work.Add(1)
	return nil
}

// recoverPanic is deferred. A device can cause a panic in mochi's decoder, which ends only the
// work for that device.
func (b *Broker) recoverPanic(device string) {
	if v := recover(); v != nil {
		b.panicked(device, &task.Panic{Kind: task.Kind(v), Stack: debug.Stack()})
	}
}

// panicked counts and logs a panic. device is empty if the panic does not concern a device.
func (b *Broker) panicked(device string, p *task.Panic) {
	b.counts.panics.Add(1)
	b.options.Logger.Error("panic in the bundled broker", "device", device, "kind", p.Kind, "stack", string(p.Stack))
}

// Healthy returns nil while the broker accepts devices and ErrClosed afterwards.
func (b *Broker) Healthy() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	return nil
}
