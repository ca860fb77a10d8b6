package service

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/broker/durable"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/presence"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/rpc"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/postgres"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/sqlite"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// bundledBroker is the broker inside the program and the store behind it.
type bundledBroker struct {
	broker *broker.Broker
	intake *telemetry.Intake
	store  telemetry.Store
	shared *telemetry.Changes
	// changed are shared attributes that other replicas have changed. There may be few, because
	// devices can ask for what they have not got.
	changed  chan replicas.Change
	sessions *durable.File
}

// sessionsFile is the file in the data directory that has the sessions and the retained messages of
// the bundled broker.
const sessionsFile = "sessions.db"

// openBundled opens the store and starts the broker, if the plan has no other broker.
func (s *Service) openBundled(ctx context.Context, p *Plan) (*bundledBroker, error) {
	if p.servers != nil {
		return nil, nil
	}
	store, err := s.openStore(ctx, p.Config)
	if err != nil {
		return nil, err
	}
	store = telemetry.WithChildren(store)
	intake := &telemetry.Intake{Store: store, StrictJSON: p.Telemetry.StrictJSON, KeepText: !p.Telemetry.CastText}
	requests := &telemetry.Requests{Store: store}
	sessions, err := durable.Open(ctx, durable.Options{
		Path:       filepath.Join(p.Data, sessionsFile),
		Durability: p.Telemetry.Durability,
		MinFree:    p.Telemetry.MinFree,
		OnError:    s.observer.StoreFailed("sessions of the bundled broker"),
	})
	if err != nil {
		return nil, errors.Join(faultAt(p.Config, "data", err), store.Close())
	}
	b, err := broker.New(broker.Options{
		Sessions:         sessions,
		ReaderQueue:      p.Telemetry.ReaderQueue,
		Telemetry:        intake.Telemetry,
		Attributes:       intake.Attributes,
		AttributeRequest: requests.Attributes,
		Children: broker.Children{
			Telemetry: intake.ChildTelemetry, Attributes: intake.ChildAttributes,
			Connect: intake.Child, AttributeRequest: requests.ChildAttributes,
		},
		BadPayload: isBadPayload,
		OverQuota:  isOverQuota,
		MaxPayload: telemetry.MaxPayload,
		// A quarter of the memory limit of the process, or 0 if there is none.
		Memory: func() int64 { return s.memory.Usage().Limit / 4 },
		Logger: slog.New(zapslog.NewHandler(s.Log.Core(), zapslog.WithName("broker"), zapslog.AddStacktraceAt(noStack))),
	})
	if err != nil {
		return nil, errors.Join(err, sessions.Close(), store.Close())
	}
	intake.StoredTelemetry, intake.StoredAttributes = b.PublishTelemetry, b.PublishAttributes
	shared := &telemetry.Changes{Store: store, Push: b.PushAttributes, Announce: s.replicas.Change, Record: s.audit.Record}
	return &bundledBroker{broker: b, intake: intake, store: store, sessions: sessions, shared: shared, changed: make(chan replicas.Change, mostChanged)}, nil
}

// openStore opens the store that the configuration names.
func (s *Service) openStore(ctx context.Context, c *config.Config) (telemetry.Store, error) {
	t := c.Telemetry
	if t.Postgres != nil {
		store, err := postgres.Open(ctx, postgres.Options{
			DSNFile:     t.Postgres.DSNFile,
			Connections: t.Postgres.Connections,
			Retention:   t.Retention,
			MaxKeys:     t.MaxKeys,
			MaxBytes:    t.MaxBytes,
			OnError:     s.observer.StoreFailed("telemetry store"),
		})
		if err != nil {
			return nil, faultAt(c, "telemetry.postgres.dsn_file", err)
		}
		return store, nil
	}
	store, err := sqlite.Open(ctx, sqlite.Options{
		Path:       t.Path,
		Retention:  t.Retention,
		Durability: t.Durability,
		MinFree:    t.MinFree,
		MaxKeys:    t.MaxKeys,
		MaxBytes:   t.MaxBytes,
		OnError:    s.observer.StoreFailed("telemetry store"),
	})
	if err != nil {
		return nil, faultAt(c, "telemetry.path", err)
	}
	return store, nil
}

