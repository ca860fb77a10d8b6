//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// conversations is the page of the manual with what devices and the bundled broker send each other.
// The test plays every block of code with this language.
const (
	conversations = "../cmd/mqtt-auth-proxy/DEVICES.md"
	conversation  = "```conversation"
)

// TestConversationsOfThePage: every conversation of the page is true, with MQTT 5.0 over TCP and
// over TLS (Paho), and with MQTT 3.1.1, where fewer codes exist.
func TestConversationsOfThePage(t *testing.T) {
	for _, tt := range []struct {
		name    string
		connect func(*testing.T, *harness.Proxy, string) (conversationClient, byte)
	}{
		{"5.0", func(t *testing.T, p *harness.Proxy, token string) (conversationClient, byte) {
			return connectV5(t, packetstest.Dial(t, p.Plain), token)
		}},
		{"5.0 over TLS", func(t *testing.T, p *harness.Proxy, token string) (conversationClient, byte) {
			return connectV5(t, p.DialTLS(t), token)
		}},
		{"3.1.1", func(t *testing.T, p *harness.Proxy, token string) (conversationClient, byte) {
			c, ack := p.Present(t, 4, "", token)
			return v311Client{c, t}, byte(ack.Code)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := harness.NewProxy(t, "")
			tokens := strings.NewReplacer("TOKEN-OF-GATEWAY", p.Token("gw-1", "--gateway"), "TOKEN", p.Token("pump-7"))
			p.Start()
			for _, b := range readConversations(t) {
				ok := t.Run(fmt.Sprint("line ", b.line), func(t *testing.T) {
					s := stage{t: t, proxy: p, old: tt.name == "3.1.1"}
					s.connect = func(token string) (conversationClient, byte) { return tt.connect(t, p, tokens.Replace(token)) }
					s.play(b.turns)
				})
				if !ok {
					return // the next ones rely on what is stored
				}
			}
		})
	}
}

// conversationClient is the client of a device. Its methods return the reason code of the answer.
type conversationClient interface {
	subscribe(filter string) byte
	publish(topic, payload string, qos byte) byte
	next() (topic, payload string)
	disconnect()
}

// turn is what one side sends: CONNECT and its answer CONNACK, SUBSCRIBE and SUBACK, PUBLISH and
// PUBACK, MESSAGE for what the broker publishes, and requests of HTTP with HTTP for their answers.
type turn struct {
	line             int
	verb, what, body string
}

type block struct {
	line  int
	turns []turn
}

// readConversations returns the conversations of the page. A turn begins in the first column. The
// lines after it that are indented are its body.
func readConversations(t *testing.T) (blocks []block) {
	t.Helper()
	inside := false
	for i, line := range strings.Split(harness.ReadFile(t, conversations), "\n") {
		switch {
		case line == conversation:
			inside = true
			blocks = append(blocks, block{line: i + 1})
		case strings.HasPrefix(line, "```"):
			inside = false
		case !inside:
		case strings.HasPrefix(line, " "):
			turns := blocks[len(blocks)-1].turns
			turns[len(turns)-1].body += strings.TrimSpace(line)
		default:
			verb, what, _ := strings.Cut(line, " ")
			b := &blocks[len(blocks)-1]
			b.turns = append(b.turns, turn{line: i + 1, verb: verb, what: strings.TrimSpace(what)})
		}
	}
	if len(blocks) < 10 {
		t.Fatalf("%s has %d conversations", conversations, len(blocks))
	}
	return blocks
}

// stage plays one conversation.
type stage struct {
	t       *testing.T
	proxy   *harness.Proxy
	connect func(token string) (conversationClient, byte)
	old     bool // MQTT 3.1.1

	device  conversationClient
	code    byte            // of the last answer of the broker
	number  string          // of the last call
	answers chan httpAnswer // of the last request
}

type httpAnswer struct {
	status int
	body   string
}

func (s *stage) play(turns []turn) {
	s.t.Helper()
	for _, u := range turns {
		if !s.t.Failed() {
			s.take(u)
		}
	}
	if s.device != nil && !s.t.Failed() {
		// What is not on the page must not come.
		s.device.subscribe("conversation/end")
		s.device.publish("conversation/end", "", 1)
		if topic, payload := s.device.next(); topic != "conversation/end" {
			s.t.Errorf("%s came on %s, which is not on the page", payload, topic)
		}
		s.device.disconnect() // or the next conversation would be with two sessions
		harness.Eventually(s.t, "the device has gone", func() bool { return s.proxy.HasMetric("mqtt_auth_proxy_bundled_clients 0") })
	}
}

