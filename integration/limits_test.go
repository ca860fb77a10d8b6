//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

const (
	// sessionLimits are the limits of TestLimits, in YAML and in JSON.
	sessionLimits = `"max_packet":3000,"max_qos":1,"retain":false,"subscriptions":2,"publish_rate":40,"publish_burst":10,"byte_rate":12000`
	// otherLimits must have no effect on devices with limits of their own.
	otherLimits = `"max_packet":100,"max_qos":0,"retain":true,"subscriptions":1,"publish_rate":1,"publish_burst":1,"byte_rate":100`
)

// limitsStory is a proxy whose devices all have the same limits.
type limitsStory struct {
	*harness.Proxy
	source            string // of the limits; the stories of all sources may share a broker
	sensor, dashboard string // tokens
}

// TestLimits: what real clients see of each limit, with both brokers, and the same whether the
// limits are those of the config, of the token file, of a token service or of a JWT.
func TestLimits(t *testing.T) {
	t.Parallel()
	harness.EachBroker(t, func(t *testing.T, upstream string) {
		for name, start := range map[string]func(t *testing.T, upstream string) limitsStory{
			"config": limitsFromConfig, "file": limitsFromTokenFile, "service": limitsFromService, "jwt": limitsFromJWT,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t, upstream)
				for version, codes := range map[string]limitCodes{
					"mqttv31":  {will: [3]int{5, 5, 5}, subscription: 0x80},
					"mqttv311": {will: [3]int{5, 5, 5}, subscription: 0x80},
					"mqttv5":   {will: [3]int{0x9B, 0x9A, 0x95}, subscription: 0x97},
				} {
					s.testMessages(t, version)
					s.testWills(t, version, codes)
					s.testSubscriptions(t, version, codes)
					s.testRates(t, version)
				}
				s.testPaho(t)
				s.testDisconnects(t)
				s.testPing(t)
				s.testSessions(t)
				s.testCounts(t)
			})
		}
	})
}

// limitCodes are the exit status of mosquitto_pub for a will over max_qos, retain and max_packet,
// and the code of the SUBACK for a filter beyond the limit.
type limitCodes struct {
	will         [3]int
	subscription int
}

func limitsFromConfig(t *testing.T, upstream string) limitsStory {
	p := harness.NewProxy(t, upstream+"limits: {sessions_per_subject: 2, session: {"+sessionLimits+"}}\n")
	s := limitsStory{p, "config", p.Token("config-sensor"), p.Token("config-dashboard")}
	p.Start()
	return s
}

const otherLimitsInConfig = "limits: {sessions_per_subject: 1, session: {" + otherLimits + "}}\n"

func limitsFromTokenFile(t *testing.T, upstream string) limitsStory {
	p := harness.NewProxy(t, upstream+otherLimitsInConfig)
	s := limitsStory{p, "file", p.Token("file-sensor"), p.Token("file-dashboard")}
	setLimits(t, p, `{"sessions":2,`+sessionLimits+`}`)
	p.Start()
	return s
}

func limitsFromService(t *testing.T, upstream string) limitsStory {
	service := harness.StartTokenService(t, func(q harness.Question) harness.Reply {
		return harness.ReplyJSON(`{"result":"allow","subject":%q,"limits":{"sessions":2,`+sessionLimits+`}}`, strings.TrimSuffix(q.Token, harness.SecretTail))
	})
	p := harness.NewProxy(t, upstream+otherLimitsInConfig+service.Auth())
	p.AddSecret(harness.SecretTail)
	p.Start()
	return limitsStory{p, "service", "service-sensor" + harness.SecretTail, "service-dashboard" + harness.SecretTail}
}

func limitsFromJWT(t *testing.T, upstream string) limitsStory {
	issuer := harness.NewIssuer(t, "key")
	service, publish := harness.PublishKeys(t)
	publish(issuer.Keys())
	service.Start()
	p := harness.NewProxy(t, upstream+otherLimitsInConfig+strings.Replace(harness.JWTAuth(service), "acl: rights", "limits: bounds", 1))
	token := func(subject string) string {
		claims := harness.Claims(subject)
		claims["bounds"] = json.RawMessage(`{"sessions":2,` + sessionLimits + `}`)
		return issuer.Sign(p, claims)
	}
	p.Start()
	return limitsStory{p, "jwt", token("jwt-sensor"), token("jwt-dashboard")}
}

