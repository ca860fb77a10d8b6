//go:build integration

package integration

import (
	"strings"
	"testing"
)

// TestProxyProtocolThatTheBrokerDoesNotKnow: Mosquitto 2.0 hangs up on the header, and
// the error says what is most likely wrong.
func TestProxyProtocolThatTheBrokerDoesNotKnow(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	p := newProxy(t, strings.Replace(m.upstream(), "upstream: {", "upstream: {proxy_protocol: v2, ", 1))
	p.keep(m.password)
	token := p.token("thermometer")
	p.start()
	if r := mosquittoPub(t, append(p.clientArgs(token), "-t", "a", "-m", "b")...); r.status != 3 {
		t.Errorf("status %d, want 3\n%s", r.status, r.all())
	}
	p.awaitLog("the likely cause", func(l logged) bool {
		return l.String("reason") == "upstream_unavailable" && strings.Contains(l.String("detail"), "upstream.proxy_protocol: v2")
	})
}
