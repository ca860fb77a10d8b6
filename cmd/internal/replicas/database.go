package replicas

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

const (
	// notifyMessage is the size of the largest message that is sent through a database, in bytes.
	// In base64 it has 7999 bytes, and the payload of a notification has fewer than 8000.
	notifyMessage = 5999
	// largestAnswer limits a message of the server, in bytes. A notification is much smaller.
	largestAnswer = 64 << 10
	// connectTime is how long a connection to the hosts of the connection string may take.
	connectTime = 30 * time.Second
	// hearWithin is the longest time without a notification after which the link is still alive.
	// The replica notifies itself every two seconds.
	hearWithin = 8 * time.Second
	// maxBatch is how many messages are sent in one transaction, and take effect together.
	maxBatch = 64
)

// notify sends notifications in one transaction.
const notify = "SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS m (channel, payload)"

// databaseLink is the link to a database. It has two connections, because a connection that waits
// for notifications can do nothing else meanwhile.
type databaseLink struct {
	replicas *Replicas
	outlet   *outlet
	version  any // of the connection string

	listening, sending *pgx.Conn
	// echo is a channel on which only this replica sends and listens. A notification on it proves
	// that both connections work, while a pooler may not deliver notifications at all.
	echo  string
	heard chan struct{} // holds an element after an echo
	// arrived has messages that are to take effect.
	arrived chan []byte
	// stopping is closed when no more messages need to take effect.
	stopping <-chan struct{}
}

// linkDatabase keeps connected to the database until ctx is done.
func (r *Replicas) linkDatabase(ctx context.Context, o *outlet) {
	defer r.linkDown(o, nil)
	for attempt := 1; ; attempt++ {
		worked, err := r.useDatabase(ctx, o)
		if ctx.Err() != nil {
			return
		}
		if worked {
			attempt = 1
		}
		r.failed(o, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff(attempt)):
		}
	}
}

// useDatabase connects to the database and uses it until ctx is done or something fails. It reports
// whether messages could be sent and heard, and what has failed.
func (r *Replicas) useDatabase(ctx context.Context, o *outlet) (worked bool, err error) {
	l := &databaseLink{
		replicas: r, outlet: o, version: r.options.Database.Version(),
		echo: ClientIDPrefix + r.instance, heard: make(chan struct{}, 1), arrived: make(chan []byte, maxBatch),
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	l.stopping = ctx.Done()
	if err := l.connect(ctx); err != nil {
		return false, err
	}
	defer l.close()
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer stop(nil)
	hearing.Go(func() { stop(r.guard(func() error { return l.hear(ctx) })) })
	hearing.Go(l.deliver)
	worked, err = l.send(ctx)
	stop(err)
	return worked, context.Cause(ctx)
}

// connect opens both connections, and listens.
func (l *databaseLink) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	defer func() {
		if err != nil {
			l.close()
			err = fmt.Errorf("connect to the database: %s", pgdsn.Reason(err))
		}
	}()
	c := l.replicas.options.Database.Config()
	c.RuntimeParams["client_encoding"] = "UTF8"
	c.DefaultQueryExecMode = pgx.QueryExecModeExec // it is only one statement
	c.MaxProtocolMessageBodyLen = largestAnswer
	if l.sending, err = pgx.ConnectConfig(ctx, c); err != nil {
		return err
	}
	c = c.Copy()
	c.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { l.take(n) }
	if l.listening, err = pgx.ConnectConfig(ctx, c); err != nil {
		return err
	}
	for _, channel := range []string{l.replicas.options.Topic, l.echo} {
		if _, err := l.listening.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return err
		}
	}
	return nil
}

// close closes the connections that are open.
func (l *databaseLink) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	for _, conn := range []*pgx.Conn{l.listening, l.sending} {
		if conn != nil {
			_ = conn.Close(ctx)
		}
	}
}

// hear waits for notifications until ctx is done or there are none any more.
func (l *databaseLink) hear(ctx context.Context) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, hearWithin)
		err := l.listening.PgConn().WaitForNotification(waiting)
		late := waiting.Err() != nil
		cancel()
		switch {
		case err == nil:
		case late:
			return errors.New("listen to the database: no notifications arrive, not even those of the proxy itself; use a connection string that leads to the database itself and not to a pooler such as PgBouncer")
		default:
			return fmt.Errorf("listen to the database: %s", pgdsn.Reason(err))
		}
	}
}

// take takes what a notification carries. Anyone who may use the database may have sent it.
func (l *databaseLink) take(n *pgconn.Notification) {
	if n.Channel == l.echo {
		signal(l.heard)
		return
	}
	payload, err := base64.RawStdEncoding.DecodeString(n.Payload)
	if err != nil {
		payload = nil // which is not readable either
	}
	select {
	case l.arrived <- payload:
	case <-l.stopping:
	}
}

// deliver applies the messages that have arrived, until the link ends.
func (l *databaseLink) deliver() {
	for {
		select {
		case payload := <-l.arrived:
			l.replicas.deliver(batch(payload, l.arrived)...)
		case <-l.stopping:
			return
		}
	}
}

// send sends the messages in the queue until ctx is done or something fails. It reports whether the
// link has ever been up.
func (l *databaseLink) send(ctx context.Context) (up bool, err error) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for err = l.notify(ctx, nil); err == nil; {
		select {
		case <-ctx.Done():
			return up, ctx.Err()
		case <-l.heard:
			if !up {
				up = true
				l.replicas.linkUp(l.outlet)
			}
		case payload := <-l.outlet.queue:
			payloads := batch(payload, l.outlet.queue)
			err = l.notify(ctx, payloads)
			l.replicas.delivered(l.outlet, len(payloads), err)
		case <-tick.C:
			if l.replicas.options.Database.Version() != l.version {
				return up, errors.New("the connection string has changed")
			}
			err = l.notify(ctx, nil)
		}
	}
	return up, err
}

// batch returns the first message and those that are in the queue.
func batch(first []byte, queue <-chan []byte) [][]byte {
	all := [][]byte{first}
	for len(all) < maxBatch {
		select {
		case payload := <-queue:
			all = append(all, payload)
		default:
			return all
		}
	}
	return all
}

// notify sends messages to all replicas and a notification to this one.
func (l *databaseLink) notify(ctx context.Context, all [][]byte) error {
	channels, payloads := []string{l.echo}, []string{""}
	for _, payload := range all {
		channels = append(channels, l.replicas.options.Topic)
		payloads = append(payloads, base64.RawStdEncoding.EncodeToString(payload))
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if _, err := l.sending.Exec(ctx, notify, channels, payloads); err != nil {
		return fmt.Errorf("send through the database: %s", pgdsn.Reason(err))
	}
	return nil
}