func (s limitsStory) as(token, version string, args ...string) []string {
	return slices.Concat(s.ClientArgs(token), []string{"-V", version}, args)
}

// testMessages: before MQTT 5.0 a message over a limit is acknowledged and dropped. mosquitto_pub
// with 5.0 knows the limits from the CONNACK: it sends no such message, and retained ones
// without the flag.
func (s limitsStory) testMessages(t *testing.T, version string) {
	t.Helper()
	topic := s.source + "/messages/" + version
	sub := harness.Subscribe(t, s.as(s.dashboard, version, "-q", "1", "-t", topic)...)
	publish := func(args ...string) {
		t.Helper()
		harness.Publish(t, s.as(s.sensor, version, append(args, "-t", topic)...)...)
	}
	publish("-q", "1", "-m", "first")
	publish("-q", "2", "-m", "over max_qos")
	publish("-q", "1", "-m", "retained", "-r")
	publish("-q", "1", "-m", strings.Repeat("over max_packet ", 200))
	publish("-q", "0", "-m", "last")
	want := []string{"1 first", "0 last"}
	if version == "mqttv5" {
		want = slices.Insert(want, 1, "1 retained")
	}
	var got []string
	for _, m := range sub.Messages(len(want)) {
		if m.Retain != "0" {
			t.Errorf("%s: %s is retained", version, m.Payload)
		}
		got = append(got, m.QoS+" "+unhex(t, m.Payload))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: received %q, want %q", version, got, want)
	}
	late := harness.Subscribe(t, s.as(s.dashboard, version, "-q", "1", "-t", topic)...)
	publish("-q", "1", "-m", "after all")
	if m := late.Messages(1)[0]; unhex(t, m.Payload) != "after all" {
		t.Errorf("%s: %q was retained", version, unhex(t, m.Payload))
	}
	late.Kill()
	sub.Kill()
}

func (s limitsStory) testWills(t *testing.T, version string, codes limitCodes) {
	t.Helper()
	for i, will := range [][]string{{"--will-qos", "2"}, {"--will-retain"}, {"--will-payload", strings.Repeat("x", 3000)}} {
		args := append([]string{"-t", "wills", "-m", "never sent", "--will-topic", "gone"}, will...)
		if r := harness.MosquittoPub(t, s.as(s.sensor, version, args...)...); r.Status != codes.will[i] {
			t.Errorf("%s: %.20s: status %d, want %d\n%s", version, will, r.Status, codes.will[i], r.Output())
		}
	}
	harness.Publish(t, s.as(s.sensor, version, "-t", "wills", "-m", "sent", "--will-topic", "gone", "--will-qos", "1")...)
}

func (s limitsStory) testSubscriptions(t *testing.T, version string, codes limitCodes) {
	t.Helper()
	sub := harness.Subscribe(t, s.as(s.sensor, version, "-q", "2", "-t", s.source+"/one", "-t", s.source+"/two/+", "-t", s.source+"/three")...)
	want := fmt.Sprintf(": 1, 1, %d\n", codes.subscription)
	sub.Await(t, sub.Stdout, "codes of the SUBACK,"+want, func(text string) bool { return strings.Contains(text, "Subscribed (mid: 1)"+want) })
	harness.Publish(t, s.as(s.dashboard, version, "-t", s.source+"/three", "-m", "not subscribed")...)
	harness.Publish(t, s.as(s.dashboard, version, "-t", s.source+"/two/x", "-m", "subscribed")...)
	if m := sub.Messages(1)[0]; m.Topic != s.source+"/two/x" {
		t.Errorf("%s: a message on %s", version, m.Topic)
	}
	sub.Kill()
}

