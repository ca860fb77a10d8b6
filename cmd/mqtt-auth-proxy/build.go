package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/admin"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// service is the running program: every component, made from one config.
type service struct {
	config   *config.Config
	log      *zap.Logger
	registry *prometheus.Registry
	server   *proxy.Server

	sources      sources
	tokenReloads *prometheus.CounterVec
	revocations  *prometheus.CounterVec
	demo         *demo // of a first start
	certs        []certificates
	bundled      *bundledBroker // nil with an upstream of one's own
	upstream     *upstreamBroker
	listeners    []*proxy.Listener
	admin        net.Listener
	adminHTTP    *http.Server

	started    time.Time
	draining   atomic.Bool
	lastReload atomic.Pointer[reloadStatus]
	failed     chan error // what ends the service by itself
	stop       context.CancelFunc
	running    sync.WaitGroup
}

// build makes every component and opens every socket, but serves nobody yet.
// Whatever can fail fails here.
func build(ctx context.Context, c *config.Config, log *zap.Logger) (*service, error) {
	s := &service{config: c, log: log, started: time.Now(), registry: newRegistry(), failed: make(chan error, 1+len(c.Listeners))}
	s.tokenReloads, s.revocations = newTokenReloads(s.registry), newRevocations(s.registry)
	s.registry.MustRegister(sourceCollector{&s.sources})
	ctx, s.stop = context.WithCancel(ctx)
	for _, step := range []func(context.Context) error{
		s.openData, s.openListeners, s.openAdmin, s.openSources, s.openUpstream, s.openServer, s.openAdminServer,
	} {
		if err := step(ctx); err != nil {
			s.close()
			return nil, err
		}
	}
	s.watch(ctx)
	return s, nil
}

// openData makes the data directory, for the owner alone.
func (s *service) openData(context.Context) error {
	if err := os.MkdirAll(s.config.Data, 0o700); err != nil {
		return fmt.Errorf("data: cannot make the data directory %s: %w; choose another with --data or the key data", s.config.Data, err)
	}
	return nil
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "mqtt_auth_proxy_build_info",
			Help:        "Constant 1, labelled with the version.",
			ConstLabels: prometheus.Labels{"version": version()},
		}, func() float64 { return 1 }))
	return r
}

// openServer makes the proxy and its policy.
func (s *service) openServer(context.Context) error {
	policy, err := s.policy()
	if err != nil {
		return err
	}
	observer := observe.New(s.log, s.registry)
	s.server = &proxy.Server{Trace: observer.Trace()}
	observer.Watch(s.registry, s.server.Stats)
	return s.server.SetPolicy(policy)
}

// policy turns the config into what the proxy does with connections.
func (s *service) policy() (*proxy.Policy, error) {
	c := s.config
	creds, err := newCredentials(c.Upstream)
	if err != nil {
		return nil, err
	}
	p := &proxy.Policy{
		Authorizer:      s.sources.chain,
		Rewrite:         creds.rewrite,
		Dial:            s.dial,
		ConnectTimeout:  c.Connect.Timeout,
		UpstreamTimeout: c.Upstream.ConnectTimeout,
		MaxConnect:      int(c.Connect.MaxPacket),
		Levels:          protocolLevels(c.Connect.Protocols),
		Limits: proxy.Limits{
			Connections:  c.Limits.Connections,
			PerAddress:   c.Limits.PerAddress,
			Handshakes:   c.Limits.Handshakes,
			PerSubject:   c.Limits.SessionsPerSubject,
			RefuseNewest: c.Limits.OverLimit == "refuse",
		},
		Recheck: c.Auth.Recheck,
	}
	if s.bundled != nil {
		creds.checkWill = broker.CheckWill
	}
	for _, place := range c.Token.From {
		l, err := proxy.ParseTokenLocation(place)
		if err != nil {
			return nil, fmt.Errorf("token.from: %w", err)
		}
		p.Token = append(p.Token, l)
	}
	return p, nil
}

