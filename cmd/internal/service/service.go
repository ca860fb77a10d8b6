package service

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/hooks"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/page/history"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Service is the running program: the parts that last as long as the process, and the current
// generation.
type Service struct {
	Process

	// These are made at the start.
	started     time.Time
	observer    *observe.Observer
	server      *proxy.Server
	http        *http.Server // of the admin side
	page        *page.Page   // of http
	history     history.History
	bundled     *bundledBroker // nil with external brokers
	demo        *demo          // nil unless this is a first start
	denials     *denylist.List
	replicas    *replicas.Replicas // nil without a bus
	presence    *presence.Recorder
	hooks       *hooks.Sender
	workers     *passwordhash.Workers
	login       *brokerLogin
	clientIDKey []byte
	memory      host.MemoryGuard
	systemd     host.Systemd
	reloader    reloader
	audit       admin.Audit
	drains      brokerDrains
	confined    bool // by a sandbox; set before serving starts

	// Only install changes the current generation. Code that must not see two generations holds
	// swap for reading.
	current atomic.Pointer[generation]
	swap    sync.RWMutex

	draining   atomic.Bool
	fatal      chan error         // faults that end the service, see fail
	cancel     context.CancelFunc // ends the background goroutines
	goroutines sync.WaitGroup     // all of them; Close waits for them
}

// Process is what a service needs from its process.
type Process struct {
	Log    *observe.Log
	Level  zap.AtomicLevel // of Log
	Config config.Options  // where the configuration comes from
	// Version is the version of the program in metrics, status and requests.
	Version string
	// Sockets are the sockets that the service manager has opened.
	Sockets host.Sockets
	// SetHeap limits the memory of the Go runtime, in bytes. If it is nil, the limit is not
	// changed.
	SetHeap func(int64)
}

// New makes every part of the service and opens every socket, but does not serve yet. It takes
// over the plan. Everything that can fail fails here.
func New(ctx context.Context, plan *Plan, p Process) (*Service, error) {
	s := &Service{
		Process: p, started: time.Now(), observer: observe.New(p.Log, p.Version),
		workers: passwordhash.NewWorkers(0), fatal: make(chan error, 8),
		login: newBrokerLogin(),
	}
	s.memory.Log, s.memory.SetHeap = p.Log.Logger, p.SetHeap
	s.systemd.Log = p.Log.Logger
	s.audit.Logged = s.logChange
	s.current.Store(emptyGeneration())
	ctx, s.cancel = context.WithCancel(ctx)
	if err := s.open(ctx, plan); err != nil {
		s.Close()
		return nil, err
	}
	s.background(ctx, "reload", func(ctx context.Context) { s.reloader.run(ctx, s) })
	s.background(ctx, "memory", func(ctx context.Context) {
		s.memory.Run(ctx, func() host.MemoryLimit { return host.MemoryLimit(s.current.Load().config.Limits.Memory) })
	})
	if s.replicas != nil {
		s.background(ctx, "replicas", s.replicas.Run)
	}
	if s.replicas != nil && s.bundled != nil {
		s.background(ctx, "shared attributes", s.repeatChanges)
	}
	s.background(ctx, "presence", s.presence.Run)
	s.background(ctx, "hooks", s.hooks.Run)
	s.background(ctx, "history", s.recordHistory)
	s.background(ctx, "page", s.page.Run)
	s.background(ctx, "broker login", func(ctx context.Context) { s.login.run(ctx, s) })
	s.background(ctx, "denials", func(ctx context.Context) { _ = s.server.Watch(ctx, s.denials) }) // which always returns nil
	s.background(ctx, "systemd", func(ctx context.Context) { s.systemd.Report(ctx, s.alive, s.summary) })
	return s, nil
}

// background runs work until ctx is done, and again after a panic. Close waits for it.
func (s *Service) background(ctx context.Context, name string, work func(context.Context)) {
	s.goroutines.Go(func() { task.Run(ctx, s.observer.TaskPanicked(name), work) })
}

// denialsFile is the file in the data directory with the denials of operators.
const denialsFile = "denials.jsonl"

// open makes the lasting parts and the first generation.
func (s *Service) open(ctx context.Context, p *Plan) error {
	c := p.Config
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("data: cannot make the data directory %s: %w; choose another with --data or the key data", c.Data, err)
	}
	var err error
	if s.clientIDKey, err = openClientIDKey(c.Data, s.Log.Logger); err != nil {
		return err
	}
	if s.denials, err = denylist.Open(filepath.Join(c.Data, denialsFile)); err != nil {
		return err
	}
	if err := s.openReplicas(c); err != nil {
		return err
	}
	s.openPresence()
	s.hooks = s.newHooks()
	s.openServer()
	s.memory.Check(host.MemoryLimit(c.Limits.Memory))
	first, err := s.prepareFirst(ctx, p)
	if err != nil {
		return err
	}
	s.openHTTP(ctx)
	if err := s.install(first); err != nil {
		return err
	}
	s.reloader.begin(s)
	s.observer.Export(s.metricState())
	return nil
}

// openServer makes the proxy. Each generation sets its policy.
func (s *Service) openServer() {
	trace := s.observer.Trace()
	trace.Revoked = s.revoked
	trace.Refused = both(both(trace.Refused, s.login.refused), s.hooks.Refused)
	trace.Opened = both(both(both(trace.Opened, s.presence.Opened), s.login.accepted), both(s.hooks.Opened, s.deviceConnected))
	trace.Renewed = both(trace.Renewed, s.presence.Renewed)
	closed := trace.Closed
	trace.Closed = func(c *proxy.Client, e proxy.End) {
		closed(c, e)
		s.presence.Closed(c, e)
		s.hooks.Closed(c, e)
		s.deviceDisconnected(c, e)
	}
	s.server = &proxy.Server{Trace: trace}
}

// both returns a hook that calls two.
func both[T any](first, second func(T)) func(T) {
	return func(event T) {
		first(event)
		second(event)
	}
}

// adminShutdownTimeout is how long a running admin request may take after the drain.
const adminShutdownTimeout = 2 * time.Second

// Close ends every part of the service, in the order from devices to brokers, and waits for
// every goroutine. It may be called more than once.
func (s *Service) Close() {
	s.cancel()
	s.drains.stopAll()
	s.reloader.end()
	if s.server != nil {
		s.server.Close()
	}
	if s.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminShutdownTimeout)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			s.http.Close()
		}
	}
	s.current.Load().retire(emptyGeneration())
	s.goroutines.Wait()
	if s.hooks != nil {
		s.closeHooks()
	}
	if s.presence != nil {
		s.closePresence()
	}
	if s.denials != nil {
		if err := s.denials.Save(); err != nil {
			s.Log.Error("denials are lost", zap.Error(err))
		}
	}
	if s.bundled != nil {
		s.bundled.close(s.Log.Logger)
	}
}
