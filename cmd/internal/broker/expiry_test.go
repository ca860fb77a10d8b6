package broker

import (
	"math"
	"testing"
	"time"
)

func TestMessagesGetNoExpiry(t *testing.T) {
	b, _ := newBroker(t, nil)
	c := connect(t, b, "d", login{version: 5, id: "c"})
	c.publish(message{topic: "x", payload: "1", qos: 1, retain: true})
	c.subscribe("x", 1)
	if got := c.take(); len(got.props) != 0 {
		t.Errorf("retained message has properties % x", got.props)
	}
	connect(t, b, "p", login{version: 5, id: "p"}).publish(message{topic: "x", payload: "2", qos: 1, props: prop32(0x02, 60)})
	if got := c.take(); len(got.props) != 5 || got.props[0] != 0x02 || got.props[4] > 60 {
		t.Errorf("properties % x, want an expiry of at most 60", got.props)
	}
}

func TestExpiredSessionLeavesNothing(t *testing.T) {
	b, _ := newBroker(t, func(o *Options) { o.SessionExpiry = time.Hour })
	for _, l := range []login{
		{version: 4, id: "old", persist: true}, {version: 5, id: "new", persist: true, props: prop32(0x11, math.MaxUint32)},
	} {
		c := connect(t, b, "d", l)
		c.subscribe("x", 1)
		// The client cannot lengthen it when it leaves either.
		c.Send(packet(tDisconnect, map[byte][]byte{5: join([]byte{0}, sized(prop32(0x11, math.MaxUint32)))}[l.version]))
		c.ExpectEnd()
	}
	pub := connect(t, b, "p", login{id: "p"})
	pub.publish(message{topic: "x", payload: "1", qos: 1})
	pub.Ping()
	if s := b.Stats(); s.Sessions != 3 || s.Queued != 2 {
		t.Errorf("stats %+v, want 3 sessions and 2 messages queued", s)
	}
	eventually(t, "the sessions are without connection", func() bool { return b.open() == 1 })
	b.expireSessions(time.Now().Add(time.Hour + 2*time.Second))
	if n := b.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions an hour later, want that of the connection", n)
	}
	if subs := b.server.Topics.Subscribers("x"); len(subs.Subscriptions) != 0 {
		t.Errorf("subscriptions of expired sessions: %v", subs.Subscriptions)
	}
}

func TestExpiredMessagesAreNotSent(t *testing.T) {
	b, _ := newBroker(t, nil)
	l := login{version: 5, id: "s", persist: true, props: prop32(0x11, 3600)}
	connect(t, b, "d", l).subscribe("queued", 1)
	sub := connect(t, b, "d", l)
	sub.disconnect()
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	for topic, retain := range map[string]bool{"queued": false, "kept/brief": true} {
		pub.publish(message{topic: topic, payload: "old", qos: 1, retain: retain, props: prop32(0x02, 1)})
	}
	published := time.Now().Unix()
	for topic, retain := range map[string]bool{"queued": false, "kept/long": true} {
		pub.publish(message{topic: topic, payload: "new", qos: 1, retain: retain, props: prop32(0x02, 1000)})
	}
	eventually(t, "two seconds have passed", func() bool { return time.Now().Unix() > published+1 })
	sub = connect(t, b, "d", l)
	if got := sub.take(); got.payload != "new" {
		t.Errorf("queued: got %+v", got)
	}
	sub.subscribe("kept/#", 1)
	if got := sub.take(); got.payload != "new" {
		t.Errorf("retained: got %+v", got)
	}
	sub.quiet()
}

func TestSweep(t *testing.T) {
	b, _ := newBroker(t, nil)
	sub := connect(t, b, "d", login{id: "s", persist: true})
	sub.subscribe("#", 1)
	sub.disconnect()
	eventually(t, "the session is without connection", func() bool { return b.open() == 0 })
	pub := connect(t, b, "p", login{version: 5, id: "p"})
	pub.publish(message{topic: "brief", payload: "1", qos: 1, retain: true, props: prop32(0x02, 60)})
	pub.publish(message{topic: "long", payload: "1", qos: 1, retain: true})
	pub.Ping()
	b.expireMessages(time.Now())
	if s := b.Stats(); s.Retained != 2 || s.Queued != 2 {
		t.Errorf("too early: %+v", s)
	}
	b.expireMessages(time.Now().Add(time.Hour))
	if s := b.Stats(); s.Retained != 1 || s.Queued != 1 {
		t.Errorf("an hour later: %+v", s)
	}
	b.expireSessions(time.Now().Add(time.Hour))
	if s := b.Stats(); s.Sessions != 2 {
		t.Errorf("an hour later: %d sessions, want 2", s.Sessions)
	}
	b.expireSessions(time.Now().Add(defaultSessionExpiry + time.Minute))
	if s := b.Stats(); s.Sessions != 1 {
		t.Errorf("the day after: %d sessions, want that of the connection", s.Sessions)
	}
}
