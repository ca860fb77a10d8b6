package durable

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Kept is a session that an earlier process has left, without its queue.
type Kept struct {
	Session
	Subscriptions []Subscription
	Received      []uint16 // identifiers of messages of QoS 2 that have come from the client
}

// Sessions returns all sessions. Messages whose session has ended are deleted later. It must be
// called before the first change.
func (f *File) Sessions(ctx context.Context) ([]*Kept, error) {
	var all []*Kept
	byKey := make(map[int64]*Kept)
	err := f.each(ctx, `SELECT key, client_id, device, version, expiry, away, reader FROM sessions`, func(rows *sql.Rows) error {
		k := new(Kept)
		err := rows.Scan(&k.Key, &k.ClientID, &k.Device, &k.Version, &k.Expiry, &k.Away, &k.Reader)
		byKey[k.Key] = k
		all = append(all, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context, map[int64]*Kept) error{f.readSubscriptions, f.readReceived} {
		if err := read(ctx, byKey); err != nil {
			return nil, err
		}
	}
	return all, f.deleteOrphans(ctx)
}

func (f *File) readSubscriptions(ctx context.Context, sessions map[int64]*Kept) error {
	return f.each(ctx, `SELECT session, filter, qos, no_local, retain_as_published, identifier FROM subscriptions`, func(rows *sql.Rows) error {
		var (
			key int64
			s   Subscription
		)
		err := rows.Scan(&key, &s.Filter, &s.QoS, &s.NoLocal, &s.RetainAsPublished, &s.Identifier)
		if k := sessions[key]; k != nil {
			k.Subscriptions = append(k.Subscriptions, s)
		}
		return err
	})
}

func (f *File) readReceived(ctx context.Context, sessions map[int64]*Kept) error {
	return f.each(ctx, `SELECT session, packet_id FROM received`, func(rows *sql.Rows) error {
		var (
			key int64
			id  uint16
		)
		err := rows.Scan(&key, &id)
		if k := sessions[key]; k != nil {
			k.Received = append(k.Received, id)
		}
		return err
	})
}

// deleteOrphans deletes messages whose session has ended. The query finds the keys of the queues
// without reading the queues.
func (f *File) deleteOrphans(ctx context.Context) error {
	return f.each(ctx, `WITH RECURSIVE queues(key) AS (SELECT min(session) FROM queue UNION ALL
		SELECT (SELECT min(session) FROM queue WHERE session > key) FROM queues WHERE key IS NOT NULL)
		SELECT key FROM queues WHERE key IS NOT NULL AND key NOT IN (SELECT key FROM sessions)`, func(rows *sql.Rows) error {
		var key int64
		err := rows.Scan(&key)
		var c Change
		c.DeleteSession(key)
		f.Submit(&c, nil)
		return err
	})
}

// Queue calls yield for each message in the queue of a session from a place on, in order, until
// yield returns false. The packet of the message belongs to yield.
func (f *File) Queue(ctx context.Context, key, from int64, yield func(Queued) bool) error {
	return f.each(ctx, `SELECT seq, packet_id, released, expires, version, message FROM queue WHERE session = ? AND seq >= ? ORDER BY seq`, func(rows *sql.Rows) error {
		var q Queued
		err := rows.Scan(&q.Seq, &q.PacketID, &q.Released, &q.Expires, &q.Version, &q.Packet)
		if err == nil && !yield(q) {
			return errEnough
		}
		return err
	}, key, from)
}

// End returns the last place that the last message of a queue takes, 0 if there is none.
func (f *File) End(ctx context.Context, key int64) (last int64, err error) {
	err = f.each(ctx, `SELECT seq + ? + length(message) - 1 FROM queue WHERE session = ? ORDER BY seq DESC LIMIT 1`, func(rows *sql.Rows) error {
		return rows.Scan(&last)
	}, rowBytes, key)
	return last, err
}

// Retained calls yield for each retained message.
func (f *File) Retained(ctx context.Context, yield func(Retained)) error {
	return f.each(ctx, `SELECT topic, device, origin, expires, version, message FROM retained`, func(rows *sql.Rows) error {
		var r Retained
		err := rows.Scan(&r.Topic, &r.Device, &r.Origin, &r.Expires, &r.Version, &r.Packet)
		if err == nil {
			yield(r)
		}
		return err
	})
}

// errMalformed is wrapped by errors about rows that this program has not written.
var errMalformed = errors.New("a row cannot be read")

// errEnough is returned by a scan that needs no more rows.
var errEnough = errors.New("enough")

// each calls scan for every row of a query, or until it has enough.
func (f *File) each(ctx context.Context, query string, scan func(*sql.Rows) error, args ...any) error {
	rows, err := f.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return f.explain(err)
	}
	for rows.Next() {
		switch err := scan(rows); {
		case err == nil:
		case errors.Is(err, errEnough):
			return f.explain(rows.Close())
		default:
			return f.explain(errors.Join(fmt.Errorf("%w: %w", errMalformed, err), rows.Close()))
		}
	}
	return f.explain(errors.Join(rows.Err(), rows.Close()))
}