// testRates: messages over a rate arrive late, all of them and in order.
func (s limitsStory) testRates(t *testing.T, version string) {
	t.Helper()
	for name, of := range map[string]struct{ messages, size int }{
		"publish_rate": {40, 10},   // 10 at once, 30 at 40 a second
		"byte_rate":    {10, 2000}, // 12,000 bytes at once, more than 8,000 at 12,000 a second
	} {
		topic := s.source + "/rates/" + version + "/" + name
		sub := harness.Subscribe(t, s.as(s.dashboard, version, "-q", "1", "-t", topic)...)
		var want []string
		for i := range of.messages {
			want = append(want, fmt.Sprintf("%0*d", of.size, i))
		}
		start := time.Now()
		pub := harness.Command{
			Args:  append([]string{harness.Need(t, "mosquitto_pub")}, s.as(s.sensor, version, "-q", "1", "-t", topic, "-l")...),
			Stdin: strings.Join(want, "\n") + "\n",
		}
		if r := pub.Run(t); r.Status != 0 {
			t.Fatalf("%s: %s: status %d\n%s", version, name, r.Status, r.Output())
		}
		var got []string
		for _, m := range sub.Messages(of.messages) {
			got = append(got, unhex(t, m.Payload))
		}
		if took := time.Since(start); took < 600*time.Millisecond {
			t.Errorf("%s: %s: took %v, want at least 0.6 s", version, name, took)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %s: %d messages arrived that are not the %d sent, in order", version, name, len(got), len(want))
		}
		sub.Kill()
	}
}

func (s limitsStory) connectPaho(ctx context.Context, t *testing.T) pahoClient {
	t.Helper()
	return connectPaho(ctx, t, s.Plain, &paho.Connect{ClientID: "paho", Username: s.sensor})
}

// testPaho: a client of MQTT 5.0 learns the limits from the CONNACK, and its filters are counted.
// None of its messages is lost because of the rate.
func (s limitsStory) testPaho(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	c, topic := s.connectPaho(ctx, t), s.source+"/paho"
	announced := c.connack.Properties
	if size, qos := announced.MaximumPacketSize, announced.MaximumQoS; size == nil || *size != 3000 || qos == nil || *qos != 1 || announced.RetainAvailable {
		t.Errorf("the CONNACK has %v", announced)
	}
	r, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 2}, {Topic: "b"}, {Topic: "c"}}})
	if r == nil || !slices.Equal(r.Reasons, []byte{1, 0, 0x97}) {
		t.Errorf("the SUBACK is %+v, %v", r, err)
	}
	if _, err := c.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{"b"}}); err != nil {
		t.Error(err)
	}
	if err := c.subscribe(ctx, "c", nil); err != nil {
		t.Errorf("in the place of a filter that was unsubscribed: %v", err)
	}
	start := time.Now()
	const messages = 25
	for i := range messages {
		if _, err := c.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range messages {
		if got := string(c.next(ctx, t).Payload); got != strconv.Itoa(i) {
			t.Errorf("message %d is %s", i, got)
		}
	}
	if took := time.Since(start); took < 350*time.Millisecond {
		t.Errorf("%d messages took %v, want at least 0.35 s", messages, took)
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Error(err)
	}
}

// testDisconnects: a message over a limit that the CONNACK has announced ends the session.
func (s limitsStory) testDisconnects(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	for _, over := range []struct {
		code byte
		p    pahopackets.Publish
	}{
		{0x9B, pahopackets.Publish{QoS: 2, PacketID: 9}},
		{0x9A, pahopackets.Publish{Retain: true}},
		{0x95, pahopackets.Publish{Payload: make([]byte, 3000)}},
	} {
		c := s.connectPaho(ctx, t)
		over.p.Topic, over.p.Properties = "t", &pahopackets.Properties{}
		_, _ = over.p.WriteTo(c.conn) // in pieces, and the first may end the session
		select {
		case code := <-c.ended:
			if code != over.code {
				t.Errorf("DISCONNECT %#x, want %#x", code, over.code)
			}
		case <-ctx.Done():
			t.Fatalf("no DISCONNECT %#x", over.code)
		}
	}
}

