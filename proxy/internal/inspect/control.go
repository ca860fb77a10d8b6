package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// Control changes the rights of a session while its filters run. The zero value is for one
// call of [New].
type Control struct {
	rights atomic.Pointer[Rights] // in force

	// The filters that the client has subscribed to. mu is held from the decision about a
	// SUBSCRIBE until its filters are remembered, so that no change of rights comes in between.
	mu         sync.Mutex
	subscribed []subscription // by filter
	size       int32          // in bytes
	unknown    bool           // there may be others

	up, down aliasing
}

// subscription is one of the few that most devices have. A map would take several times as much.
type subscription struct {
	filter string // the device's name of it
	qos    byte
}

// find returns the place of a filter among the subscriptions, and whether it is there. c.mu is
// held.
func (c *Control) find(filter string) (at int, known bool) {
	return slices.BinarySearchFunc(c.subscribed, filter, func(s subscription, filter string) int {
		return strings.Compare(s.filter, filter)
	})
}

// aliasing is what is known of the topic aliases of a direction. They are followed only while
// there are topics to judge or to map.
type aliasing struct {
	allowed bool // there may be aliases
	unread  bool // there was a time in which they were not followed
}

// lost reports whether there may be aliases of which the topics are not known.
func (a aliasing) lost() bool { return a.allowed && a.unread }

// Reasons for which Swap refuses.
var (
	errUnknown = errors.New("what the device has subscribed to is not known")
	errNarrow  = errors.New("it has a subscription that is not allowed any more")
	errMoved   = errors.New("it has a subscription whose topics have moved")
	errAliased = errors.New("it may use topic aliases that were not read")
)

// begin sets the rights with which a session begins.
func (c *Control) begin(s *Session) {
	c.unknown = s.Resumed
	c.up.allowed, c.down.allowed = s.Broker.TopicAliasMaximum > 0, s.Client.TopicAliasMaximum > 0
	c.set(&Rights{ACL: s.ACL, Topics: s.Topics, Limits: cmp.Or(s.Limits, &authz.Limits{})})
}

// set makes r the rights in force. Its limits are not nil.
func (c *Control) set(r *Rights) {
	c.up.unread = c.up.unread || r.none()
	c.down.unread = c.down.unread || r.Topics == nil
	c.rights.Store(r)
}

// Rights returns the rights in force. It may be called from any goroutine after New.
func (c *Control) Rights() *Rights { return c.rights.Load() }

// Limits returns the limits in force. It may be called from any goroutine after New.
func (c *Control) Limits() authz.Limits { return *c.rights.Load().Limits }

// Swap makes next decide about every packet that is decided on from now on, whole packets in
// both directions. It refuses, and changes nothing, if the client has a subscription that next
// does not allow or that would be another one at the broker. If its subscriptions are not
// known, it refuses unless next allows all that was allowed before and keeps the topics where
// they are. Swap may be called from any goroutine after New.
func (c *Control) Swap(next Rights) error {
	next.Limits = cmp.Or(next.Limits, &authz.Limits{})
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.allowed(&next, c.rights.Load()); err != nil {
		return err
	}
	c.set(&next)
	return nil
}

// allowed returns nil if all subscriptions are the same ones under next. c.mu is held.
func (c *Control) allowed(next, old *Rights) error {
	switch {
	case c.up.lost() && !next.none(), c.down.lost() && next.Topics != nil:
		return errAliased
	case len(c.subscribed) > int(next.Limits.Subscriptions) && next.Limits.Subscriptions > 0:
		return fmt.Errorf("%w: the limit subscriptions is %d", errNarrow, next.Limits.Subscriptions)
	}
	wider := next.Limits.MostQoS() >= old.Limits.MostQoS()
	switch {
	case wider && next.Topics.Equal(old.Topics) && next.ACL.Covers(old.ACL):
		return nil
	case c.unknown:
		return errUnknown
	}
	for _, s := range c.subscribed {
		filter, qos := s.filter, s.qos
		to, denied := next.subscribe(nil, filter, qos)
		if most := next.Limits.MostQoS(); denied == "" && qos > most {
			denied = fmt.Sprintf("the limit max_qos is %d", most)
		}
		if denied != "" {
			return fmt.Errorf("%w: %s", errNarrow, denied)
		}
		if at, _ := old.filter(nil, filter); string(at) != string(to) {
			return errMoved
		}
	}
	return nil
}

// remember notes the filters of a SUBSCRIBE that are passed on, with that QoS at most. c.mu is
// held.
func (c *Control) remember(s *packets.Subscribe, codes []packets.ReasonCode, qos byte) {
	i := -1
	for filter, options := range s.All() {
		if i++; codes[i] != passedOn || c.unknown {
			continue
		}
		at, known := c.find(filter)
		if !known {
			if c.size += overhead + int32(len(filter)); c.size > maxSubscribed {
				c.lose()
				return
			}
			c.subscribed = slices.Insert(c.subscribed, at, subscription{filter: strings.Clone(filter)})
		}
		c.subscribed[at].qos = min(options&3, qos)
	}
}

// forget forgets the filters of an UNSUBSCRIBE that are passed on.
func (c *Control) forget(s *packets.Subscribe, codes []packets.ReasonCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := -1
	for filter := range s.All() {
		i++
		if at, known := c.find(filter); known && codes[i] == passedOn {
			c.subscribed = slices.Delete(c.subscribed, at, at+1)
			c.size -= overhead + int32(len(filter))
		}
	}
}

// lose makes the subscriptions unknown for the rest of the session. c.mu is held.
func (c *Control) lose() { c.subscribed, c.size, c.unknown = nil, 0, true }

// refused notes that the broker has not ended all subscriptions that it was asked to end.
func (c *Control) refused() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose()
}
