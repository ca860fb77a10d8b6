package tokenpostgres

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

const (
	// statementName is the name of the prepared query on each connection.
	statementName = "mqtt_auth_proxy"
	// maxMessage limits a message of the server in bytes, and so a row.
	maxMessage = 1 << 20
	// maxDrained is how many rows are read to the end so that the connection can be used again.
	maxDrained = 100
	// cancelWait is how long the server may take to cancel a query before the connection is cut.
	cancelWait = time.Second
	// idleTime closes connections that are not needed.
	idleTime = 5 * time.Minute
)

// newPool returns a pool that opens connections when they are needed.
func (s *Source) newPool() (*pgxpool.Pool, error) {
	c, err := pgxpool.ParseConfig("") // its own parser has defaults that depend on the machine
	if err != nil {
		return nil, errors.New("the environment variables of libpq (PGHOST and others) are not valid")
	}
	c.ConnConfig = s.connConfig()
	c.MinConns, c.MaxConns, c.MaxConnIdleTime = 0, int32(s.options.Connections), idleTime
	c.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		*cc = *s.connConfig()
		return nil
	}
	c.AfterConnect = s.prepare
	s.version.Store(boxed{s.dsn.Version()})
	return pgxpool.NewWithConfig(context.Background(), c)
}

// connConfig returns the configuration of the next connection.
func (s *Source) connConfig() *pgx.ConnConfig { return configOf(s.dsn) }

// configOf returns the configuration of a connection.
func configOf(dsn *pgdsn.File) *pgx.ConnConfig {
	c := dsn.Config()
	// Texts and times have one form, whatever the database is set to.
	c.RuntimeParams["client_encoding"], c.RuntimeParams["datestyle"] = "UTF8", "ISO"
	c.MaxProtocolMessageBodyLen = maxMessage
	c.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelWait}
	}
	return c
}

// boxed makes values of different types fit into one atomic.Value.
type boxed struct{ version any }

// prepare has the server describe the query on a new connection, and checks the description.
func (s *Source) prepare(ctx context.Context, conn *pgx.Conn) error {
	c, name := conn.PgConn(), ""
	if !s.options.Unprepared {
		name = statementName
		// The server ends a query by itself even if a cancel request does not reach it. Behind a
		// pooler the setting would last for other sessions.
		set := "SELECT set_config('statement_timeout', '" + strconv.FormatInt(s.options.Timeout.Milliseconds(), 10) + "', false)"
		if _, err := c.Exec(ctx, set).ReadAll(); err != nil {
			return err
		}
	}
	if s.query.schema {
		if err := s.checkSchema(ctx, conn); err != nil {
			return err
		}
	}
	d, err := c.Prepare(ctx, name, s.query.sql, nil)
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && isFaultOfQuery(refused.Code) {
		err = prepareFault(refused)
		s.fault.Store(&err)
		return err
	} else if err != nil {
		return err
	}
	described, err := s.query.describe(d)
	if err != nil {
		s.fault.Store(&err)
		return err
	}
	s.statement.Store(described)
	s.fault.Store(nil)
	return nil
}

// checkSchema checks that the database has the schema that the query is for.
func (s *Source) checkSchema(ctx context.Context, conn *pgx.Conn) error {
	err := checkVersion(ctx, conn)
	if errors.Is(err, ErrSchema) {
		s.fault.Store(&err)
	}
	return err
}

// lookup returns the row of a device, nil if there is none. If a connection turns out to be
// broken, as they all are after a restart of the server, it tries a second time with a new one.
func (s *Source) lookup(ctx context.Context, r *authz.Request) (*row, error) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	if now := (boxed{s.dsn.Version()}); s.version.Swap(now) != now {
		s.pool.Reset()
	}
	found, err := s.attempt(ctx, r)
	if outdated(err) && ctx.Err() == nil {
		s.pool.Reset()
		s.counters.retries.Add(1)
		found, err = s.attempt(ctx, r)
	}
	return found, err
}

// attempt is one attempt of lookup.
func (s *Source) attempt(ctx context.Context, r *authz.Request) (*row, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		if fault := s.queryFault(); fault != nil {
			return nil, fault
		}
		return nil, connectFault(err)
	}
	defer conn.Release() // closes a broken one
	described := s.statement.Load()
	values, ok := s.query.values(r, described.params)
	if !ok {
		return nil, nil
	}
	cells, rows, err := s.fetch(ctx, conn.Conn().PgConn(), described, values)
	switch {
	case err != nil:
		return nil, queryError(ctx, err)
	case rows > 1:
		return nil, &rowFault{"the query returns several rows for this device"}
	case rows == 0:
		return nil, nil
	}
	found, err := readRow(s.columns, cells)
	if err != nil {
		return nil, &rowFault{"the row of this device: " + err.Error()}
	}
	return found, nil
}

// fetch runs the query and returns the first row, and how many there are, of which it counts
// [maxDrained] at most.
func (s *Source) fetch(ctx context.Context, c *pgconn.PgConn, described *statement, values [][]byte) (cells []cell, rows int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var result *pgconn.ResultReader
	if s.options.Unprepared {
		result = c.ExecParams(ctx, s.query.sql, values, described.params, nil, nil)
	} else {
		result = c.ExecPrepared(ctx, statementName, values, nil, nil)
	}
	for result.NextRow() {
		rows++
		if rows == maxDrained {
			cancel()
			break
		}
		if rows > 1 {
			continue
		}
		for i, text := range result.Values() {
			f := result.FieldDescriptions()[i]
			cells = append(cells, cell{f.Name, f.DataTypeOID, slices.Clone(text)})
		}
	}
	if _, err = result.Close(); rows > 1 {
		err = nil
	}
	return cells, rows, err
}

// outdated reports whether err may be due to a connection that was good once: the server has
// ended it, or the prepared query no longer fits the tables.
func outdated(err error) bool {
	f, ok := errors.AsType[*databaseFault](err)
	return ok && f.outdated
}

// unavailable formats a fault of the database.
func unavailable(text string, outdated bool) error { return &databaseFault{text, outdated} }

// databaseFault is why the database gave no answer. Its text has no value, no parameter and
// nothing of the connection string.
type databaseFault struct {
	text     string
	outdated bool
}

func (f *databaseFault) Error() string { return f.text }

// rowFault is an answer of the database that decides nothing.
type rowFault struct{ text string }

func (f *rowFault) Error() string { return f.text }
