package broker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// withRequests answers requests for attributes with the device and what it asked.
func withRequests(o *Options) {
	o.AttributeRequest = func(_ context.Context, device string, request []byte) ([]byte, error) {
		switch string(request) {
		case "bad":
			return nil, errBad
		case "outage":
			return nil, fmt.Errorf("no database")
		}
		return fmt.Appendf(nil, "%s asked %s", device, request), nil
	}
}

// ask sends a request of QoS 1 and returns the answer, which comes before the acknowledgement.
func (c *client) ask(topic, payload string, code packets.ReasonCode) message {
	c.t.Helper()
	c.Send(c.encode(message{topic: topic, payload: payload, qos: 1, id: 5}))
	m := c.take()
	if c.Level < 5 {
		code = 0
	}
	c.ExpectAck(packets.PUBACK, 5, code)
	return m
}

// thingsboard subscribes to what ThingsBoard's Python client subscribes to when it connects.
func (c *client) thingsboard() {
	c.t.Helper()
	for _, filter := range []string{
		"v1/devices/me/attributes", "v1/devices/me/attributes/response/+", "v1/devices/me/rpc/request/+", "v1/devices/me/rpc/response/+",
	} {
		if code := c.subscribe(filter, 1); code != 1 {
			c.t.Fatalf("SUBACK for %s = %#x", filter, code)
		}
	}
}

// TestSessionLimitsAreAnswered is what ThingsBoard's Python client sends when it has connected,
// before it sends anything else.
func TestSessionLimitsAreAnswered(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, func(o *Options) { o.MaxPayload = 1 << 20 })
		const call = `{"method": "getSessionLimits", "params": {"timeout": 5000}}`
		for want, limits := range map[string]Limits{
			`{"maxPayloadSize":1048576,"maxInflightMessages":64,"rateLimits":{"messages":null,"telemetryMessages":null,"telemetryDataPoints":null}}`:  {},
			`{"maxPayloadSize":9936,"maxInflightMessages":64,"rateLimits":{"messages":"20:1","telemetryMessages":null,"telemetryDataPoints":null}}`:   {MaxPacket: 10_000, PublishRate: 20, PublishBurst: 100},
			`{"maxPayloadSize":1048576,"maxInflightMessages":64,"rateLimits":{"messages":"5:1","telemetryMessages":null,"telemetryDataPoints":null}}`: {PublishRate: 20, PublishBurst: 5},
			`{"maxPayloadSize":1,"maxInflightMessages":64,"rateLimits":{"messages":null,"telemetryMessages":null,"telemetryDataPoints":null}}`:        {MaxPacket: 16},
		} {
			c := connectLimited(t, b, login{version: version, id: "c"}, limits)
			c.thingsboard()
			for request, response := range map[string]string{
				"v1/devices/me/rpc/request/1": "v1/devices/me/rpc/response/1",
				"v2/r/req/2":                  "v2/r/res/2",
				"v2/r/req/j/3":                "v2/r/res/j/3",
			} {
				if strings.HasPrefix(request, "v2") {
					c.subscribe(strings.TrimRight(response, "123")+"+", 0)
				}
				got := c.ask(request, call, 0)
				if got.topic != response || got.payload != want {
					t.Errorf("%+v: answer %+v, want %s on %s", limits, got, want, response)
				}
				if qos := byte(len(request) / len("v1/devices/me/rpc/request/1")); got.qos != qos {
					t.Errorf("answer has QoS %d, the subscription %d", got.qos, qos)
				}
			}
			if got := c.ask("v1/devices/me/rpc/request/9", "{method: getSessionLimits}", 0); got.payload != want {
				t.Errorf("without quotes: %+v", got)
			}
			c.quiet()
			c.disconnect()
		}
	})
}

// connectLimited connects the device d, which must keep to limits.
func connectLimited(t testing.TB, b *Broker, l login, limits Limits) *client {
	t.Helper()
	c := dialLimited(t, b, "d", limits)
	request := l.connect()
	c.Level = request.Level
	c.Send(request.Append(nil))
	if ack, err := c.ReadConnack(); err != nil || ack.Code != packets.Success {
		t.Fatalf("CONNACK %v, error %v", ack, err)
	}
	return c
}

