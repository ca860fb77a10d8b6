//go:build integration && linux

package integration

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// step is a section of the page about growing.
func step(t *testing.T, heading string, texts ...string) *guide {
	t.Helper()
	g := followPage(t, "GROWING.md", heading, texts...)
	certificate, key := harness.ServerCertificate(1)
	g.write("server.pem", certificate)
	g.write("server-key.pem", key)
	return g
}

// connectTLS connects a device by TLS and returns its session. header is sent first.
func (g *guide) connectTLS(p *harness.Proxy, header, token string) *packetstest.Client {
	g.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(harness.ReadFile(g.t, g.path("server.pem"))))
	conn := packetstest.Dial(g.t, p.TLS)
	if _, err := conn.Write([]byte(header)); err != nil {
		g.t.Fatal(err)
	}
	return packetstest.Connect(g.t, tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "localhost"}), packetstest.Identity(4, "pump", token))
}

// TestGrowing: the configurations of the page start as they stand, and one token stays valid from
// the first step, through a broker, to two proxies with a database, where a revocation at one of
// them ends the session at the other.
func TestGrowing(t *testing.T) {
	t.Parallel()
	g := step(t, "## One program")
	p := g.proxy("")
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_LISTENERS_1_ADDRESS="+p.TLS)
	token := p.Token("pump-7")
	p.Start()
	if err := g.connectTLS(p, "", token).Publish("v1/devices/me/telemetry", `{"t":7}`); err != nil {
		t.Error(err)
	}
	p.Stop()

	g = step(t, "## The proxy in front of a broker")
	m, upstream := g.behind()
	tokens := harness.ReadFile(t, p.Data, "tokens.jsonl")
	p = g.proxy(upstream)
	p.Env = append(p.Env, "MQTT_AUTH_PROXY_LISTENERS_1_ADDRESS="+p.TLS, "MQTT_AUTH_PROXY_AUTH_SOURCES_0_FILE_PATH="+g.path("tokens.jsonl"))
	g.write("tokens.jsonl", tokens)
	p.AddSecret(token)
	p.Start()
	behind := harness.Subscribe(t, append(m.ClientArgs(), "-t", "#")...)
	if err := g.connectTLS(p, "", token).Publish("a", "b"); err != nil {
		t.Error(err)
	}
	behind.Messages(1)
	p.Stop()

	severalProxies(t, tokens, token)
}

func severalProxies(t *testing.T, tokens, token string) {
	t.Helper()
	server, emqx := harness.StartPostgres(t), harness.StartHeaderSink(t)
	g := step(t, "## Several proxies in front of a cluster", "10.0.0.0/24", "127.0.0.0/8")
	g.write("dsn", server.Database("tokens")+"\n")
	g.write("bus-secret", strings.Repeat("s", 32)+"\n")
	g.write("upstream-password", "proxy\n")
	g.write("tokens.jsonl", tokens)
	var all []*harness.Proxy
	for i := range 2 {
		p := g.proxy("tcp://" + emqx.Addr().String())
		p.Env = append(p.Env, "MQTT_AUTH_PROXY_LISTENERS_0_ADDRESS="+p.TLS, fmt.Sprint("MQTT_AUTH_PROXY_REPLICAS_NAME=proxy-", i))
		p.AddSecret(token)
		p.AddSecret(server.Password)
		all = append(all, p)
	}
	if out := g.run(0); !strings.Contains(out, "added: 1\n") {
		t.Error(out)
	}
	header := "PROXY TCP4 192.0.2.7 192.0.2.1 4711 8883\r\n"
	var live []*packetstest.Client
	for _, p := range all {
		p.Start()
		live = append(live, g.connectTLS(p, header, token))
		if h := <-emqx.Headers; h == nil || !strings.HasPrefix(h.SourceAddr.String(), "192.0.2.7:") {
			t.Errorf("EMQX gets the header %+v", h)
		}
	}
	for _, p := range all {
		harness.Eventually(t, "proxies that hear each other", func() bool { return harness.Metric(t, p, "mqtt_auth_proxy_replicas_heard") == 1 })
	}
	if status, body := all[0].Request("POST", "/v1/revocations", `{"subject":"pump-7","mode":"deny"}`); status != 200 {
		t.Fatalf("revocation: %d %s", status, body)
	}
	for i, session := range live {
		if _, err := session.AwaitEnd(harness.Patience); err != nil {
			t.Errorf("the session at proxy %d: %v", i, err)
		}
	}
}
