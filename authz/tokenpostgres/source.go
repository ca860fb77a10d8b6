package tokenpostgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/internal/breaker"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/passwordhash"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

// Options name the database and the query. DSNFile is required.
type Options struct {
	// DSNFile is the file with the connection string, see package pgdsn.
	DSNFile string
	// Query finds the row of a device. If it is empty, devices are those of the schema that
	// [Migrate] makes, tokens and users.
	Query string
	// Timeout limits one lookup, including the wait for a connection and a second attempt; zero
	// means 2 s.
	Timeout time.Duration
	// Connections is how many connections are open at most; zero means 4.
	Connections int
	// Unprepared has the query parsed each time, because a pooler may send the parts of a
	// session to different connections of the server.
	Unprepared bool

	// Channel is the channel on which the database notifies of changes; empty means none.
	Channel string
	// ListenDSNFile is the file with the connection string for these notifications; empty means
	// DSNFile. It must not lead through a pooler in transaction mode.
	ListenDSNFile string
	// OnMissed is called by [Source.Notify] when changes may have been missed: after each
	// connection to the channel, and for a notification that does not say what is withdrawn. The
	// caller must forget all answers of the source, and ask again about live sessions.
	OnMissed func()
	// OnListening is called when the source begins to hear notifications, with nil, and when it
	// could not connect or does not hear them any more, with the reason.
	OnListening func(error)
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 2*time.Second)
	o.Connections = cmp.Or(o.Connections, 4)
	return o
}

// Source looks up devices in a PostgreSQL database. It is made by [New] and safe for concurrent
// use.
type Source struct {
	options Options
	query   *query
	columns map[string]column
	dsn     *pgdsn.File
	pool    *pgxpool.Pool
	breaker *breaker.Breaker
	workers *passwordhash.Workers
	// listener is nil without a channel.
	listener *listener

	version   atomic.Value // of the connection string that the pool uses, boxed
	statement atomic.Pointer[statement]
	fault     atomic.Pointer[error] // why the server does not accept the query
	counters  counters
}

var (
	_ authz.Authorizer = (*Source)(nil)
	_ authz.Taker      = (*Source)(nil)
	_ authz.Notifier   = (*Source)(nil)
)

// New returns the Source that o describes. It reads the connection string and checks the
// parameters of the query, but does not connect. The error names the wrong option, in the form
// "query: what is wrong", and contains no secret.
func New(o Options) (*Source, error) {
	o = o.withDefaults()
	q, err := parseQuery(cmp.Or(o.Query, schemaQuery))
	if err != nil {
		return nil, err
	}
	q.schema = o.Query == ""
	s := &Source{options: o, query: q, columns: columns(), breaker: breaker.New(o.Timeout), workers: passwordhash.NewWorkers(0)}
	if s.dsn, err = pgdsn.Open(o.DSNFile); err != nil {
		return nil, fmt.Errorf("dsn_file: %w", err)
	}
	if o.Channel != "" {
		if s.listener, err = newListener(o, s); err != nil {
			return nil, fmt.Errorf("listen_dsn_file: %w", err)
		}
	}
	if s.pool, err = s.newPool(); err != nil {
		return nil, err
	}
	return s, nil
}

// Open has workers bound the checks of passwords, does what [Source.Check] does, and begins to
// listen for notifications, if that succeeds. It is called once, before Authorize. A Source that
// was not opened has workers of its own and hears nothing.
func (s *Source) Open(ctx context.Context, workers *passwordhash.Workers) error {
	s.workers = workers
	if err := s.Check(ctx); err != nil {
		return err
	}
	if s.listener != nil {
		s.listener.begin()
	}
	return nil
}

// Check connects and has the server describe the query. Its error is why the query cannot be
// used, such as an unknown column. A database that cannot be reached is no error: the query is
// described, then, when it can be, and until then every answer is [authz.ErrUnavailable].
func (s *Source) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	if conn, err := s.pool.Acquire(ctx); err == nil {
		conn.Release()
	}
	return s.queryFault()
}

// Close closes the connections. Every later answer is [authz.ErrUnavailable].
func (s *Source) Close() {
	if s.listener != nil {
		s.listener.close()
	}
	s.pool.Close()
}

// Takes implements [authz.Taker]: tokens if the query uses @token_sha256, otherwise pairs, and both
// without a query.
func (s *Source) Takes() authz.Credentials { return s.query.takes() }

// Parts returns the parts of a request, besides the token or pair, on which the answer may
// depend, so a cache must have them in its key.
func (s *Source) Parts() authz.Parts { return s.query.parts() }

// Fault returns why the query or the newest connection string is not in effect, or nil. A
// database that cannot be reached is no fault of these.
func (s *Source) Fault() error {
	fault := errors.Join(s.queryFault(), s.dsn.Fault())
	if s.listener != nil && s.listener.dsn != s.dsn {
		fault = errors.Join(fault, s.listener.dsn.Fault())
	}
	return fault
}

// Refresh reads the files with connection strings now.
func (s *Source) Refresh() {
	s.dsn.Refresh()
	if s.listener != nil {
		s.listener.dsn.Refresh()
	}
}

func (s *Source) queryFault() error {
	if fault := s.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// Authorize implements [authz.Authorizer]. Its errors are an [*authz.Denial],
// [authz.ErrUnanswerable] if the database answers other requests but not this one, or
// [authz.ErrUnavailable]. The caller must check the conditions of the grant.
func (s *Source) Authorize(ctx context.Context, r authz.Request) (*authz.Grant, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("database: %w: %w", authz.ErrUnavailable, err)
	}
	start := time.Now()
	grant, err := s.ask(ctx, &r)
	s.counters.count(err, time.Since(start))
	switch {
	case err == nil, errors.Is(err, authz.ErrDenied):
		return grant, err
	case errors.Is(err, authz.ErrUnavailable):
		return nil, fmt.Errorf("database: %w", err)
	}
	return nil, fmt.Errorf("database: %w: %w", authz.ErrUnavailable, err)
}

// ask looks up the row, unless the breaker is open, and decides by it.
func (s *Source) ask(ctx context.Context, r *authz.Request) (*authz.Grant, error) {
	takes := s.Takes()
	if (takes&authz.Tokens == 0 || r.Token.Empty()) && (takes&authz.Pairs == 0 || r.Pair.IsZero()) {
		return nil, &authz.Denial{Reason: authz.Unknown, Detail: "nothing that the database knows", Keep: authz.Keep{TTL: -1}}
	}
	q := breaker.QuestionOf(r, s.Parts())
	if err := s.breaker.Enter(ctx, q); err != nil {
		return nil, err
	}
	defer s.breaker.Leave(q)
	found, err := s.lookup(ctx, r)
	verdict := verdictOn(err)
	if err != nil && ctx.Err() != nil {
		verdict, err = breaker.Abandoned, ctx.Err()
	}
	if s.breaker.Record(q, breaker.Report{Verdict: verdict, Err: err}) {
		return nil, fmt.Errorf("%w: %w", authz.ErrUnanswerable, err)
	}
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, &authz.Denial{Reason: authz.Unknown, Detail: "not in the database"}
	}
	return s.decide(ctx, found, r)
}
