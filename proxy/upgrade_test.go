package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/websocket"
)

// webSocket is a listener for MQTT over WebSocket.
func webSocket() *listenerSettings {
	return &listenerSettings{name: "ws", ws: &websocket.Endpoint{Paths: []string{"/mqtt"}, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
}

const browser = "192.0.2.50:50000"

// wsClient is a client that frames what it sends.
type wsClient struct {
	*packetstest.Client
	t *testing.T
	r *bufio.Reader
}

// handshake is the request that opens a connection; more are header fields.
func handshake(target string, more ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n" + strings.Join(append(more, ""), "\r\n") + "\r\n"
}

// openWebSocket connects and returns once the server speaks WebSocket.
func (b *bench) openWebSocket(from, request string) *wsClient {
	b.t.Helper()
	c := b.connectFrom(webSocket(), from)
	c.Send([]byte(request))
	w := &wsClient{Client: c, t: b.t, r: bufio.NewReader(c)}
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-WebSocket-Protocol") != "mqtt" {
		b.t.Fatalf("answer %v, %v", resp, err)
	}
	return w
}

// frame sends a frame; its mask is zero, which is one.
func (w *wsClient) frame(first byte, payload []byte) {
	w.t.Helper()
	w.Send(append([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...))
}

// next returns the first byte and the payload of the next frame.
func (w *wsClient) next() (byte, []byte) {
	w.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil || head[1] > 125 {
		w.t.Fatalf("frame % x, %v", head, err)
	}
	payload := make([]byte, head[1])
	if _, err := io.ReadFull(w.r, payload); err != nil {
		w.t.Fatal(err)
	}
	return head[0], payload
}

func (w *wsClient) wantData(want []byte) {
	w.t.Helper()
	if first, got := w.next(); first != 0x82 || !bytes.Equal(got, want) {
		w.t.Errorf("frame %#x with % x, want % x", first, got, want)
	}
}

// wantClose wants a Close frame, answers it, and wants the end.
func (w *wsClient) wantClose(code int) {
	w.t.Helper()
	first, payload := w.next()
	if first != 0x88 || len(payload) != 2 || int(binary.BigEndian.Uint16(payload)) != code {
		w.t.Errorf("frame %#x with % x, want Close with code %d", first, payload, code)
	}
	w.Close()
}

// loginWebSocket connects a client that must be let in.
func (b *bench) loginWebSocket(level byte) *wsClient {
	b.t.Helper()
	w := b.openWebSocket(browser, handshake("/mqtt"))
	p := with(level, "web", goodToken)
	w.frame(0x82, p.Append(nil))
	w.wantData((&packets.Connack{}).Append(nil, level))
	return w
}

func TestWebSocketSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		w := b.openWebSocket(browser, handshake("/mqtt"))
		p := with(5, "web", goodToken)
		raw := p.Append(nil)
		// A packet in two frames, and then two packets in one.
		w.frame(0x82, raw[:7])
		w.frame(0x82, raw[7:])
		w.wantData((&packets.Connack{}).Append(nil, 5))
		w.frame(0x82, append(bytes.Clone(ping), publish...))
		var echoed []byte
		for len(echoed) < len(ping)+len(publish) {
			_, part := w.next()
			echoed = append(echoed, part...)
		}
		if !bytes.Equal(echoed, append(bytes.Clone(ping), publish...)) {
			t.Errorf("got % x back", echoed)
		}
		w.frame(0x89, []byte("hi"))
		if first, payload := w.next(); first != 0x8A || string(payload) != "hi" {
			t.Errorf("a ping is answered with %#x %q", first, payload)
		}
		w.frame(0x88, []byte{0x03, 0xE8})
		w.wantClose(1000)
		if e := b.lastEnd(); e.By != "client" || e.Err != nil || e.Up != int64(len(echoed)) {
			t.Errorf("end %+v", e)
		}
	})
}