// dial connects a device with the limits of its grant and of the configuration.
func (b *bundledBroker) dial(ctx context.Context, c *proxy.Client, configured authz.Limits) (net.Conn, error) {
	l := c.Grant.Limits.Over(configured)
	return b.broker.Dial(ctx, broker.Device{
		Name:    c.Subject(),
		Gateway: c.Grant.Gateway,
		Reader:  c.Grant.Role == authz.RoleReader,
		Limits:  broker.Limits{MaxPacket: l.MaxPacket, PublishRate: l.PublishRate, PublishBurst: l.PublishBurst},
	})
}

// deviceConnected tells readers that a session has begun, if the broker is the bundled one. It is a
// hook of proxy.Trace.
func (s *Service) deviceConnected(c *proxy.Client) {
	s.publishPresence(c, broker.Presence{Connected: true})
}

// deviceDisconnected does the same for one that has ended.
func (s *Service) deviceDisconnected(c *proxy.Client, e proxy.End) {
	s.publishPresence(c, broker.Presence{Reason: string(e.Cause()), By: e.By})
}

func (s *Service) publishPresence(c *proxy.Client, p broker.Presence) {
	if s.bundled == nil {
		return
	}
	p.Time, p.ClientID, p.Session = time.Now().UTC(), c.ClientID, c.ID
	if c.Addr.IsValid() {
		p.Address = c.Addr.String()
	}
	s.bundled.broker.PublishPresence(c.Subject(), p)
}

// noStack is above every level, because an error that a device causes needs no stack trace.
const noStack = slog.Level(math.MaxInt)

// isBadPayload reports whether a payload can never be stored.
func isBadPayload(err error) bool {
	var bad *telemetry.PayloadError
	return errors.As(err, &bad)
}

// isOverQuota reports whether a payload is bad only because its device has reached its quota.
func isOverQuota(err error) bool {
	var bad *telemetry.PayloadError
	return errors.As(err, &bad) && bad.Quota
}

// ready returns why devices cannot be served, or nil.
func (b *bundledBroker) ready() error { return cmp.Or(b.broker.Healthy(), b.store.Writable()) }

// api serves the stored telemetry and changes shared attributes.
func (b *bundledBroker) api() http.Handler { return telemetry.Handler(b.store, b.shared) }

// rpc serves calls of devices, which end with the context of the service.
func (s *Service) rpc(service context.Context) http.Handler {
	call := func(ctx context.Context, device string, request []byte, oneWay bool) ([]byte, error) {
		if _, _, behind := telemetry.SplitID(device); behind && !s.known(ctx, device) {
			return nil, broker.ErrNotListening // the gateway need not be asked
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(service, func() { cancel(broker.ErrClosed) })()
		return s.bundled.broker.Call(ctx, device, request, oneWay)
	}
	return rpc.Devices{Call: call, Known: s.known, Record: s.audit.RecordCall}.Handler()
}

// known reports whether a device has ever been seen: it has connected, or there is data of it. If
// that cannot be found out now, it counts as known.
func (s *Service) known(ctx context.Context, device string) bool {
	if gateway, child, ok := telemetry.SplitID(device); ok {
		numbers, err := s.bundled.store.ChildNumbers(ctx, gateway, []string{child}, false)
		return err != nil || numbers[0] != 0
	}
	if page, err := s.presence.Devices(ctx, presence.Query{Subject: device, Limit: 1}); err != nil || len(page.Devices) > 0 {
		return true
	}
	if keys, err := telemetry.Keys(ctx, s.bundled.store, device); err != nil || len(keys) > 0 {
		return true
	}
	shared, err := telemetry.Attributes(ctx, s.bundled.store, device, telemetry.SharedScope)
	return err != nil || len(shared) > 0
}

// bundledShutdownTimeout is how long the bundled broker may take to end.
const bundledShutdownTimeout = 10 * time.Second

// close ends the broker and then its stores.
func (b *bundledBroker) close(log *zap.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), bundledShutdownTimeout)
	defer cancel()
	if err := errors.Join(b.broker.Shutdown(ctx), b.sessions.Close(), b.store.Close()); err != nil {
		log.Error("close the bundled broker", zap.Error(err))
	}
}
