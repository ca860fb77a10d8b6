//go:build integration

package recipes

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// TestEMQXRecipe: emqx.conf has the settings that the README describes, and proxy.yaml
// works with such a broker.
func TestEMQXRecipe(t *testing.T) {
	t.Parallel()
	r := copyRecipe(t, "emqx")
	conf := readHOCON(t, r)
	if lookup(t, conf, "listeners", "tcp", "default", "proxy_protocol") != true || lookup(t, conf, "authentication", 0, "mechanism") != "password_based" {
		t.Errorf("emqx.conf is read as %s", asJSON(t, conf))
	}
	for _, kind := range []string{"ssl", "ws", "wss"} {
		if lookup(t, conf, "listeners", kind, "default", "enable") != false {
			t.Errorf("devices can bypass the proxy through listener %s", kind)
		}
	}
	upstream := lookup(t, r.documents("proxy.yaml")[0], "upstream", "servers", 0)
	if bind := lookup(t, conf, "listeners", "tcp", "default", "bind"); upstream != any("tcp://"+bind.(string)) {
		t.Errorf("EMQX listens on %v, the proxy connects to %v", bind, upstream)
	}

	h := harness.StartHeaderSink(t)
	r.write("upstream-password", "the password of the proxy\n")
	p := r.proxy("tcp://" + h.Addr().String())
	p.AddSecret("the password of the proxy")
	token := p.Token("sensor-17")
	r.check(p)
	p.Start()
	conn := packetstest.DialFrom(t, "127.0.0.51", p.Plain)
	packetstest.Connect(t, conn, packetstest.Identity(5, "sensor-17", token))
	header := <-h.Headers
	harness.CheckHeader(t, header, conn)
	if header.Version != 2 {
		t.Errorf("PROXY protocol version %d, want 2", header.Version)
	}
	if _, connects := h.Reached(); len(connects) != 1 || connects[0].Username != "proxy" || connects[0].Password != "the password of the proxy" || connects[0].ClientID != "sensor-17" {
		t.Errorf("%d CONNECTs, want one as the proxy's user", len(connects))
	}
}

// readHOCON reads emqx.conf with a parser of that format.
func readHOCON(t *testing.T, r *recipe) (conf map[string]any) {
	t.Helper()
	const script = `require "hocon"; require "json"; puts JSON.generate(Hocon.load(ARGV[0]))`
	c := harness.Run(t, harness.Need(t, "ruby"), "-e", script, r.path("emqx.conf"))
	if strings.Contains(c.Stderr, "cannot load such file") {
		harness.Skip(t, "ruby-hocon is missing: ./integration/install brings it")
	}
	if err := json.Unmarshal([]byte(c.Stdout), &conf); c.Status != 0 || err != nil {
		t.Fatalf("emqx.conf: status %d, %v\n%s", c.Status, err, c.Output())
	}
	return conf
}