func TestWebSocketEnds(t *testing.T) {
	for _, tt := range []struct {
		cause error
		mqtt  byte
		code  int
	}{
		{ErrRevoked, 0x98, 1008}, {ErrExpired, 0x87, 1008}, {ErrKicked, 0x98, 1008}, {ErrDisplaced, 0x8E, 1008}, {ErrUpstreamLost, 0x8B, 1001},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			w := b.loginWebSocket(5)
			b.srv.Kick(anyClient, tt.cause)
			first, payload := w.next()
			if first != 0x82 || len(payload) < 3 || payload[0] != 0xE0 || payload[2] != tt.mqtt {
				t.Errorf("%v: frame %#x with % x", tt.cause, first, payload)
			}
			w.wantClose(tt.code)
			b.lastEnd()
		})
	}
}

func TestWebSocketDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		w := b.loginWebSocket(4)
		go b.srv.Shutdown(context.Background())
		w.wantClose(1001)
		b.lastEnd()
	})
}

func TestWebSocketRefusal(t *testing.T) {
	for _, tt := range []struct {
		name     string
		frames   func(*wsClient)
		answered []byte
		code     int
		want     Reason
	}{
		{"wrong token", func(w *wsClient) { p := with(4, "web", "wrong"); w.frame(0x82, p.Append(nil)) }, []byte{0x20, 2, 0, 5}, 1008, "unknown_token"},
		{"wrong token, 5.0", func(w *wsClient) { p := with(5, "web", "wrong"); w.frame(0x82, p.Append(nil)) }, []byte{0x20, 3, 0, 0x86, 0}, 1008, "unknown_token"},
		{"not MQTT", func(w *wsClient) { w.frame(0x82, []byte("hello")) }, nil, 1002, NotMQTT},
		{"text", func(w *wsClient) { w.frame(0x81, []byte("hello")) }, nil, 1003, HTTPRefused},
		{"no mask", func(w *wsClient) { w.Send([]byte{0x82, 0}) }, nil, 1002, HTTPRefused},
		{"silence", func(*wsClient) {}, nil, 1008, ConnectTimeout},
		{"close", func(w *wsClient) { w.frame(0x88, nil) }, nil, 1000, ConnectionLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				w := b.openWebSocket(browser, handshake("/mqtt"))
				go tt.frames(w)
				if tt.answered != nil {
					w.wantData(tt.answered)
				}
				w.wantClose(tt.code)
				if r := b.lastRefusal(); r.Reason != tt.want {
					t.Errorf("refused as %v (%v), want %v", r.Reason, r.Err, tt.want)
				}
				if b.broker.lastConnect() != nil {
					t.Error("the broker was reached")
				}
			})
		})
	}
}

func TestHTTPRefusal(t *testing.T) {
	p := with(4, "web", goodToken)
	for _, tt := range []struct {
		name, sent, answer string
		want               Reason
	}{
		{"other path", handshake("/?token=hunter2"), "HTTP/1.1 404 ", HTTPRefused},
		{"foreign page", handshake("/mqtt?token=hunter2", "Origin: https://evil.example"), "HTTP/1.1 403 ", HTTPRefused},
		{"plain request", "GET /mqtt HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer hunter2\r\n\r\n", "HTTP/1.1 426 ", HTTPRefused},
		{"MQTT without WebSocket", string(p.Append(nil)), "", NotMQTT},
		{"half a request", "GET /mqtt HTTP/1.1\r\n", "", ConnectTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				c := b.connectFrom(webSocket(), browser)
				go c.Write([]byte(tt.sent))
				line, err := bufio.NewReader(c).ReadString('\n')
				if !strings.HasPrefix(line, tt.answer) || tt.answer == "" && !errors.Is(err, io.EOF) {
					t.Errorf("answered %q, %v; want %q", line, err, tt.answer)
				}
				c.Close()
				r := b.lastRefusal()
				if r.Reason != tt.want || strings.Contains(fmt.Sprint(r), "hunter2") {
					t.Errorf("refused as %v (%v), want %v", r.Reason, r.Err, tt.want)
				}
			})
		})
	}
}

// TestSlowRequest: header, request and CONNECT have one time together.
func TestSlowRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		c := b.connectFrom(webSocket(), browser)
		b.sendUntilTimeout(c, handshake("/mqtt"), 400*time.Millisecond)
	})
}