// TestUnknownCallsAreAnsweredWithAnError: ThingsBoard's client has no timeout for calls.
func TestUnknownCallsAreAnsweredWithAnError(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		c.thingsboard()
		for call, want := range map[string]struct {
			text string
			code packets.ReasonCode
		}{
			`{"method": "getTime", "params": {}}`: {"has no rule engine that could answer this method", 0},
			`{"method": 5}`:                       {`send an object such as {\"method\":\"getSessionLimits\"`, 0x99},
			`{"params": {}}`:                      {"the payload has no method", 0x99},
			`{"method": "secret`:                  {"bad payload at byte", 0x99},
			``:                                    {"bad payload at byte", 0x99},
			big(maxRequest + 1):                   {"payload too long", 0x99},
		} {
			got := c.ask("v1/devices/me/rpc/request/12", call, want.code)
			if got.topic != "v1/devices/me/rpc/response/12" || !strings.HasPrefix(got.payload, `{"error":"`) || !strings.Contains(got.payload, want.text) || strings.Contains(got.payload, "secret") {
				t.Errorf("%.40s: answer %+v, want an error with %s", call, got, want.text)
			}
		}
		if s := b.Stats(); s.Unsupported["rpc"] != 1 || s.BadPayloads != 5 {
			t.Errorf("stats %+v", s)
		}
		c.quiet()
	})
}

// TestAttributeRequestsAreAnsweredToTheSessionThatAsks: request_attributes of ThingsBoard's
// client. Another session of the same device may count its own requests from 1 as well.
func TestAttributeRequestsAreAnsweredToTheSessionThatAsks(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, withRequests)
		c := connect(t, b, "d", login{version: version, id: "c"})
		c.thingsboard()
		others := []*client{connect(t, b, "d", login{version: version, id: "second"}), connect(t, b, "e", login{version: version, id: "o"})}
		for _, other := range others {
			other.thingsboard()
			other.subscribe("v1/#", 1)
			other.subscribe("v2/#", 1)
		}
		const request = `{"clientKeys": "a", "sharedKeys": "b"}`
		got := c.ask("v1/devices/me/attributes/request/1", request, 0)
		if got.topic != "v1/devices/me/attributes/response/1" || got.payload != "d asked "+request || got.qos != 1 || got.retain {
			t.Errorf("answer %+v", got)
		}
		c.subscribe("v2/#", 0)
		for request, response := range map[string]string{"v2/a/req/2": "v2/a/res/2", "v2/a/req/j/2": "v2/a/res/j/2"} {
			if got := c.ask(request, "x", 0); got.topic != response || got.qos != 0 {
				t.Errorf("answer %+v", got)
			}
		}
		if got := c.ask("v1/devices/me/attributes/request/3", "bad", 0x99); !strings.HasPrefix(got.payload, `{"error":"`) {
			t.Errorf("answer %+v", got)
		}
		for _, other := range others {
			other.quiet()
		}
		if s := b.Stats(); s.Answered != 3 || s.BadPayloads != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestAnOutageIsNotAnAnswer: a device would take an error for an answer without attributes.
func TestAnOutageIsNotAnAnswer(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, withRequests)
		c := connect(t, b, "d", login{version: version, id: "c"})
		c.thingsboard()
		c.Send(c.encode(message{topic: "v1/devices/me/attributes/request/1", payload: "outage", qos: 1, id: 5}))
		var code packets.ReasonCode
		if version == 5 {
			code = 0x83
		}
		c.ExpectAck(packets.PUBACK, 5, code)
		c.quiet()
		if s := b.Stats(); s.StoreErrors != 1 || s.Answered != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestRequestsWithoutASubscriptionAreNotAnswered: this is also true at QoS 2, and the handshake of
// the request is completed.
func TestRequestsWithoutASubscriptionAreNotAnswered(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, withRequests)
		c := connect(t, b, "d", login{version: version, id: "c"})
		for qos := byte(0); qos <= 2; qos++ {
			c.publish(message{topic: "v1/devices/me/attributes/request/1", payload: "x", qos: qos})
		}
		c.quiet()
		if s := b.Stats(); s.Queued != 0 || s.Answered != 3 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestUnreadAnswersAreBounded: a device that asks and does not acknowledge fills its own share of
// memory and nothing else.
func TestUnreadAnswersAreBounded(t *testing.T) {
	const share = 64 << 10
	b, _ := newBroker(t, func(o *Options) {
		o.DeviceMemory = share
		o.AttributeRequest = func(context.Context, string, []byte) ([]byte, error) { return []byte(big(10_000)), nil }
	})
	c, other := connect(t, b, "d", login{id: "c"}), connect(t, b, "e", login{id: "o"})
	c.thingsboard()
	other.thingsboard()
	for range 20 {
		c.Send(c.encode(message{topic: "v1/devices/me/attributes/request/1", payload: "x"}))
	}
	eventually(t, "all are answered", func() bool { return b.Stats().Answered == 20 })
	if s := b.Stats(); s.Memory > 2*share || s.Dropped["device_memory"] == 0 {
		t.Errorf("stats %+v", s)
	}
	if got := other.ask("v1/devices/me/attributes/request/1", "x", 0); len(got.payload) != 10_000 {
		t.Errorf("another device got %d bytes", len(got.payload))
	}
}