func (s *stage) take(u turn) {
	s.t.Helper()
	where := fmt.Sprintf("line %d: %s %s", u.line, u.verb, u.what)
	switch u.verb {
	case "CONNECT":
		if s.device, s.code = s.connect(u.what); s.code != 0 {
			s.device = nil
		}
	case "SUBSCRIBE":
		s.code = s.device.subscribe(u.what)
	case "PUBLISH":
		topic := u.what
		if strings.HasSuffix(topic, "/N") && s.number != "" {
			topic = strings.TrimSuffix(topic, "N") + s.number
		}
		topic, atMostOnce := strings.CutSuffix(topic, " (QoS 0)")
		qos := byte(1)
		if atMostOnce {
			qos = 0
		}
		s.code = s.device.publish(topic, strings.ReplaceAll(u.body, `"id":N`, `"id":`+s.number), qos)
	case "CONNACK", "SUBACK", "PUBACK":
		if want := s.expectedCode(u); s.code != want {
			s.t.Errorf("%s: the code is %#x", where, s.code)
		}
	case "MESSAGE":
		topic, payload := s.device.next()
		match := pattern(u.what).FindStringSubmatch(topic)
		inBody := pattern(u.body).FindStringSubmatch(payload)
		if match == nil || inBody == nil {
			s.t.Fatalf("%s %s: got %s on %s", where, u.body, payload, topic)
		}
		for _, found := range append(match[1:], inBody[1:]...) {
			s.number = found
		}
	case http.MethodGet, http.MethodPost, http.MethodDelete:
		answers := make(chan httpAnswer, 1)
		s.answers = answers
		go func() {
			status, body := s.proxy.Request(u.verb, u.what, u.body)
			answers <- httpAnswer{status, strings.TrimSpace(body)}
		}()
	case "HTTP":
		if a := <-s.answers; fmt.Sprint(a.status) != u.what || !pattern(u.body).MatchString(a.body) {
			s.t.Errorf("%s %s: got %d %s", where, u.body, a.status, a.body)
		}
	default:
		s.t.Fatalf("%s: no turn begins like this", where)
	}
}

// expectedCode returns the code of an answer. The page has those of MQTT 5.0.
func (s *stage) expectedCode(u turn) byte {
	var code byte
	if _, err := fmt.Sscanf(u.what, "0x%02X", &code); err != nil {
		s.t.Fatalf("line %d: %v", u.line, err)
	}
	switch {
	case !s.old || code < 0x80:
		return code
	case u.verb == "CONNACK":
		return 5
	case u.verb == "SUBACK":
		return 0x80
	}
	return 0
}

// pattern returns what an expected text matches: three dots are any text, and N is a number that
// the proxy has chosen.
func pattern(text string) *regexp.Regexp {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(text), `\.\.\.`, ".*")
	quoted = regexp.MustCompile(`(/|"id":)N\b`).ReplaceAllString(quoted, `$1([0-9]+)`)
	return regexp.MustCompile("^" + quoted + "$")
}

// v5Client is the client of Paho, with MQTT 5.0, which ThingsBoard's client uses as well.
type v5Client struct {
	pahoClient
	ctx context.Context
	t   *testing.T
}

func connectV5(t *testing.T, conn net.Conn, token string) (conversationClient, byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	t.Cleanup(cancel)
	c, err := beginPaho(ctx, conn, &paho.Connect{Username: token})
	if err != nil && c.connack == nil {
		t.Fatal(err)
	}
	return v5Client{c, ctx, t}, c.connack.ReasonCode
}

func (c v5Client) subscribe(filter string) byte {
	c.t.Helper()
	ack, err := c.Subscribe(c.ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}})
	if ack == nil {
		c.t.Fatal(err)
	}
	return ack.Reasons[0]
}

func (c v5Client) publish(topic, payload string, qos byte) byte {
	c.t.Helper()
	ack, err := c.Publish(c.ctx, &paho.Publish{Topic: topic, QoS: qos, Payload: []byte(payload)})
	if err == nil && qos == 0 {
		return 0
	}
	if ack == nil {
		c.t.Fatal(err)
	}
	return ack.ReasonCode
}

func (c v5Client) next() (topic, payload string) {
	c.t.Helper()
	p := c.pahoClient.next(c.ctx, c.t)
	return p.Topic, string(p.Payload)
}

func (c v5Client) disconnect() {
	c.t.Helper()
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		c.t.Error(err)
	}
}

// v311Client is a client with MQTT 3.1.1.
type v311Client struct {
	*packetstest.Client
	t *testing.T
}

func (c v311Client) subscribe(filter string) byte {
	c.t.Helper()
	return byte(c.Subscribe(filter, 1))
}

func (c v311Client) publish(topic, payload string, qos byte) byte {
	c.t.Helper()
	if qos == 0 {
		c.Send((&packets.Publish{Topic: []byte(topic), Payload: []byte(payload)}).Append(nil, c.Level))
		return 0
	}
	if err := c.Publish(topic, payload); err != nil {
		c.t.Fatal(err)
	}
	return byte(packets.Success)
}

func (c v311Client) next() (topic, payload string) {
	c.t.Helper()
	p, err := c.Next(harness.Patience)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(p.Topic), string(p.Payload)
}

func (c v311Client) disconnect() { c.Disconnect() }
