package broker

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path"
	"strconv"
	"sync"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// maxCalls is how many calls may wait at once, and maxDeviceCalls how many of them for one
	// device.
	maxCalls       = 64
	maxDeviceCalls = 16
	// maxAnswer is the longest answer of a device to a call, in bytes.
	maxAnswer = 64 << 10
)

// Errors of [Broker.Call].
var (
	// ErrNotListening means that no connected session of the device has subscribed to calls, or
	// that none of the gateway before it has, or that the gateway has disconnected the device.
	ErrNotListening = errors.New("no connected session of the device has subscribed to v1/devices/me/rpc/request/+ or v2/r/req/+," +
		" nor one of a gateway that has the device behind it to v1/gateway/rpc")
	// ErrTooManyCalls means that no further call may wait for the device, or for any device.
	ErrTooManyCalls = errors.New("too many calls are waiting for the device, or for all devices")
	// ErrNotReading means that the device has not read or acknowledged what was sent to it before,
	// so that it would get the request later, or not at all.
	ErrNotReading = errors.New("the device has not read or acknowledged what was sent to it before")
	// ErrLongAnswer means that the device has answered with more than 64 KiB.
	ErrLongAnswer = errors.New("the answer of the device has more than 64 KiB")
)

// Call sends a request, such as {"method":"reboot","params":{}}, to every connected session of a
// device that has subscribed to v1/devices/me/rpc/request/+, v2/r/req/+ or v2/r/req/j/+, once to
// each session. Of a device behind a gateway, whose name is gateway/name, the gateway gets it on
// v1/gateway/rpc, as {"device":"name","data":{"id":1,"method":"reboot","params":{}}}. The request is
// a JSON object that is not empty. Call returns the first answer, of which other sessions, later
// answers and other devices change nothing.
//
// If oneWay is true, Call does not wait for an answer. It returns when the first session has
// acknowledged the request or, if all its subscriptions have QoS 0, when the request was sent.
//
// ctx must have a deadline. A session that loses its connection gets the request again if it
// returns before the call is over, and not after that. The error is one of this package, or the cause
// of the end of ctx.
func (b *Broker) Call(ctx context.Context, device string, request []byte, oneWay bool) ([]byte, error) {
	answer, err := b.exchange(ctx, device, request, oneWay)
	b.counts.calls[outcomeOf(err)].Add(1)
	return answer, err
}

// exchange sends a request and waits for what ends the call.
func (b *Broker) exchange(ctx context.Context, device string, request []byte, oneWay bool) ([]byte, error) {
	number, waiting, err := b.calls.begin(device, oneWay)
	if err != nil {
		return nil, err
	}
	defer b.calls.end(number)
	defer b.withdrawCall(device, number)
	if err := b.sendCall(ctx, device, number, request); err != nil {
		return nil, err
	}
	select {
	case r := <-waiting:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-b.stop:
		return nil, ErrClosed
	}
}

// sendCall sends a request to the sessions of a device, or of the gateway before it. It returns an
// error if none can get it.
func (b *Broker) sendCall(ctx context.Context, device string, number uint32, request []byte) error {
	err := ErrNotListening
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, Payload: request,
		ProtocolVersion: 5, // or it would not expire
		Origin:          originOf(number),
	}
	if deadline, ok := ctx.Deadline(); ok {
		pk.Expiry = deadline.Unix() - 1 // a message expires after its second is over
	}
	name, child, behind := splitChild(device)
	if behind {
		pk.Payload = childCall(child, number, request)
	}
	for _, id := range b.ledger.sessionsOf(name) {
		cl, ok := b.server.Clients.Get(id)
		if !ok || cl.Closed() {
			continue
		}
		var sub packets.Subscription
		if behind {
			pk.TopicName = childCalls
			sub, ok = subscriptionToChildCalls(cl, child)
		} else {
			pk.TopicName, sub, ok = subscriptionToCalls(cl, number)
		}
		if !ok {
			continue
		}
		switch {
		case cl.Net.Conn.(*conn).out.ready() && b.deliver(id, sub, pk, newBody(pk), nil): // a call does not survive the process
			err = nil
			if sub.Qos == 0 {
				b.calls.acknowledged(device, number)
			}
		case err != nil:
			err = ErrNotReading
		}
	}
	return err
}

// originOf marks the messages of a call. No client has an identifier with U+0000 [MQTT-1.5.4-2].
func originOf(number uint32) string { return "\x00call " + strconv.FormatUint(uint64(number), 10) }

// withdrawCall removes a call that is over from the queues of sessions without a connection.
func (b *Broker) withdrawCall(device string, number uint32) {
	name, _, _ := splitChild(device)
	b.sessions.RLock() // they stay without one meanwhile
	defer b.sessions.RUnlock()
	for _, id := range b.ledger.sessionsOf(name) {
		cl, ok := b.server.Clients.Get(id)
		if !ok || !cl.Closed() {
			continue
		}
		for _, m := range cl.State.Inflight.GetAll(false) {
			if m.Origin == originOf(number) && cl.State.Inflight.Delete(m.PacketID) {
				b.ledger.dequeue(id, m.PacketID)
			}
		}
	}
}