// TestSubscriptionsToWhatIsNotServedAreRefused: a device must not wait for what never comes.
func TestSubscriptionsToWhatIsNotServedAreRefused(t *testing.T) {
	versions(t, func(t *testing.T, version byte) {
		b, _ := newBroker(t, nil)
		c := connect(t, b, "d", login{version: version, id: "c"})
		want := byte(0x80)
		if version == 5 {
			want = 0x8F
		}
		for _, filter := range []string{
			"v1/devices/me/claim", "/provision/response", "/provision/#", "v2/fw/response/+", "v2/fw/response/+/chunk/+", "v2/sw/response/+/chunk/+", "v2/fw/error",
			"v1/gateway/rpc", "v1/gateway/attributes/response", "v1/gateway/+", "v2/a/res/p/+", "v2/r/req/p/+",
			"$share/g/v1/devices/me/rpc/request/+", "$share/g/v2/a", "$share/g/v1/gateway/#",
		} {
			if got := c.subscribe(filter, 1); got != want {
				t.Errorf("SUBACK for %s = %#x, want %#x", filter, got, want)
			}
		}
		for _, filter := range []string{"v1/devices/me/#", "v2/#", "v2/a", "v2/a/res/+", "v2/r/res/+", "v2/r/req/+", "$share/g/x", "provision/response", "#"} {
			if got := c.subscribe(filter, 1); got != 1 {
				t.Errorf("SUBACK for %s = %#x, want it granted", filter, got)
			}
		}
		s := b.Stats()
		for name, n := range map[string]int64{"claim": 1, "provision": 2, "firmware": 4, "gateway": 4, "protobuf": 2, "rpc": 1, "other": 1} {
			if s.UnsupportedFilters[name] != n {
				t.Errorf("%d subscriptions of %s are counted, want %d", s.UnsupportedFilters[name], name, n)
			}
		}
		if s.Subscriptions != 9 {
			t.Errorf("%d subscriptions", s.Subscriptions)
		}
	})
}

// TestOneWarningForADeviceAndADay: the memory for remembering which devices were named is limited.
func TestOneWarningForADeviceAndADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u unserved
		if !u.first("a", time.Now()) || u.first("a", time.Now()) || !u.first("b", time.Now()) {
			t.Error("not one warning for each device")
		}
		time.Sleep(24 * time.Hour)
		if !u.first("a", time.Now()) || u.first("a", time.Now()) {
			t.Error("not one warning on the next day")
		}
		for i := range 2 * maxWarned {
			u.first(fmt.Sprint("many", i), time.Now())
		}
		if len(u.warned) > maxWarned {
			t.Errorf("%d devices are remembered", len(u.warned))
		}
	})
}

// lockedText is what a logger has written.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestWarningsNameTheFamily: warnings do not contain the topic, because a device may put any text
// into it.
func TestWarningsNameTheFamily(t *testing.T) {
	var log lockedText
	b, _ := newBroker(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	c := connect(t, b, "d", login{id: "c"})
	for range 3 {
		c.publish(message{topic: "v1/gateway/secret", payload: "secret", qos: 1})
		c.subscribe("v1/devices/me/claim", 1)
	}
	text := log.String()
	if strings.Count(text, "level=WARN") != 1 || !strings.Contains(text, "device=d family=gateway") || strings.Contains(text, "secret") {
		t.Errorf("log:\n%s", text)
	}
}

func FuzzRequests(f *testing.F) {
	for _, s := range []string{`{"method":"getSessionLimits","params":{}}`, `{method:x}`, `{"method":null}`, `[]`, "\xff", `{"method":"1"}`} {
		f.Add([]byte(s), "v1/devices/me/rpc/request/1", "v1/devices/me/rpc/+/1")
	}
	b, err := New(Options{Telemetry: nothing, Attributes: nothing})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = b.Close() })
	f.Fuzz(func(t *testing.T, data []byte, topic, filter string) {
		answer, err := b.rpc(&conn{broker: b, device: "d"}, data)
		if (err == nil) != (len(answer) > 0) {
			t.Errorf("answer %q, error %v", answer, err)
		}
		if r, response := requestOf(topic); (r == routeUnsupported) != (response == "") || strings.ContainsAny(response, "+#\x00") {
			t.Errorf("%q: route %d, answer on %q", topic, r, response)
		}
		if matches(filter, topic) && !strings.ContainsAny(filter, "+#") && filter != topic {
			t.Errorf("%q matches %q", filter, topic)
		}
	})
}

func TestFiltersMatch(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/+", "a/b", true}, {"a/+", "a/b/c", false}, {"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "a/b", true},
		{"+/b", "a/b", true}, {"a", "a/b", false}, {"a/b", "a", false}, {"a/", "a", false}, {"a/+", "a", false}, {"a/+", "a/", true}, {"+/#", "a", true},
		{"$share/g/a", "a", false},
	} {
		if got := matches(c.filter, c.topic); got != c.want {
			t.Errorf("matches(%q, %q) = %t", c.filter, c.topic, got)
		}
	}
}
