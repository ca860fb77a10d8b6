package service

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/cache"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenhttp"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenpostgres"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/observe"
)

// postgresSource is a query in a PostgreSQL database.
type postgresSource struct {
	*tokenpostgres.Source
	config       *config.PostgresSource
	answers      rememberer
	env          sourceEnv
	notListening atomic.Bool // the last attempt to listen has failed
}

// maxHashTime is how long the check of a password may wait for its turn after the lookup.
const maxHashTime = 5 * time.Second

// newPostgresSource makes the source that c describes, behind a cache.
func newPostgresSource(c *config.PostgresSource, whole *config.Config) (source, error) {
	p := &postgresSource{config: c}
	var err error
	p.Source, err = tokenpostgres.New(tokenpostgres.Options{
		DSNFile: c.DSNFile, Query: c.Query, Timeout: c.Timeout, Connections: c.Connections,
		Unprepared: !c.PreparedStatements,
		Channel:    channelOf(c), ListenDSNFile: c.ListenDSNFile, OnMissed: p.missed, OnListening: p.logListening,
	})
	if err != nil {
		return nil, err
	}
	behind := cached(p, whole.Auth, cache.Options{
		Source: c.DSNFile + "\x00" + c.Query,
		Vary:   p.Parts(),
		// The timeout of the lookup must be shorter, so that its error is the answer.
		Timeout: c.Timeout + maxHashTime,
		// A password is checked after its connection has been given back.
		Concurrency: c.Connections + passwordhash.NewWorkers(0).Size(),
	})
	p.answers = behind
	return behind, nil
}

// channelOf returns the channel on which the database notifies; the proxy's own tables have one.
func channelOf(c *config.PostgresSource) string {
	if c.Query == "" {
		return tokenpostgres.SchemaChannel
	}
	return c.Notify
}

// missed forgets all answers and asks again about the live sessions.
func (p *postgresSource) missed() {
	entries := p.answers.Purge()
	p.env.log.Info("changes in the database may have been missed, asking again about all devices",
		zap.String("channel", channelOf(p.config)), zap.Int("entries", entries))
	p.env.recheck()
}

// logListening logs that the source listens for notifications, or why it does not.
func (p *postgresSource) logListening(err error) {
	channel := zap.String("channel", channelOf(p.config))
	switch was := p.notListening.Swap(err != nil); {
	case err == nil:
		p.env.log.Info("listening to the database", channel)
	case !was: // and not again for each attempt to connect
		p.env.log.Warn("not listening to the database, trying again", channel, zap.Error(err))
	}
}

// Open implements source. It returns an error if the database does not accept the query, but not
// if the database cannot be reached: until it can, devices are refused as unavailable.
func (p *postgresSource) Open(ctx context.Context, env sourceEnv) error {
	p.env = env
	return adviseMigration(p.Source.Open(ctx, env.workers))
}

// Reload implements source.
func (p *postgresSource) Reload(ctx context.Context) error {
	p.Refresh()
	return adviseMigration(p.Check(ctx))
}

// Health implements monitored. A database that decides may still not notify of changes.
func (p *postgresSource) Health() (up bool, since time.Time, err error) {
	since, err = p.Down()
	up = err == nil
	if up && channelOf(p.config) != "" && !p.Stats().Listening {
		err = errors.New("not listening for notifications of changes")
	}
	return up, since, err
}

// Close implements source.
func (p *postgresSource) Close() { p.Source.Close() }

// Collect implements source.
func (p *postgresSource) Collect(m observe.SourceMetrics) {
	s := p.Stats()
	m.TokenService(tokenhttp.Stats{
		Allowed: s.Allowed, Denied: s.Denied, Ignored: s.Unknown, Failed: s.Failed, Busy: s.Busy,
		Retries: s.Retries, Time: s.Time, Breaker: s.Breaker,
	})
	m.Connections(observe.Pool{Used: s.Used, Idle: s.Idle, Waits: s.Waits, WaitTime: s.WaitTime})
	if channelOf(p.config) != "" {
		m.Listening(s.Listening)
	}
}