// subscriptionToCalls returns the topic on which a session gets a call. A session that has
// subscribed to several forms of the topic must not do the same twice.
func subscriptionToCalls(cl *mqtt.Client, number uint32) (topic string, sub packets.Subscription, ok bool) {
	for _, root := range [...]string{"v1/devices/me/rpc/request/", "v2/r/req/", "v2/r/req/j/"} {
		topic = root + strconv.FormatUint(uint64(number), 10)
		if sub, ok = subscriptionTo(cl, topic); ok {
			return topic, sub, true
		}
	}
	return "", sub, false
}

// answerCall takes the answer of a device to a call, and returns what mochi is to do with it. An
// answer for which no call waits is acknowledged, because sending it again would not help.
func (b *Broker) answerCall(c *conn, cl *mqtt.Client, pk packets.Packet, number string) error {
	return b.passAnswer(cl, pk, c.device, numberOf(number), pk.Payload)
}

// passAnswer gives an answer of a device to the call that waits for it.
func (b *Broker) passAnswer(cl *mqtt.Client, pk packets.Packet, device string, number uint32, answer []byte) error {
	r := callResult{answer: answer}
	if len(answer) > maxAnswer {
		r = callResult{err: ErrLongAnswer}
	}
	switch {
	case !b.calls.answered(device, number, r):
		b.counts.unexpectedAnswers.Add(1)
	case r.err != nil:
		return decline(cl, pk, packets.ErrQuotaExceeded)
	}
	return packets.CodeSuccessIgnore
}

// numberOf returns the number of a call, and 0, which no call has, for others.
func numberOf(text string) uint32 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// acknowledgeCall notices that a session has acknowledged a message, if that is a one-way call.
func (b *Broker) acknowledgeCall(c *conn, cl *mqtt.Client, ack packets.Packet) {
	if ack.ReasonCode >= packets.ErrUnspecifiedError.Code || b.calls.oneWay.Load() == 0 {
		return
	}
	if m, ok := cl.State.Inflight.Get(ack.PacketID); ok {
		if child, number := callIn(m); number != 0 {
			b.calls.acknowledged(c.device+"/"+child, number)
		} else if r, _ := requestOf(m.TopicName); r == routeRPC { // the topics of both directions are the same
			b.calls.acknowledged(c.device, numberOf(path.Base(m.TopicName)))
		}
	}
}

// outcome is how a call ended, as metrics call it.
type outcome byte

const (
	outcomeDone         outcome = iota // answered or, if it was one-way, received
	outcomeLate                        // no answer in time
	outcomeNotListening                // no session to send it to
	outcomeRefused                     // too many calls, or no memory
	outcomeLong                        // the answer was too long
	outcomeLeft                        // the caller left, or the broker was shut down
	outcomes
)

// String returns the name of the outcome.
func (o outcome) String() string {
	return [outcomes]string{"done", "late", "not_listening", "refused", "too_long", "left"}[o]
}

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return outcomeDone
	case errors.Is(err, context.DeadlineExceeded):
		return outcomeLate
	case errors.Is(err, ErrNotListening):
		return outcomeNotListening
	case errors.Is(err, ErrTooManyCalls), errors.Is(err, ErrNotReading):
		return outcomeRefused
	case errors.Is(err, ErrLongAnswer):
		return outcomeLong
	}
	return outcomeLeft
}

// calls are the calls that wait. The zero value has none.
type calls struct {
	oneWay atomic.Int64 // how many calls are one-way

	mu      sync.Mutex
	last    uint32 // the number of the last call
	waiting map[uint32]*call
	devices map[string]int // calls by device
}

type call struct {
	device string
	oneWay bool
	result chan callResult // for the first result
}

type callResult struct {
	answer []byte
	err    error
}

// begin makes a call with a number that no other one has. An answer to a call that was made before
// the last start of the program should not fit, so the first number is random.
func (s *calls) begin(device string, oneWay bool) (number uint32, result <-chan callResult, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting, s.devices = make(map[uint32]*call), make(map[string]int)
		s.last = rand.Uint32N(math.MaxInt32)
	}
	if len(s.waiting) >= maxCalls || s.devices[device] >= maxDeviceCalls {
		return 0, nil, ErrTooManyCalls
	}
	s.last = s.last%math.MaxInt32 + 1 // clients may take it for a signed integer
	c := &call{device, oneWay, make(chan callResult, 1)}
	s.waiting[s.last] = c
	s.devices[device]++
	if oneWay {
		s.oneWay.Add(1)
	}
	return s.last, c.result, nil
}

// end removes a call.
func (s *calls) end(number uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.waiting[number]
	delete(s.waiting, number)
	if s.devices[c.device]--; s.devices[c.device] == 0 {
		delete(s.devices, c.device)
	}
	if c.oneWay {
		s.oneWay.Add(-1)
	}
}

// answered gives the result to a two-way call of the device that still waits for one.
func (s *calls) answered(device string, number uint32, r callResult) bool {
	return s.finish(device, number, false, r)
}

// acknowledged ends a one-way call of the device.
func (s *calls) acknowledged(device string, number uint32) {
	s.finish(device, number, true, callResult{})
}

func (s *calls) finish(device string, number uint32, oneWay bool, r callResult) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.waiting[number]
	if !ok || c.device != device || c.oneWay != oneWay {
		return false
	}
	select {
	case c.result <- r:
		return true
	default: // there was a result before
		return false
	}
}

// len returns how many calls wait.
func (s *calls) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}
