//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// openWebSocket connects with another project's implementation.
func openWebSocket(t testing.TB, url string, trust *tls.Config, header http.Header) (*websocket.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: trust}
	t.Cleanup(transport.CloseIdleConnections)
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header, Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		return nil, err
	}
	if conn.Subprotocol() != "mqtt" {
		t.Errorf("the subprotocol is %q", conn.Subprotocol())
	}
	t.Cleanup(func() { conn.CloseNow() })
	return conn, nil
}

// dialWebSocket returns a WebSocket connection as a stream.
func dialWebSocket(t testing.TB, url string, trust *tls.Config) net.Conn {
	t.Helper()
	conn, err := openWebSocket(t, url, trust, nil)
	if err != nil {
		t.Fatal(err)
	}
	return websocket.NetConn(t.Context(), conn, websocket.MessageBinary)
}

// TestWebSocketBulk: large messages arrive unchanged, also after the session was idle for
// so long that it has no goroutine.
func TestWebSocketBulk(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, harness.StartMosquitto(t).Upstream())
	ws, wss := p.ListenForWebSocket()
	token := p.Token("device")
	p.Start()
	for name, url := range map[string]string{"ws": "ws://" + ws + "/mqtt", "wss": "wss://localhost:" + harness.Port(wss) + "/mqtt"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire, err := openWebSocket(t, url, p.ClientTLS(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			wire.SetReadLimit(-1)
			d := packetstest.Connect(t, websocket.NetConn(t.Context(), wire, websocket.MessageBinary), packetstest.Identity(4, name, token))
			d.MustSubscribe("bulk/"+name, 0)
			for round := range 2 {
				time.Sleep(time.Duration(round) * 5 * time.Second)
				payloads := make([][]byte, 40)
				for i := range payloads {
					payloads[i] = bytes.Repeat([]byte(fmt.Sprintf("%d-%d ", round, i)), 20_000)
				}
				go func() {
					for _, payload := range payloads {
						packet := packets.Publish{Topic: []byte("bulk/" + name), Payload: payload}
						if _, err := d.Conn.Write(packet.Append(nil, 4)); err != nil {
							return
						}
					}
				}()
				for i, payload := range payloads {
					if got, err := d.Next(harness.Patience); err != nil || !bytes.Equal(got.Payload, payload) {
						t.Fatalf("round %d, message %d: %d bytes, %v", round, i, len(got.Payload), err)
					}
				}
			}
		})
	}
}

// TestWebSocketTokens: a token in the request is accepted, and appears in no log.
func TestWebSocketTokens(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream()+"token: {from: ['query:token', websocket_header, 'websocket_header:X-Token', username]}\n")
	ws, wss := p.ListenForWebSocket()
	token := p.Token("device")
	p.Start()
	wrong := "wrong-" + token
	for name, way := range map[string]struct {
		url    string
		header http.Header
		want   packets.ReasonCode
	}{
		"query":         {"ws://" + ws + "/mqtt?token=" + token, nil, 0},
		"query, wss":    {"wss://localhost:" + harness.Port(wss) + "/mqtt?token=" + token, nil, 0},
		"bearer":        {"ws://" + ws + "/mqtt", http.Header{"Authorization": {"Bearer " + token}}, 0},
		"header":        {"ws://" + ws + "/mqtt", http.Header{"X-Token": {token}}, 0},
		"wrong query":   {"ws://" + ws + "/mqtt?token=" + wrong, nil, 0x86},
		"wrong bearer":  {"ws://" + ws + "/mqtt", http.Header{"Authorization": {"Bearer " + wrong}}, 0x86},
		"two in query":  {"ws://" + ws + "/mqtt?token=" + token + "&token=" + wrong, nil, 0x86},
		"none anywhere": {"ws://" + ws + "/mqtt", nil, 0x85},
	} {
		conn, err := openWebSocket(t, way.url, p.ClientTLS(t), way.header)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c := &packets.Connect{Level: 5, CleanStart: true, ClientID: "d"}
		if _, ack := packetstest.Present(t, websocket.NetConn(t.Context(), conn, websocket.MessageBinary), c); ack.Code != way.want {
			t.Errorf("%s: %v, want %v", name, ack.Code, way.want)
		}
	}
	if _, err := openWebSocket(t, "ws://"+ws+"/?token="+token, nil, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("another path: %v", err)
	}
	p.AwaitLog("refusal", func(l harness.LogLine) bool { return strings.Contains(l.String("detail"), "HTTP 404") })
}