// dial opens a connection to whichever broker there is.
func (s *service) dial(ctx context.Context, c *proxy.Client) (net.Conn, error) {
	if s.bundled != nil {
		return s.bundled.broker.Dial(ctx, c.Subject())
	}
	return s.upstream.Dial(ctx)
}

// protocolLevels returns the level byte of each version.
func protocolLevels(versions []string) []byte {
	levels := make([]byte, 0, len(versions))
	for _, v := range versions {
		levels = append(levels, map[string]byte{"3.1": 3, "3.1.1": 4, "5": 5}[v])
	}
	return levels
}

// openAdmin opens the socket of the admin side, unless the config has none.
func (s *service) openAdmin(context.Context) (err error) {
	if s.config.Admin.Address != "" {
		s.admin, err = listen("admin.address", s.config.Admin.Address)
	}
	return err
}

// openAdminServer makes what answers there.
func (s *service) openAdminServer(context.Context) error {
	if s.admin == nil {
		return nil
	}
	token, err := admin.EnsureToken(s.config.Admin.TokenFile)
	if err != nil {
		return err
	}
	options := admin.Options{
		Token:   token,
		Ready:   s.ready,
		Metrics: promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}),
		API:     s.api(),
	}
	if options.PushSecret, err = pushSecret(s.config.Admin.PushSecretFile); err != nil {
		return err
	}
	if s.bundled != nil {
		options.Telemetry = s.bundled.api()
	}
	s.adminHTTP = admin.NewServer(options)
	return nil
}

// minPushSecret is the length of the shortest secret that pushes may be signed
// with, in bytes.
const minPushSecret = 32

// pushSecret reads the secret that token services sign with, empty without a
// file.
func pushSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("admin.push_secret_file: %w", err)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if len(secret) < minPushSecret {
		return "", fmt.Errorf("admin.push_secret_file: %s: %d bytes are too few, use %d or more", path, len(secret), minPushSecret)
	}
	return secret, nil
}

// ready returns why devices cannot be served, nil if they can.
func (s *service) ready() error {
	switch {
	case s.draining.Load():
		return errors.New("draining")
	case s.bundled != nil:
		return s.bundled.broker.Healthy()
	}
	return s.upstream.answers()
}

// start serves on every listener.
func (s *service) start() {
	for _, ln := range s.listeners {
		s.log.Info("listening", zap.String("listener", ln.Name), zap.Stringer("addr", ln.Addr()), zap.Bool("tls", ln.TLS != nil))
		s.running.Go(func() {
			if err := s.server.Serve(ln); !errors.Is(err, proxy.ErrServerClosed) {
				s.fail(fmt.Errorf("listener %s: %w", ln.Name, err))
			}
		})
	}
	if s.adminHTTP == nil {
		return
	}
	s.log.Info("listening", zap.String("listener", "admin"), zap.Stringer("addr", s.admin.Addr()))
	s.running.Go(func() {
		if err := s.adminHTTP.Serve(s.admin); !errors.Is(err, http.ErrServerClosed) {
			s.fail(fmt.Errorf("admin listener: %w", err))
		}
	})
}

// fail makes wait return err. Only the first few matter.
func (s *service) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
}

// adminGoodbye is how long a running admin request may take after the drain.
const adminGoodbye = 2 * time.Second

// close ends every component, those first that others depend on last, and waits
// for every goroutine.
func (s *service) close() {
	s.stop()
	if s.server != nil {
		s.server.Close()
	}
	for _, ln := range s.listeners {
		ln.Close()
	}
	if s.adminHTTP != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminGoodbye)
		defer cancel()
		if s.adminHTTP.Shutdown(ctx) != nil {
			s.adminHTTP.Close()
		}
	} else if s.admin != nil {
		s.admin.Close()
	}
	s.running.Wait()
	s.sources.close()
	if s.bundled != nil {
		s.bundled.close(s.log)
	}
	_ = s.log.Sync()
}
