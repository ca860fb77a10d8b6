package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
)

// get returns the request of a correct client. Each pair of name and value replaces a header
// field or adds one.
func get(target string, fields ...string) string {
	header := []string{
		"Host", "broker.example:8084", "Upgrade", "websocket", "Connection", "Upgrade",
		"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Protocol", "mqtt",
	}
	text := "GET " + target + " HTTP/1.1\r\n"
	for i := 0; i < len(header); i += 2 {
		replaced := false
		for j := 0; j < len(fields); j += 2 {
			replaced = replaced || fields[j] == header[i]
		}
		if !replaced {
			text += header[i] + ": " + header[i+1] + "\r\n"
		}
	}
	for j := 0; j < len(fields); j += 2 {
		if fields[j+1] != "" {
			text += fields[j] + ": " + fields[j+1] + "\r\n"
		}
	}
	return text + "\r\n"
}

func TestAccept(t *testing.T) {
	many := make([]string, 0, 220)
	for i := range 110 {
		many = append(many, fmt.Sprintf("X-%d", i), "x")
	}
	for _, tt := range []struct {
		name, raw string
		status    int
	}{
		{"good", get("/mqtt"), 101},
		{"good, at another path", get("/"), 101},
		{"good, with a query", get("/mqtt?token=secret"), 101},
		{"several connection options", get("/mqtt", "Connection", "keep-alive, Upgrade"), 101},
		{"upper case", get("/mqtt", "Upgrade", "WebSocket", "Connection", "upgrade"), 101},
		{"MQTT 3.1", get("/mqtt", "Sec-WebSocket-Protocol", "mqttv3.1"), 101},
		{"several subprotocols", get("/mqtt", "Sec-WebSocket-Protocol", "chat, mqttv3.1, mqtt"), 101},
		{"extensions offered", get("/mqtt", "Sec-WebSocket-Extensions", "permessage-deflate"), 101},
		{"large cookie", get("/mqtt", "Cookie", strings.Repeat("c", 15<<10)), 101},
		{"page of the host", get("/mqtt", "Origin", "https://broker.example"), 101},
		{"page of the host, in capitals", get("/mqtt", "Origin", "https://Broker.Example:3000"), 101},
		{"listed page", get("/mqtt", "Origin", "https://app.example"), 101},
		{"page below a listed domain", get("/mqtt", "Origin", "https://a.b.apps.example"), 101},

		{"foreign page", get("/mqtt", "Origin", "https://evil.example"), 403},
		{"listed page, other scheme", get("/mqtt", "Origin", "http://app.example"), 403},
		{"listed page, other port", get("/mqtt", "Origin", "https://app.example:1"), 403},
		{"page that only ends like a listed one", get("/mqtt", "Origin", "https://evilapps.example"), 403},
		{"listed domain itself", get("/mqtt", "Origin", "https://apps.example"), 403},
		{"page with a trick", get("/mqtt", "Origin", "https://evil.example/.apps.example"), 403},
		{"page with another trick", get("/mqtt", "Origin", "https://evil.example?broker.example"), 403},
		{"page of no origin", get("/mqtt", "Origin", "null"), 403},
		{"two origins", get("/mqtt", "Origin", "https://app.example", "Origin", "https://app.example"), 400},
		{"other path", get("/other"), 404},
		{"app of a file", get("/mqtt", "Origin", "file://"), 101},
		{"app of its own scheme", get("/mqtt", "Origin", "app://."), 101},
		{"app of another scheme", get("/mqtt", "Origin", "ionic://."), 403},
		{"app of another host", get("/mqtt", "Origin", "app://.evil.example"), 403},
		{"path goes on", get("/mqtt/"), 404},
		{"browser's address bar", get("/mqtt", "Upgrade", "", "Connection", "keep-alive"), 426},
		{"other upgrade", get("/mqtt", "Upgrade", "h2c"), 426},
		{"old version", get("/mqtt", "Sec-WebSocket-Version", "8"), 426},
		{"no key", get("/mqtt", "Sec-WebSocket-Key", ""), 400},
		{"two keys", get("/mqtt", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), 400},
		{"short key", get("/mqtt", "Sec-WebSocket-Key", "c2hvcnQ="), 400},
		{"no subprotocol", get("/mqtt", "Sec-WebSocket-Protocol", ""), 400},
		{"other subprotocol", get("/mqtt", "Sec-WebSocket-Protocol", "chat"), 400},
		{"body", get("/mqtt", "Content-Length", "5"), 400},
		{"chunked body", get("/mqtt", "Transfer-Encoding", "chunked"), 400},
		{"POST", strings.Replace(get("/mqtt"), "GET", "POST", 1), 405},
		{"HTTP/1.0", strings.Replace(get("/mqtt"), "HTTP/1.1", "HTTP/1.0", 1), 400},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", 404},
		{"query that cannot be read", get("/mqtt?a=%zz"), 400},
		{"two hosts", get("/mqtt", "Host", "a", "Host", "b"), 400},
		{"not a request", "HELLO\r\n\r\n", 400},
		{"frames before the answer", get("/mqtt") + "\x82\x80", 400},
		{"too many fields", get("/mqtt", many...), 431},
		{"too large", get("/mqtt", "Cookie", strings.Repeat("c", 17<<10)), 431},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Endpoint{Paths: []string{"/mqtt", "/"}, Origins: []string{"https://app.example", "https://*.apps.example", "file://", "app://."}}
			p := &pipe{r: strings.NewReader(tt.raw)}
			conn, request, err := e.Accept(p, netip.MustParseAddr("192.0.2.1"))
			answer, parseErr := http.ReadResponse(bufio.NewReader(&p.written), nil)
			if parseErr != nil {
				t.Fatalf("answer: %v (error %v)", parseErr, err)
			}
			if answer.StatusCode != tt.status || (conn != nil) != (tt.status == 101) || (request != nil) != (tt.status == 101) {
				t.Errorf("status %d, error %v; want %d", answer.StatusCode, err, tt.status)
			}
			var refused *StatusError
			if errors.As(err, &refused) != (tt.status != 101) || refused != nil && refused.Status != tt.status {
				t.Errorf("error %v", err)
			}
			body, err := io.ReadAll(answer.Body)
			if err != nil || refused != nil && string(body) != refused.Text+"\n" {
				t.Errorf("body %q, %v", body, err)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	for offered, want := range map[string]string{"mqtt": "mqtt", "mqttv3.1": "mqttv3.1", "mqttv3.1, mqtt": "mqtt"} {
		p := &pipe{r: iotest.OneByteReader(strings.NewReader(get("/mqtt", "Sec-WebSocket-Protocol", offered)))}
		if _, _, err := (&Endpoint{Paths: []string{"/mqtt"}}).Accept(p, netip.Addr{}); err != nil {
			t.Fatal(err)
		}
		// The key and its answer are from RFC 6455 section 1.3.
		if want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: " + want + "\r\n\r\n"; p.written.String() != want {
			t.Errorf("answered %q", p.written.String())
		}
	}
}

func TestNotHTTP(t *testing.T) {
	for name, tt := range map[string]struct {
		raw  string
		want error
	}{
		"MQTT":    {"\x10\x0c\x00\x04MQTT", ErrNotHTTP},
		"TLS":     {"\x16\x03\x01", ErrNotHTTP},
		"nothing": {"", io.EOF},
		"half":    {"GET /mqtt HTTP/1.1\r\nHost", io.ErrUnexpectedEOF},
	} {
		p := &pipe{r: strings.NewReader(tt.raw)}
		if _, _, err := (&Endpoint{Paths: []string{"/mqtt"}}).Accept(p, netip.Addr{}); !errors.Is(err, tt.want) || p.written.Len() > 0 {
			t.Errorf("%s: %v, answered %q", name, err, p.written.String())
		}
	}
}

func TestRefusalsRepeatNoSecret(t *testing.T) {
	for _, raw := range []string{get("/mqtt/hunter2"), get("/mqtt?token=hunter2", "Origin", "https://evil.example"), get("/mqtt?hunter2=%zz"),
		get("/mqtt", "Authorization", "Bearer hunter2", "Upgrade", "")} {
		p := &pipe{r: strings.NewReader(raw)}
		_, _, err := (&Endpoint{Paths: []string{"/mqtt"}}).Accept(p, netip.Addr{})
		if err == nil || strings.Contains(err.Error()+p.written.String(), "hunter2") {
			t.Errorf("%v, answered %q", err, p.written.String())
		}
	}
}

func TestClientAddress(t *testing.T) {
	const proxy = "10.0.0.1"
	for _, tt := range []struct {
		name   string
		peer   string
		fields []string
		want   string
		status int
	}{
		{"nothing told", proxy, nil, "", 101},
		{"not trusted", "192.0.2.9", []string{"X-Forwarded-For", "198.51.100.7"}, "", 101},
		{"trusted", proxy, []string{"X-Forwarded-For", "198.51.100.7"}, "198.51.100.7", 101},
		{"client's own entry before", proxy, []string{"X-Forwarded-For", "1.1.1.1, 198.51.100.7"}, "198.51.100.7", 101},
		{"two fields", proxy, []string{"X-Forwarded-For", "1.1.1.1", "X-Forwarded-For", "198.51.100.7"}, "198.51.100.7", 101},
		{"chain of trusted", proxy, []string{"X-Forwarded-For", "junk, 198.51.100.7, 10.0.0.2, 10.0.0.3"}, "198.51.100.7", 101},
		{"all trusted", proxy, []string{"X-Forwarded-For", "10.0.0.2, 10.0.0.3"}, "10.0.0.2", 101},
		{"with a port", proxy, []string{"X-Forwarded-For", "198.51.100.7:5000"}, "198.51.100.7", 101},
		{"IPv6", proxy, []string{"X-Forwarded-For", "2001:db8::7"}, "2001:db8::7", 101},
		{"IPv6 with a port", proxy, []string{"X-Forwarded-For", "[2001:db8::7]:5000"}, "2001:db8::7", 101},
		{"IPv4 in IPv6", proxy, []string{"X-Forwarded-For", "::ffff:198.51.100.7"}, "198.51.100.7", 101},
		{"junk", proxy, []string{"X-Forwarded-For", "unknown"}, "", 400},
		{"empty", proxy, []string{"X-Forwarded-For", "198.51.100.7,"}, "", 400},
		{"Forwarded", proxy, []string{"Forwarded", `for=198.51.100.7;proto=https`}, "198.51.100.7", 101},
		{"Forwarded, quoted", proxy, []string{"Forwarded", `for=1.1.1.1, proto=https; For="[2001:db8::7]:5000"`}, "2001:db8::7", 101},
		{"Forwarded without for", proxy, []string{"Forwarded", `proto=https`}, "", 400},
		{"both say the same", proxy, []string{"Forwarded", "for=198.51.100.7", "X-Forwarded-For", "198.51.100.7"}, "198.51.100.7", 101},
		{"they contradict", proxy, []string{"Forwarded", "for=1.1.1.1", "X-Forwarded-For", "198.51.100.7"}, "", 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Endpoint{Paths: []string{"/mqtt"}, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
			p := &pipe{r: strings.NewReader(get("/mqtt", tt.fields...))}
			_, r, err := e.Accept(p, netip.MustParseAddr(tt.peer))
			var refused *StatusError
			switch {
			case errors.As(err, &refused):
				if refused.Status != tt.status {
					t.Error(err)
				}
			case err != nil || tt.status != 101:
				t.Errorf("%v, want status %d", err, tt.status)
			case tt.want == "" && r.Client.IsValid() || tt.want != "" && r.Client.String() != tt.want:
				t.Errorf("the client is %v, want %q", r.Client, tt.want)
			}
		})
	}
}

func TestRequestHeadersAndQuery(t *testing.T) {
	p := &pipe{r: strings.NewReader(get("/mqtt?token=a%20b&token=c&x", "Authorization", "bearer  secret ", "X-Token", "t"))}
	_, r, err := (&Endpoint{Paths: []string{"/mqtt"}}).Accept(p, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.Query("token"), r.Query("none"), r.Bearer(), r.Header("x-token"), r.Header("none")); got != "[a b c] [] [secret] [t] []" {
		t.Error(got)
	}
	p = &pipe{r: strings.NewReader(get("/mqtt", "Authorization", "Basic dTpw"))}
	if _, r, _ = (&Endpoint{Paths: []string{"/mqtt"}}).Accept(p, netip.Addr{}); len(r.Bearer()) != 0 {
		t.Error("Basic credentials are taken for a token")
	}
}

func FuzzAccept(f *testing.F) {
	f.Add([]byte(get("/mqtt?a=b", "Origin", "https://app.example", "X-Forwarded-For", "1.1.1.1", "Forwarded", `for="[::1]:1"`)))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e := &Endpoint{Paths: []string{"/mqtt"}, Origins: []string{"https://*.example"}, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
		p := &pipe{r: bytes.NewReader(raw)}
		conn, request, err := e.Accept(p, netip.MustParseAddr("10.0.0.1"))
		if (conn == nil) != (err != nil) || (request == nil) != (err != nil) {
			t.Fatalf("%v, %v, %v", conn, request, err)
		}
		if err == nil && !bytes.HasPrefix(p.written.Bytes(), []byte("HTTP/1.1 101 ")) {
			t.Fatalf("accepted with %q", p.written.String())
		}
	})
}