// TestEndOfWebSocketSession: the end of a session is announced by MQTT and by WebSocket.
func TestEndOfWebSocketSession(t *testing.T) {
	t.Parallel()
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	ws, _ := p.ListenForWebSocket()
	token := p.Token("device")
	revoked := p.Token("revoked")
	p.Start()
	open := func(id, token string, want packets.ReasonCode) *websocket.Conn {
		t.Helper()
		conn, err := openWebSocket(t, "ws://"+ws+"/mqtt", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Write(t.Context(), websocket.MessageBinary, packetstest.Identity(5, id, token).Append(nil)); err != nil {
			t.Fatal(err)
		}
		var ack packets.Connack
		if _, raw, err := conn.Read(t.Context()); err != nil || ack.Parse(raw, 5) != nil || ack.Code != want {
			t.Fatalf("%s: %v, %v, want %v", id, ack.Code, err, want)
		}
		return conn
	}
	ends := func(conn *websocket.Conn, mqtt packets.ReasonCode, code websocket.StatusCode) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		defer cancel()
		if mqtt != 0 {
			var bye packets.Disconnect
			if _, raw, err := conn.Read(ctx); err != nil || bye.Parse(raw, 5) != nil || bye.Code != mqtt {
				t.Errorf("DISCONNECT %v, %v, want %v", bye.Code, err, mqtt)
			}
		}
		if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != code {
			t.Errorf("%v, want Close with code %d", err, code)
		}
	}
	ends(open("wrong", "wrong-"+token, 0x86), 0, websocket.StatusPolicyViolation)
	first := open("revoked", revoked, 0)
	if r := p.TokenCommand("revoke", "revoked"); r.Status != 0 {
		t.Fatal(r.Output())
	}
	ends(first, 0x98, websocket.StatusPolicyViolation)

	text := open("text", token, 0)
	if err := text.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	ends(text, 0, websocket.StatusUnsupportedData)

	last := open("last", token, 0)
	p.Stop()
	ends(last, 0x8B, websocket.StatusGoingAway)
}

// TestBehindNginx: a reverse proxy sends the device's address in a header field, which is
// only accepted from that reverse proxy.
func TestBehindNginx(t *testing.T) {
	t.Parallel()
	nginx := harness.Need(t, "nginx")
	s := harness.StartSink(t)
	p := harness.NewProxy(t, s.Upstream())
	ws, _ := p.ListenForWebSocket()
	token := p.Token("device")
	p.Start()
	front, dir := harness.FreeAddress(t), t.TempDir()
	text := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server {
    listen %[2]s;
    location /mqtt {
      proxy_pass http://%[3]s;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
  }
}
`, dir, front, ws)
	config := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.Launch(t, nil, nginx, "-c", config)
	harness.Eventually(t, "nginx", func() bool {
		conn, err := net.Dial("tcp", front)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	forged := http.Header{"X-Forwarded-For": {"198.51.100.7"}}
	for id, way := range map[string]struct{ from, to, want string }{
		"through":  {"127.0.0.41", front, "127.0.0.41:0"},
		"straight": {"127.0.0.42", ws, "127.0.0.42:"},
	} {
		transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(way.from)}}).DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		conn, _, err := websocket.Dial(t.Context(), "ws://"+way.to+"/mqtt", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, HTTPHeader: forged, Subprotocols: []string{"mqtt"}})
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		d := packetstest.Connect(t, websocket.NetConn(t.Context(), conn, websocket.MessageBinary), packetstest.Identity(5, id, token))
		if got := p.AddressOf(id); !strings.HasPrefix(got, way.want) {
			t.Errorf("%s: the session's address is %s, want %s", id, got, way.want)
		}
		if err := d.Publish("a", strings.Repeat("long ", 30_000)); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	resp, err := http.Get("http://" + front + "/mqtt")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusUpgradeRequired && resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a browser's address bar gets %s, %s", resp.Status, body)
	}
}
