package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream/pool"
)

// Trial is an attempt to use something that the proxy depends on.
type Trial struct {
	Key  string // of the configuration
	What string // was tried
	Err  error  // nil if it worked
	Todo string // what to do about the error
}

// trialRun is a Trial that is still to be made.
type trialRun struct {
	Trial
	limit time.Duration
	run   func(context.Context) error
}

// TryOnline uses everything on which the proxy depends: it reads the token files, asks the token
// services and databases about a token that does not exist, and connects to the receiver of events
// and to the brokers. Nothing is changed, and no budget is charged. It returns one Trial for each,
// in the order of the configuration, after at most connect.timeout or upstream.connect_timeout,
// whichever is longer. It may be called once.
func (p *Plan) TryOnline(ctx context.Context) []Trial {
	all := slices.Concat(p.sourceTrials(), p.databaseTrials(), p.hookTrials(), p.brokerTrials())
	trials := make([]Trial, len(all))
	var running sync.WaitGroup
	for i, a := range all {
		running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, a.limit)
			defer cancel()
			trials[i] = a.Trial
			trials[i].Err = a.run(ctx)
		})
	}
	running.Wait()
	return trials
}

func (p *Plan) sourceTrials() (all []trialRun) {
	for i, x := range p.sources {
		what, todo := trialOf(x)
		run := func(ctx context.Context) error { return p.trySource(ctx, x) }
		if s, ok := find[prober](x.source); ok && x.kind != "jwt" {
			run = func(context.Context) error { return s.Probe(p.Config) }
		}
		all = append(all, trialRun{Trial{sourceKey(i, x), what, nil, todo}, p.Connect.Timeout, run})
	}
	return all
}

func (p *Plan) brokerTrials() (all []trialRun) {
	if p.servers == nil {
		return nil
	}
	brokers, err := newBrokers(p, pool.Trace{}, nil)
	login, what := p.trialLogin()
	for i, s := range p.servers {
		run := func(ctx context.Context) error {
			if err != nil {
				return err
			}
			return brokers.pool.Try(ctx, s.Server, login)
		}
		t := Trial{fmt.Sprintf("upstream.servers[%d]", i), what + " " + s.Server.String(), nil, "repair the broker, or correct what the error names below upstream"}
		all = append(all, trialRun{t, p.Upstream.ConnectTimeout, run})
	}
	return all
}

// databaseTrials returns those for databases that are no sources.
func (p *Plan) databaseTrials() (all []trialRun) {
	add := func(key, path string) {
		t := Trial{key, "connect to the database", nil, "repair the database, or correct the connection string in " + path}
		all = append(all, trialRun{t, p.Connect.Timeout, func(ctx context.Context) error { return pingDatabase(ctx, path) }})
	}
	if t := p.Telemetry.Postgres; t != nil && p.Upstream.Bundled() {
		add("telemetry.postgres.dsn_file", t.DSNFile)
	}
	if p.Replicas.DSNFile != "" {
		add("replicas.dsn_file", p.Replicas.DSNFile)
	}
	return all
}

// hookTrials returns that of the receiver of events, which gets none.
func (p *Plan) hookTrials() []trialRun {
	if p.Hooks.URL == "" {
		return nil
	}
	t := Trial{"hooks.url", "connect to the receiver of events, without a request", nil, "repair the receiver, or correct the address and hooks.tls"}
	return []trialRun{{t, p.Connect.Timeout, func(ctx context.Context) error {
		target, err := hookTarget(p.Config, "", inputs{})
		if err != nil {
			return err
		}
		return target.Try(ctx)
	}}}
}

// trialOf says what is tried with a source, and what to do if that fails.
func trialOf(x *usedSource) (what, todo string) {
	switch x.kind {
	case "file", "passwd":
		return "read the file", "correct the file"
	case "jwt":
		return "read the keys", "repair the issuer, or correct the address and the key"
	}
	name := "the database"
	if h, ok := find[hosted](x.source); ok {
		name = h.Host()
	}
	return "ask " + name + " about a token that does not exist", "repair it, or correct what the error names"
}

// trySource opens a source and asks it about a token that does not exist. A source that knows it
// would let every device in.
func (p *Plan) trySource(ctx context.Context, x *usedSource) error {
	log, err := observe.NewLog(io.Discard, zap.LevelEnablerFunc(func(zapcore.Level) bool { return false }), "json")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	env := sourceEnv{
		log: log, observer: observe.New(log, ""), workers: passwordhash.NewWorkers(0),
		recheck: func() {}, trim: func() {}, explain: func(text string) string { return text },
	}
	if err := x.Open(ctx, env); err != nil {
		return err
	}
	defer (&sources{list: []*usedSource{x}}).watchDuring(ctx, cancel)()
	request, _ := p.requestOf(Credentials{
		Token: authz.NewToken(rand.Text()), ClientID: "mqtt-auth-proxy-check", Username: rand.Text(), Password: authz.NewToken(rand.Text()), Protocol: 5,
	})
	switch _, err := x.Authorize(ctx, request); {
	case err == nil:
		return errors.New("it lets in a device with a random token, and so every device")
	case !errors.Is(err, authz.ErrDenied):
		return err
	}
	if m, ok := find[monitored](x.source); ok {
		if up, _, err := m.Health(); !up {
			return err
		}
	}
	return nil
}

// pingDatabase connects to the database whose connection string is in the file.
func pingDatabase(ctx context.Context, path string) error {
	dsn, err := pgdsn.Open(path)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, dsn.Config())
	if err != nil {
		return errors.New("the database: " + pgdsn.Reason(err))
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := conn.Ping(ctx); err != nil {
		return errors.New("the database: " + pgdsn.Reason(err))
	}
	return nil
}

// trialLogin returns the login for the brokers, or nil if it depends on the device, and says what
// is tried with it.
func (p *Plan) trialLogin() (login *pool.Login, what string) {
	if l, shared := p.credentials.shared(); shared {
		return &l, "connect with the credentials of the proxy to"
	}
	return nil, "connect without a CONNECT, since its credentials depend on the device, to"
}
