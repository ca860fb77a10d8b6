package replicas

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/pgdsn"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/task"
)

const (
	// MaxSkew is how far the clocks of two replicas may be apart, with the time that a message
	// takes.
	MaxSkew = time.Minute
	// beat is the longest time between two messages of a replica.
	beat = 2 * time.Second
	// maxPending is how many withdrawals and kicks wait until they are put into messages.
	maxPending = 20_000
	// closeTimeout is how long Run may take at its end to send the messages that wait.
	closeTimeout = time.Second
)

// Options describe a replica. All functions must be set. They are called from one goroutine at a
// time, without a lock of this package.
type Options struct {
	// Name identifies the replica to people. It has at most 64 bytes.
	Name string
	// Secret is the secret that all replicas share.
	Secret []byte
	// Topic is the name of the bus: a topic of the brokers, or a channel of the database, which has
	// at most 63 bytes.
	Topic string
	// Brokers says how to connect to the brokers that [Replicas.Connect] names.
	Brokers Brokers
	// Database is the database that takes the place of the brokers, unless it is nil.
	Database *pgdsn.File
	Log      *zap.Logger

	// Apply withdraws tokens as another replica has done.
	Apply func([]Withdrawal)
	// Adopt puts denials of another replica into force that may be known already.
	Adopt func([]Withdrawal)
	// Kick ends the sessions of the subjects.
	Kick func(subjects []string)
	// Purge forgets all answers of token sources.
	Purge func()
	// Changed sends devices that are here the shared attributes that have changed. It must not wait
	// for the store, because withdrawals would wait too.
	Changed func([]Change)
	// Recover is called when messages were missed. It forgets all answers of token sources, and
	// asks the sources about the live sessions within ten seconds.
	Recover func()
	// Denials returns the denials in force.
	Denials func() []Withdrawal
	// Panicked reports a panic of a goroutine of this package.
	Panicked func(*task.Panic)
}

// Replicas is this process as one of several replicas. It is made by [New]. A nil *Replicas is one
// that is alone: its methods do nothing. The methods may be called from many goroutines.
type Replicas struct {
	options   Options
	codec     codec
	instance  string
	transport func(context.Context) // empties the queues of all outlets until ctx is done; connect except in tests
	wake      chan struct{}         // holds one element if something is pending
	asked     chan struct{}         // holds one element if another replica has asked
	changed   chan struct{}         // holds one element if outlets may have changed

	applying sync.Mutex // held while a message takes effect, so that messages do so one by one

	mu      sync.Mutex // guards the following fields
	number  uint64     // of the last message
	sent    time.Time  // when that was
	pending message    // what is to be sent
	size    int        // how many withdrawals and kicks are in pending
	outlets []*outlet
	peers   peers
	history history
	catchUp catchUp
	asks    map[string]time.Time // since when instances ask
	stats   Stats
}

// Stats counts what has happened since the start.
type Stats struct {
	Sent, Received uint64
	// Dropped counts withdrawals, kicks and messages that could not be sent.
	Dropped uint64
	// Unreadable, Late and Repeated count received messages without effect: not made with the
	// secret, sent at a time too far from this clock, and received before.
	Unreadable, Late, Repeated uint64
	// CatchUps counts how often messages were missed.
	CatchUps uint64
}

// New returns a replica that is not connected yet.
func New(o Options) (*Replicas, error) {
	largest := mqttMessage
	if o.Database != nil {
		largest = notifyMessage
	}
	c, err := newCodec(o.Secret, o.Topic, largest)
	if err != nil {
		return nil, err
	}
	var instance [instanceLength / 2]byte
	_, _ = rand.Read(instance[:]) // never fails
	r := &Replicas{
		options: o, codec: c, instance: hex.EncodeToString(instance[:]),
		wake: make(chan struct{}, 1), asked: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		peers: make(peers), asks: make(map[string]time.Time),
	}
	r.transport = r.connect
	if o.Database != nil {
		r.outlets = []*outlet{r.newOutlet("postgres", r.linkDatabase)}
	}
	return r, nil
}

// Name returns the name of this replica.
func (r *Replicas) Name() string { return r.options.Name }

// Withdraw tells the other replicas to withdraw the same.
func (r *Replicas) Withdraw(all ...Withdrawal) {
	if r == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range all {
		w.At = now
		r.history.add(w, now)
		if r.hasRoom() {
			r.pending.Withdraw = append(r.pending.Withdraw, entryOf(w))
		}
	}
	signal(r.wake)
}

// Kick tells the other replicas to end the sessions of a subject.
func (r *Replicas) Kick(subject string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hasRoom() {
		r.pending.Kick = append(r.pending.Kick, subject)
	}
	signal(r.wake)
}

// Purge tells the other replicas to forget all answers of token sources.
func (r *Replicas) Purge() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending.Purge = true
	signal(r.wake)
}

// Change tells the other replicas that shared attributes of a device have changed. If the message is
// lost, the device does not get them before it asks.
func (r *Replicas) Change(device string, keys []string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for part := range parts(keys, r.codec.content()/2) { // the device takes room too
		r.send(message{Changed: []Change{{device, part}}})
	}
}

// hasRoom reports whether one more withdrawal or kick can wait. If not, it uses up a number, so
// that the others notice that something is missing and catch up. r.mu is held.
func (r *Replicas) hasRoom() bool {
	if r.size >= maxPending {
		r.number++
		r.stats.Dropped++
		return false
	}
	r.size++
	return true
}