// testPing: PINGREQ is answered after everything that was sent before it.
func (s limitsStory) testPing(t *testing.T) {
	t.Helper()
	for _, level := range []byte{4, 5} {
		d := s.Connect(t, level, "pinging", s.sensor)
		const messages = 40
		var sent []byte
		for i := range messages {
			p := packets.Publish{Topic: []byte("t"), QoS: 1, PacketID: uint16(i + 1)}
			sent = p.Append(sent, level)
		}
		start := time.Now()
		d.Send(append(sent, 0xC0, 0))
		for i := range messages {
			if ack := d.Expect(packets.PUBACK); ack.PacketID() != uint16(i+1) || ack.Code() >= 0x80 {
				t.Errorf("level %d: PUBACK of %d with %#x after %d others", level, ack.PacketID(), ack.Code(), i)
			}
		}
		d.Expect(packets.PINGRESP)
		if took := time.Since(start); took < 700*time.Millisecond {
			t.Errorf("level %d: PINGRESP after %v, want at least 0.7 s", level, took)
		}
		d.Disconnect()
	}
}

// testSessions: a third session of a device ends the oldest.
func (s limitsStory) testSessions(t *testing.T) {
	t.Helper()
	oldest := s.Connect(t, 5, "first", s.sensor)
	second := s.Connect(t, 4, "second", s.sensor)
	second.Ping()
	oldest.Ping()
	third := s.Connect(t, 5, "third", s.sensor)
	if code, err := oldest.AwaitEnd(harness.Patience); err != nil || code != packets.SessionTakenOver {
		t.Errorf("the oldest session ended with %#x, %v", code, err)
	}
	second.Ping()
	second.Disconnect()
	third.Disconnect()
}

// testCounts: what was denied and held is shown for the session and in the metrics.
func (s limitsStory) testCounts(t *testing.T) {
	t.Helper()
	denied := func(kind string) float64 {
		return harness.Metric(t, s.Proxy, fmt.Sprintf(`mqtt_auth_proxy_topics_denied_total{kind=%q,listener="plain"}`, kind))
	}
	publishes, filters, holds := denied("publish"), denied("subscribe"), harness.Metric(t, s.Proxy, "mqtt_auth_proxy_session_holds_total")
	d := s.Connect(t, 4, "counted", s.sensor)
	for i := range 3 {
		p := packets.Publish{Topic: []byte("t"), Retain: true, QoS: 1, PacketID: uint16(i + 1)}
		d.Send(p.Append(nil, 4))
		d.ExpectAck(packets.PUBACK, uint16(i+1), 0)
	}
	for _, filter := range []string{"a", "b", "c", "d"} {
		d.Subscribe(filter, 0)
	}
	for range 20 {
		p := packets.Publish{Topic: []byte("t")}
		d.Send(p.Append(nil, 4))
	}
	d.Ping()
	harness.Eventually(t, "a count of 3 messages and 2 filters as denied", func() bool {
		return denied("publish")-publishes == 3 && denied("subscribe")-filters == 2
	})
	if n := harness.Metric(t, s.Proxy, "mqtt_auth_proxy_session_holds_total") - holds; n < 1 {
		t.Errorf("%v holds are counted", n)
	}
	row := s.listSession(t, "counted")
	if n, err := strconv.Atoi(row["HOLDS"]); row["DENIED"] != "5" || err != nil || n < 1 {
		t.Errorf("sessions list shows %v", row)
	}
	d.Disconnect()
}

// listSession returns the columns DENIED and HOLDS of a session in the output of sessions list.
func (s limitsStory) listSession(t *testing.T, clientID string) map[string]string {
	t.Helper()
	r := harness.Run(t, harness.Binary(), "sessions", "list", "--config", s.Config, "--client-id", clientID)
	lines := strings.Split(strings.TrimSpace(r.Stdout), "\n")
	if r.Status != 0 || len(lines) != 2 {
		t.Fatalf("sessions list: status %d\n%s", r.Status, r.Output())
	}
	row := make(map[string]string)
	for _, column := range []string{"DENIED ", "HOLDS "} {
		value, _, _ := strings.Cut(lines[1][strings.Index(lines[0], column):], " ")
		row[strings.TrimSpace(column)] = value
	}
	return row
}
