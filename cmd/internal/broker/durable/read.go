package durable

import (
	"context"
	"database/sql"
	"errors"
)

// Kept is a session that an earlier process has left.
type Kept struct {
	Session
	Subscriptions []Subscription
	Received      []uint16 // identifiers of messages of QoS 2 that have come from the client
	Queue         []Queued // in order
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
	for _, read := range []func(context.Context, map[int64]*Kept) error{f.readSubscriptions, f.readReceived, f.readQueues} {
		if err := read(ctx, byKey); err != nil {
			return nil, err
		}
	}
	return all, nil
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

func (f *File) readQueues(ctx context.Context, sessions map[int64]*Kept) error {
	orphans := make(map[int64]bool)
	err := f.each(ctx, `SELECT session, seq, packet_id, released, expires, version, message FROM queue ORDER BY session, seq`, func(rows *sql.Rows) error {
		var (
			key int64
			q   Queued
		)
		err := rows.Scan(&key, &q.Seq, &q.PacketID, &q.Released, &q.Expires, &q.Version, &q.Packet)
		if k := sessions[key]; k != nil {
			k.Queue = append(k.Queue, q)
		} else {
			orphans[key] = true
		}
		return err
	})
	for key := range orphans {
		var c Change
		c.DeleteSession(key)
		f.Submit(&c, nil)
	}
	return err
}

// Retained calls yield for each retained message, until it returns an error.
func (f *File) Retained(ctx context.Context, yield func(Retained) error) error {
	return f.each(ctx, `SELECT topic, device, origin, expires, version, message FROM retained`, func(rows *sql.Rows) error {
		var r Retained
		if err := rows.Scan(&r.Topic, &r.Device, &r.Origin, &r.Expires, &r.Version, &r.Packet); err != nil {
			return err
		}
		return yield(r)
	})
}

// each calls f for every row of a query.
func (f *File) each(ctx context.Context, query string, do func(*sql.Rows) error, args ...any) error {
	rows, err := f.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return f.explain(err)
	}
	for rows.Next() {
		if err := do(rows); err != nil {
			return f.explain(errors.Join(err, rows.Close()))
		}
	}
	return f.explain(errors.Join(rows.Err(), rows.Close()))
}
