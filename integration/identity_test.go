//go:build integration

package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
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

// TestTokenAsClientID: the libraries of ThingsBoard for small devices use the access
// token as the client id. It stands in no log, neither here nor at the broker, and the
// session is found again after a restart of the proxy.
func TestTokenAsClientID(t *testing.T) {
	t.Parallel()
	m := startMosquitto(t)
	p := newProxy(t, m.upstream())
	p.keep(m.password)
	token := p.token("thermometer")
	wrong := "a-token-of-another-system"
	p.keep(wrong)
	p.start()
	id := identity(4, token, token)
	id.CleanStart = false
	connect(t, dial(t, p.plain), id).subscribe(t, "commands", 1)
	status, sessions := p.get("/v1/sessions")
	hash := sha256.Sum256([]byte(token))
	if fingerprint := hex.EncodeToString(hash[:4]); status != 200 || strings.Contains(sessions, token) || !strings.Contains(sessions, `"client_id":"`+fingerprint+`"`) {
		t.Errorf("status %d, sessions %s; want client id %s", status, strings.ReplaceAll(sessions, token, "TOKEN"), fingerprint)
	}
	if r := mosquittoPub(t, append(p.clientArgs(wrong), "-i", wrong, "-t", "a", "-m", "b")...); r.status != 5 {
		t.Errorf("the wrong token: status %d, want 5", r.status)
	}
	p.stop()
	publish(t, append(m.clientArgs(), "-q", "1", "-t", "commands", "-m", "kept")...)
	p.start()
	d := connect(t, dial(t, p.plain), id)
	if got, err := d.next(patience); err != nil || string(got.Payload) != "kept" {
		t.Errorf("after a restart the device gets %q, error %v", got.Payload, err)
	}
	log := m.stderr.String()
	for _, secret := range []string{token, wrong} {
		if strings.Contains(log, secret) {
			t.Error("a token stands in the log of the broker")
		}
	}
	if !regexp.MustCompile(`as (thermometer:)?[0-9a-f]{32} \(`).MatchString(log) {
		t.Errorf("the broker knows no client by 32 digits\n%s", excerpt(log))
	}
}
