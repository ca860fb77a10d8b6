package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/denylist"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// Service is the running program: what lasts as long as the process, and the
// generation that is in force.
type Service struct {
	Process
	started  time.Time
	observer *observe.Observer
	server   *proxy.Server
	http     *http.Server   // of the admin side
	bundled  *bundledBroker // nil with an upstream of one's own
	demo     *demo          // of a first start
	denials  *denylist.List
	// clientIDKey is of the data directory that the service was started with.
	clientIDKey []byte

	current  atomic.Pointer[generation]
	swap     sync.RWMutex // held for reading by what must not straddle a swap
	reloader reloader

	memory   host.MemoryGuard
	systemd  host.Systemd
	confined bool // by a sandbox; set before anything is served
	draining atomic.Bool
	failed   chan error // what ends the service by itself
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// Process is what a service needs of the process around it.
type Process struct {
	Log    *observe.Log
	Level  zap.AtomicLevel // of Log
	Config config.Options  // where the configuration comes from
	// Version is what the program calls itself, in metrics, status and requests.
	Version string
	// Sockets are those that the service manager has opened.
	Sockets host.Sockets
	// SetHeap limits the memory of the Go runtime, in bytes; nil leaves it as it is.
	SetHeap func(int64)
}

// New makes every component and opens every socket, but serves nobody yet.
// Whatever can fail fails here.
func New(ctx context.Context, plan *Plan, p Process) (*Service, error) {
	s := &Service{Process: p, started: time.Now(), observer: observe.New(p.Log, p.Version), failed: make(chan error, 8)}
	s.memory.Log, s.memory.SetHeap = p.Log.Logger, p.SetHeap
	s.systemd.Log = p.Log.Logger
	s.current.Store(emptyGeneration())
	ctx, s.stop = context.WithCancel(ctx)
	if err := s.open(ctx, plan); err != nil {
		s.Close()
		return nil, err
	}
	s.running.Go(func() { s.reloader.run(ctx, s) })
	s.running.Go(func() {
		s.memory.Run(ctx, func() host.MemoryLimit { return host.MemoryLimit(s.current.Load().config.Limits.Memory) })
	})
	s.running.Go(func() { s.systemd.Report(ctx, s.alive, s.summary) })
	return s, nil
}

// open makes the lasting parts and the first generation.
func (s *Service) open(ctx context.Context, p *Plan) error {
	c := p.Config
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("data: cannot make the data directory %s: %w; choose another with --data or the key data", c.Data, err)
	}
	if err := s.openClientIDKey(c.Data); err != nil {
		return err
	}
	var err error
	if s.denials, err = denylist.Open(filepath.Join(c.Data, "denials.jsonl")); err != nil {
		return err
	}
	s.openServer()
	s.memory.Check(host.MemoryLimit(c.Limits.Memory))
	first, err := s.prepareFirst(ctx, p)
	if err != nil {
		return err
	}
	s.openHTTP()
	if err := s.install(first); err != nil {
		return err
	}
	s.reloader.begin(s)
	s.exportMetrics()
	return nil
}

// openServer makes the proxy; generations give it its policies.
func (s *Service) openServer() {
	trace := s.observer.Trace()
	trace.Revoked = s.revoked
	s.server = &proxy.Server{Trace: trace}
}

// ready returns why devices cannot be served, nil if they can.
func (s *Service) ready() error {
	switch {
	case s.draining.Load():
		return errors.New("draining")
	case s.bundled != nil:
		return s.bundled.ready()
	}
	return s.current.Load().upstream.answers()
}

// start serves on every listener.
func (s *Service) start() {
	s.swap.Lock()
	defer s.swap.Unlock()
	s.serveSockets(s.current.Load())
}

// serveSockets serves on those sockets of g that are new. It is called with swap
// held.
func (s *Service) serveSockets(g *generation) {
	for _, l := range g.listeners {
		s.serve(l.socket, s.server.Serve)
	}
	if g.admin.socket != nil {
		s.serve(g.admin.socket, s.http.Serve)
	}
}

// socket is a listening socket. It may be part of several generations.
type socket struct {
	net.Listener
	label   string
	served  bool        // guarded by Service.swap
	retired atomic.Bool // it is closed on purpose
}

func (k *socket) retire() {
	k.retired.Store(true)
	k.Close()
}

func (s *Service) serve(k *socket, on func(net.Listener) error) {
	if k.served {
		return
	}
	k.served = true
	s.Log.Info("listening", zap.String("listener", k.label), zap.Stringer("addr", k.Addr()))
	s.running.Go(func() {
		err := on(k.Listener)
		switch {
		case errors.Is(err, proxy.ErrServerClosed), errors.Is(err, http.ErrServerClosed):
		case k.retired.Load():
			s.Log.Info("no longer listening", zap.String("listener", k.label), zap.Stringer("addr", k.Addr()))
		default:
			s.fail(fmt.Errorf("listener %s: %w", k.label, err))
		}
	})
}

// fail makes wait return err. Only the first few matter.
func (s *Service) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// adminGoodbye is how long a running admin request may take after the drain.
const adminGoodbye = 2 * time.Second

// Close ends every component, those first that others depend on last, and waits
// for every goroutine.
func (s *Service) Close() {
	s.stop()
	s.reloader.end()
	if s.server != nil {
		s.server.Close()
	}
	if s.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminGoodbye)
		defer cancel()
		if s.http.Shutdown(ctx) != nil {
			s.http.Close()
		}
	}
	s.current.Load().retire(emptyGeneration())
	s.running.Wait()
	if s.denials != nil {
		if err := s.denials.Save(); err != nil {
			s.Log.Error("denials are lost", zap.Error(err))
		}
	}
	if s.bundled != nil {
		s.bundled.close(s.Log.Logger)
	}
}
