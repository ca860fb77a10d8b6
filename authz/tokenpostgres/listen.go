package tokenpostgres

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
)

const (
	// quiet is after how long without a notification the connection is checked.
	quiet = 10 * time.Second
	// answerTime is how long the server may take to answer the check.
	answerTime = 5 * time.Second
	// reconnectTime is the time between two attempts to connect.
	reconnectTime = time.Second
	// maxWaiting is how many revocations may wait for Notify. With more, none is named.
	maxWaiting = 10_000
)

// listener hears notifications on a connection of its own. What they withdraw waits until
// [Source.Notify] reports it.
type listener struct {
	channel string
	dsn     *pgdsn.File
	// named returns what a payload withdraws. It reports false if that is not known.
	named func(payload string) (withdrawal, bool)
	onUp  func(error)
	// answered reports whether there may be a grant that has become wrong.
	answered func() bool

	stop      context.CancelFunc
	ended     chan struct{}
	listening atomic.Bool
	// watching is held by the call of Notify that reports.
	watching chan struct{}

	mu      sync.Mutex
	waiting []withdrawal
	missed  bool          // changes may have been missed
	news    chan struct{} // has one element if there is something to report
}

func newListener(o Options, s *Source) (*listener, error) {
	l := &listener{
		channel: o.Channel, dsn: s.dsn, named: s.withdrawn, onUp: o.OnListening,
		news: make(chan struct{}, 1), watching: make(chan struct{}, 1),
	}
	l.answered = func() bool { return s.counters.allowed.Load() > 0 }
	if l.onUp == nil {
		l.onUp = func(error) {}
	}
	var err error
	if o.ListenDSNFile != "" {
		l.dsn, err = pgdsn.Open(o.ListenDSNFile)
	}
	return l, err
}

// begin starts the goroutine, which close ends.
func (l *listener) begin() {
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	l.ended = make(chan struct{})
	go func() {
		defer close(l.ended)
		l.run(ctx)
	}()
}

func (l *listener) close() {
	if l.stop != nil {
		l.stop()
		<-l.ended
	}
}

// run listens, and connects again whenever the connection is lost.
func (l *listener) run(ctx context.Context) {
	for {
		err := l.listen(ctx)
		l.listening.Store(false)
		if ctx.Err() != nil {
			return
		}
		l.onUp(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(reconnectTime):
		}
	}
}

// listen connects and listens until the connection is lost. Its error is why.
func (l *listener) listen(ctx context.Context) error {
	c := l.dsn.Config()
	c.RuntimeParams["client_encoding"] = "UTF8"
	c.MaxProtocolMessageBodyLen = maxMessage
	c.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { l.hear(n.Payload) }
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return connectFault(err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), answerTime)
		defer cancel()
		_ = conn.Close(closing)
	}()
	version := l.dsn.Version()
	if err := exec(ctx, conn, "LISTEN "+pgx.Identifier{l.channel}.Sanitize()); err != nil {
		return err
	}
	l.listening.Store(true)
	if l.answered() {
		l.miss() // whatever has changed since then or since the last connection
	}
	l.onUp(nil)
	for {
		waiting, cancel := context.WithTimeout(ctx, quiet)
		err := conn.PgConn().WaitForNotification(waiting)
		quietly := waiting.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !quietly:
			return queryError(ctx, err)
		case err == nil:
			continue
		}
		if l.dsn.Version() != version {
			return unavailable("the connection string has changed", false)
		}
		if err := exec(ctx, conn, ""); err != nil {
			return err
		}
	}
}

// exec runs a statement that has no parameters, or checks the connection with an empty one.
func exec(ctx context.Context, conn *pgx.Conn, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if _, err := conn.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
		return queryError(ctx, err)
	}
	return nil
}

// hear adds what a payload withdraws.
func (l *listener) hear(payload string) {
	w, ok := l.named(payload)
	if !ok {
		l.miss()
		return
	}
	l.wait(w)
}

// wait adds what is to be reported.
func (l *listener) wait(all ...withdrawal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting = append(l.waiting, all...); len(l.waiting) > maxWaiting {
		l.waiting, l.missed = nil, true
	}
	l.wake()
}

// miss notes that it is not known what has changed.
func (l *listener) miss() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting, l.missed = nil, true
	l.wake()
}

// wake has Notify report; l.mu is held.
func (l *listener) wake() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// take returns what is to be reported.
func (l *listener) take() (all []withdrawal, missed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, missed = l.waiting, l.missed
	l.waiting, l.missed = nil, false
	return all, missed
}

// Notify implements [authz.Notifier]. If Options.Channel is empty, it only waits for the end of
// ctx. It calls Options.OnMissed when changes may have been missed. One call reports; another one
// waits for its turn.
func (s *Source) Notify(ctx context.Context, revoked func(authz.Revocation)) error {
	l := s.listener
	if l == nil {
		<-ctx.Done()
		return nil
	}
	select {
	case l.watching <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-l.watching }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.news:
		}
		all, missed := l.take()
		if missed && s.options.OnMissed != nil {
			s.options.OnMissed()
		}
		s.report(ctx, all, revoked)
	}
}

// report calls revoked with what notifications said, in their order. What was altered waits until
// the database says what it is now; the sessions keep their grants meanwhile.
func (s *Source) report(ctx context.Context, all []withdrawal, revoked func(authz.Revocation)) {
	var altered []withdrawal
	for _, w := range all {
		if w.altered {
			altered = append(altered, w)
		}
	}
	now, err := s.lookUpAltered(ctx, altered)
	for _, w := range all {
		if r, ok := now[w.TokenID]; w.altered && ok {
			revoked(r)
		} else if !w.altered || err == nil {
			revoked(w.Revocation)
		}
	}
	if err != nil {
		time.AfterFunc(reconnectTime, func() { s.listener.wait(altered...) })
	}
}