// signal wakes the goroutine that waits for c.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run sends and receives until ctx is done. It is called again after a panic.
func (r *Replicas) Run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	bus, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	working.Go(func() { task.Run(bus, r.options.Panicked, r.transport) })
	working.Go(func() { task.Run(ctx, r.options.Panicked, r.answer) })
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.flush()
			r.awaitQueues(closeTimeout)
			return
		case <-r.wake:
			r.flush()
		case now := <-tick.C:
			r.flush()
			r.say(now)
		}
		r.recoverIfDue(time.Now())
	}
}

// say sends an empty message if none was sent for a while.
func (r *Replicas) say(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.connected() && now.Sub(r.sent) >= beat/2 {
		r.send(message{})
	}
}

// flush puts what is pending into messages and sends them.
func (r *Replicas) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.pending
	r.pending, r.size = message{}, 0
	if all.Purge {
		r.send(message{Purge: true})
	}
	for part := range parts(all.Withdraw, r.codec.content()) {
		r.send(message{Withdraw: part})
	}
	for part := range parts(all.Kick, r.codec.content()) {
		r.send(message{Kick: part})
	}
}

// send numbers a message and puts it into the queue of each server that is connected. r.mu is
// held.
func (r *Replicas) send(m message) {
	now := time.Now()
	r.number++
	r.sent = now
	m.Name, m.Instance, m.Number, m.Sent = r.options.Name, r.instance, r.number, now.UnixMilli()
	payload, err := r.codec.seal(m)
	if err != nil {
		r.stats.Dropped++
		r.options.Log.Error("a message to the other replicas is lost", zap.Error(err))
		return
	}
	for _, o := range r.outlets {
		if !o.up {
			continue
		}
		select {
		case o.queue <- payload:
			o.waiting++
			r.stats.Sent++
		default:
			r.stats.Dropped++
		}
	}
}

// deliver takes payloads from the bus, which anyone may have sent. It returns when the messages
// have taken effect. After a panic it has what they said sent again.
func (r *Replicas) deliver(payloads ...[]byte) {
	if r.guard(func() error { r.receive(payloads); return nil }) == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missed(time.Now(), true)
}

// receive applies the messages in payloads. It applies all withdrawals of tokens together, because
// each time it has to look at every session.
func (r *Replicas) receive(payloads [][]byte) {
	r.applying.Lock()
	defer r.applying.Unlock()
	var withdrawn []Withdrawal
	apply := func() {
		if len(withdrawn) > 0 {
			r.options.Apply(withdrawn)
			r.record(withdrawn)
			withdrawn = nil
		}
	}
	for _, payload := range payloads {
		m, err := r.codec.open(payload)
		if !r.take(m, err, time.Now()) {
			continue
		}
		if m.Purge {
			r.options.Purge()
		}
		switch {
		case m.To == r.instance:
			apply() // what is known by then is not missed
			r.takeAnswer(m)
		case m.To == "":
			withdrawn = append(withdrawn, withdrawals(m.Withdraw)...)
		}
		if len(m.Kick) > 0 {
			r.options.Kick(m.Kick)
		}
		if len(m.Changed) > 0 {
			r.options.Changed(m.Changed)
		}
		if m.Ask != nil {
			r.hearAsk(m.Instance, time.UnixMilli(*m.Ask))
		}
	}
	apply()
}

// take reports whether a message is to take effect.
func (r *Replicas) take(m message, err error, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch off := now.Sub(time.UnixMilli(m.Sent)); {
	case errors.Is(err, errUnreadable):
		r.stats.Unreadable++
		return false
	case err != nil:
		r.stats.Unreadable++
		r.options.Log.Warn("a message of another replica cannot be used: do all replicas run the same release?", zap.Error(err))
		return false
	case m.Instance == r.instance:
		return false
	case off > MaxSkew || off < -MaxSkew:
		r.stats.Late++
		r.options.Log.Warn("a message of another replica is ignored, because its time is more than a minute off: are all clocks right?",
			zap.String("replica", m.Name), zap.Duration("off", off))
		return false
	}
	fresh, gap, since := r.peers.take(m, now)
	if !fresh {
		r.stats.Repeated++
		return false
	}
	r.stats.Received++
	// A replica that has connected again later did not get the request to catch up, unless this
	// message is its answer.
	if covered := r.catchUp.covered(since, now); gap && !(covered && m.To == r.instance) {
		r.missed(cmp.Or(since, r.catchUp.down), !covered)
	}
	return true
}

// record adds withdrawals of another replica to the history.
func (r *Replicas) record(all []Withdrawal) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range all {
		r.history.add(w, now)
	}
}

// Peer is another replica in an answer of [Replicas.Peers].
type Peer struct {
	Name  string
	Heard time.Time // when its last message arrived
}

// Peers returns the replicas that were heard in the last ten minutes, in the order of their names.
func (r *Replicas) Peers() (all []Peer) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers.makeRoom(time.Now())
	for _, p := range r.peers {
		all = append(all, Peer{p.name, p.heard})
	}
	slices.SortFunc(all, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), b.Heard.Compare(a.Heard))
	})
	return all
}

// Stats returns what has happened since the start.
func (r *Replicas) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}
