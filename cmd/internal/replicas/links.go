package replicas

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

const (
	// queuedBytes limits the messages that wait for a server.
	queuedBytes = 16 << 20
	// stepTimeout is how long a server may take to answer a request.
	stepTimeout = 5 * time.Second
	longestWait = 5 * time.Second // between two attempts to connect
)

// outlet is the link to a server, which is a broker or the database, with its queue.
type outlet struct {
	name  string // of the server
	queue chan []byte
	// link keeps a connection to the server until ctx is done.
	link func(ctx context.Context, o *outlet)

	// Replicas.mu guards the following fields.
	waiting int   // messages that are in the queue, or taken from it and not yet delivered
	up      bool  // connected
	err     error // why it was last not up
}

func (r *Replicas) newOutlet(name string, link func(context.Context, *outlet)) *outlet {
	return &outlet{name: name, queue: make(chan []byte, r.queueLength()), link: link}
}

// queueLength is how many messages wait for a server.
func (r *Replicas) queueLength() int { return queuedBytes / r.codec.largest }

// Server is the connection to a server in an answer of [Replicas.Servers].
type Server struct {
	Name      string // the address of a broker, or "postgres"
	Connected bool
	Err       error // why it was last not connected, or nil
}

// Servers returns the state of the connections.
func (r *Replicas) Servers() (all []Server) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range r.outlets {
		all = append(all, Server{o.name, o.up, o.err})
	}
	return all
}

// Connect makes the replica use these brokers from now on. It does nothing if the bus is a
// database.
func (r *Replicas) Connect(servers []upstream.Server) {
	if r == nil || r.options.Database != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.outlets
	r.outlets = nil
	for _, server := range servers {
		name := server.String()
		if i := slices.IndexFunc(before, func(o *outlet) bool { return o.name == name }); i >= 0 {
			r.outlets = append(r.outlets, before[i])
			continue
		}
		r.outlets = append(r.outlets, r.newOutlet(name, func(ctx context.Context, o *outlet) { r.linkBroker(ctx, server, o) }))
	}
	signal(r.changed)
}

// connect keeps a connection to each server until ctx is done.
func (r *Replicas) connect(ctx context.Context) {
	links := make(map[*outlet]context.CancelFunc)
	var linked sync.WaitGroup
	defer linked.Wait()
	for {
		r.mu.Lock()
		now := slices.Clone(r.outlets)
		r.mu.Unlock()
		for o, stop := range links {
			if !slices.Contains(now, o) {
				stop()
				delete(links, o)
			}
		}
		for _, o := range now {
			if links[o] == nil {
				inner, stop := context.WithCancel(ctx)
				links[o] = stop
				linked.Go(func() { task.Run(inner, r.options.Panicked, func(ctx context.Context) { o.link(ctx, o) }) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		}
	}
}

// backoff returns how long to wait before an attempt to connect.
func backoff(attempt int) time.Duration {
	if attempt == 0 {
		return 0
	}
	wait := min(longestWait, 250*time.Millisecond<<min(attempt, 10))
	return wait/2 + rand.N(wait/2)
}

// guard returns the error of f. It reports a panic of f, so that a panic does not end the link to
// the server.
func (r *Replicas) guard(f func() error) error {
	err := task.Do(f)
	if bug, ok := errors.AsType[*task.Panic](err); ok {
		r.options.Panicked(bug)
	}
	return err
}

// linkUp records and logs that a server is connected. If none was, messages may have been missed.
func (r *Replicas) linkUp(o *outlet) {
	r.options.Log.Info("connected to the other replicas", zap.String("server", o.name))
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.connected() {
		r.catchUp.up = time.Now()
		r.missed(r.catchUp.down, true)
	}
	o.up, o.err = true, nil
	r.send(message{})
}

// failed records and logs why a server is not connected.
func (r *Replicas) failed(o *outlet, err error) {
	r.linkDown(o, err)
	r.options.Log.Warn("not connected to the other replicas", zap.String("server", o.name), zap.Error(err))
}

// linkDown records that a server is not connected, and why.
func (r *Replicas) linkDown(o *outlet, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := o.up
	o.up = false
	if err != nil {
		o.err = err
	}
	for len(o.queue) > 0 {
		select {
		case <-o.queue:
			o.waiting--
			r.stats.Dropped++
		default:
		}
	}
	if was && !r.connected() {
		r.catchUp.down = time.Now().Add(-silence)
	}
}

// delivered records that n messages that were taken from the queue of a server were sent, or that
// they were not.
func (r *Replicas) delivered(o *outlet, n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.waiting -= n
	if err != nil {
		o.err = err
		r.stats.Dropped += uint64(n)
	}
}

// connected reports whether a server is connected. r.mu is held.
func (r *Replicas) connected() bool {
	return slices.ContainsFunc(r.outlets, func(o *outlet) bool { return o.up })
}

// awaitQueues waits until all queued messages have been sent, at most for d.
func (r *Replicas) awaitQueues(d time.Duration) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end) && !r.queuesBelow(1); {
		<-tick.C
	}
}

// queuesBelow reports whether fewer than n messages wait for each connected server.
func (r *Replicas) queuesBelow(n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !slices.ContainsFunc(r.outlets, func(o *outlet) bool { return o.up && o.waiting >= n })
}
