//go:build integration

package integration

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestEMQXRecipe: emqx.conf says what the README promises, and proxy.yaml fits a
// broker that is set up that way.
func TestEMQXRecipe(t *testing.T) {
	t.Parallel()
	r := cook(t, "emqx")
	conf := readHOCON(t, r)
	if at(t, conf, "listeners", "tcp", "default", "proxy_protocol") != true || at(t, conf, "authentication", 0, "mechanism") != "password_based" {
		t.Errorf("emqx.conf is read as %s", asJSON(t, conf))
	}
	for _, kind := range []string{"ssl", "ws", "wss"} {
		if at(t, conf, "listeners", kind, "default", "enable") != false {
			t.Errorf("listener %s is a second door", kind)
		}
	}
	upstream := at(t, r.documents("proxy.yaml")[0], "upstream", "servers", 0)
	if bind := at(t, conf, "listeners", "tcp", "default", "bind"); upstream != any("tcp://"+bind.(string)) {
		t.Errorf("EMQX listens on %v, the proxy connects to %v", bind, upstream)
	}

	h := startHeaders(t)
	r.write("upstream-password", "the password of the proxy\n")
	p := r.proxy("tcp://" + h.Addr().String())
	p.keep("the password of the proxy")
	token := p.token("sensor-17")
	r.check(p)
	p.start()
	conn := dialAs(t, "127.0.0.51", p.plain)
	connect(t, conn, identity(5, "sensor-17", token))
	header := <-h.seen
	checkHeader(t, header, conn)
	if header.Version != 2 {
		t.Errorf("PROXY protocol version %d, want 2", header.Version)
	}
	if _, connects := h.reached(); len(connects) != 1 || connects[0].Username != "proxy" || connects[0].Password != "the password of the proxy" || connects[0].ClientID != "sensor-17" {
		t.Errorf("%d CONNECTs, not as the proxy's user", len(connects))
	}
}

// readHOCON reads emqx.conf with a parser of that language.
func readHOCON(t *testing.T, r *recipe) (conf map[string]any) {
	t.Helper()
	const script = `require "hocon"; require "json"; puts JSON.generate(Hocon.load(ARGV[0]))`
	c := run(t, need(t, "ruby"), "-e", script, r.path("emqx.conf"))
	if strings.Contains(c.stderr, "cannot load such file") {
		lack(t, "ruby-hocon")
	}
	if err := json.Unmarshal([]byte(c.stdout), &conf); c.status != 0 || err != nil {
		t.Fatalf("emqx.conf: status %d, %v\n%s", c.status, err, c.all())
	}
	return conf
}