func TestForwardedAddress(t *testing.T) {
	for from, want := range map[string]string{"10.0.0.9:40000": "198.51.100.7:0", browser: browser} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			w := b.openWebSocket(from, handshake("/mqtt", "X-Forwarded-For: 1.1.1.1, 198.51.100.7"))
			p := with(4, "web", goodToken)
			w.frame(0x82, p.Append(nil))
			w.next()
			synctest.Wait()
			if got := b.opened[0].Addr.String(); got != want {
				t.Errorf("from %s: the session's address is %s, want %s", from, got, want)
			}
		})
	}
}

func TestTokenOfTheRequest(t *testing.T) {
	for _, tt := range []struct {
		name, location, target string
		fields                 []string
		code                   byte
		want                   Reason // empty: let in
	}{
		{"bearer", "websocket_header", "/mqtt", []string{"Authorization: Bearer " + goodToken}, 0, ""},
		{"header", "websocket_header:X-Token", "/mqtt", []string{"x-token: " + goodToken}, 0, ""},
		{"query", "query:token", "/mqtt?a=b&token=good%2Dalpha", nil, 0, ""},
		{"wrong", "query:token", "/mqtt?token=hunter2", nil, 5, "unknown_token"},
		{"none", "query:token", "/mqtt", nil, 2, NoToken},
		{"empty", "query:token", "/mqtt?token=", nil, 5, MalformedToken},
		{"twice", "query:token", "/mqtt?token=good-alpha&token=hunter2", nil, 5, MalformedToken},
		{"other scheme", "websocket_header", "/mqtt", []string{"Authorization: Basic aHVudGVyMg=="}, 2, NoToken},
		{"twice in headers", "websocket_header", "/mqtt", []string{"Authorization: Bearer good-alpha", "Authorization: Bearer hunter2"}, 5, MalformedToken},
		{"empty and then a user name", "query:token,username", "/mqtt?token=", nil, 5, "unknown_token"},
		{"empty and then a header", "websocket_header,websocket_header:X-Token", "/mqtt", []string{"Authorization: Bearer", "X-Token: " + goodToken}, 0, ""},
		{"twice and then a user name", "query:token,username", "/mqtt?token=&token=hunter2", nil, 5, MalformedToken},
		{"a certificate's", "query:token", "/mqtt?token=certificate:00", nil, 5, MalformedToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				for place := range strings.SplitSeq(tt.location, ",") {
					location, err := ParseTokenLocation(place)
					if err != nil || location.String() != place {
						t.Fatal(location, err)
					}
					b.policy.Token = append(b.policy.Token, location)
				}
				var asked authz.Request
				b.policy.Authorizer = authorizerFunc(func(ctx context.Context, r authz.Request) (*authz.Grant, error) {
					asked = r
					return knowsGood(ctx, r)
				})
				w := b.openWebSocket(browser, handshake(tt.target, tt.fields...))
				p := with(4, "web", "user")
				w.frame(0x82, p.Append(nil))
				w.wantData([]byte{0x20, 2, 0, tt.code})
				if tt.want == "" {
					if asked.Username != "user" || asked.Token.Reveal() != goodToken {
						t.Errorf("asked %+v", asked)
					}
					return
				}
				w.wantClose(1008)
				if r := b.lastRefusal(); r.Reason != tt.want || strings.Contains(fmt.Sprint(r), "hunter2") {
					t.Errorf("refused as %v (%v), want %v", r.Reason, r.Err, tt.want)
				}
			})
		})
	}
}

// TestConnectRateBehindReverseProxy: its clients are paced one by one, and it itself
// is not.
func TestConnectRateBehindReverseProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.policy.Limits.AddressRate = Rate{PerSecond: 1}
		codes := ""
		for _, client := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.1"} {
			w := b.openWebSocket("10.0.0.9:40000", handshake("/mqtt", "X-Forwarded-For: "+client))
			p := with(4, "web-"+client, goodToken)
			w.frame(0x82, p.Append(nil))
			_, ack := w.next()
			codes += string('0' + rune(ack[3]))
		}
		if r := b.lastRefusal(); codes != "0003" || r.Reason != RateExceeded || r.Addr.String() != "198.51.100.1:0" {
			t.Errorf("codes %s, the last refusal is %v of %v", codes, r.Reason, r.Addr)
		}
	})
}
