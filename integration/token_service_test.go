//go:build integration

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// presentToken presents the token of that name and returns the code that the device gets.
func presentToken(t testing.TB, p *harness.Proxy, level byte, name string) (*packetstest.Client, packets.ReasonCode) {
	t.Helper()
	p.AddSecret(harness.SecretTail)
	d, ack := p.Present(t, level, strings.ReplaceAll(name, " ", "-"), name+harness.SecretTail)
	return d, ack.Code
}

// faults returns the answers of a service that does not work, by name.
func faults() map[string]harness.Reply {
	return map[string]harness.Reply{
		"redirect":       {Status: 302, Header: map[string]string{"Location": "/allow"}},
		"not found":      {Status: 404},
		"unauthorized":   {Status: 401},
		"internal error": {Status: 500, Body: "Traceback"},
		"bad gateway":    {Status: 502},
		"not JSON":       {Status: 200, Header: map[string]string{"Content-Type": "application/json"}, Body: "yes"},
		"HTML":           {Status: 200, Header: map[string]string{"Content-Type": "text/html"}, Body: "<html>allow</html>"},
		"empty 200":      {Status: 200},
		"no result":      harness.ReplyJSON(`{}`),
		"other result":   harness.ReplyJSON(`{"result":"Deny"}`),
		"two results":    harness.ReplyJSON(`{"result":"allow","result":"deny"}`),
		"milliseconds":   harness.ReplyJSON(`{"result":"allow","expire_at":%d}`, time.Now().Add(time.Hour).UnixMilli()),
		"cut off":        {Status: 200, Header: map[string]string{"Content-Type": "application/json", "Content-Length": "100"}, Body: `{"result":"deny"}`},
		"unknown limits": harness.ReplyJSON(`{"result":"allow","limits":{"publishes":1}}`),
	}
}

// TestTokenServiceOutcomes: the exit status of mosquitto_pub shows what every answer means. An
// answer that is not a decision never becomes "wrong password".
func TestTokenServiceOutcomes(t *testing.T) {
	t.Parallel()
	broken := faults()
	service := harness.StartTokenService(t, func(q harness.Question) harness.Reply {
		switch name := strings.TrimSuffix(q.Token, harness.SecretTail); name {
		case "denied":
			return harness.ReplyJSON(`{"result":"deny","reason":"no"}`)
		case "denied by status":
			return harness.Reply{Status: 403}
		case "unknown":
			return harness.ReplyJSON(`{"result":"deny","reason_code":"bad_credentials"}`)
		case "ignored":
			return harness.ReplyJSON(`{"result":"ignore"}`)
		case "banned":
			return harness.ReplyJSON(`{"result":"deny","reason_code":"banned"}`)
		case "expired":
			return harness.ReplyJSON(`{"result":"allow","expire_at":%d}`, time.Now().Unix()-1)
		case "busy":
			return harness.ReplyJSON(`{"result":"deny","reason_code":"busy"}`)
		case "slow":
			time.Sleep(7 * time.Second)
			return harness.Reply{}
		case "allowed by status":
			return harness.Reply{}
		default:
			if a, ok := broken[name]; ok {
				return a
			}
			return harness.Allow(q)
		}
	})
	p := harness.NewProxy(t, service.Auth("cache: {ttl: 0s, negative_ttl: 0s, stale_if_error: 0s}", "guard: {exempt: [127.0.0.0/8]}"))
	p.AddSecret(harness.SecretTail)
	p.Start()
	tests := map[string][2]int{
		"allowed": {0, 0}, "allowed by status": {0, 0},
		"denied": {5, 0x87}, "denied by status": {5, 0x87}, "unknown": {5, 0x86}, "ignored": {5, 0x86},
		"banned": {5, 0x87}, "expired": {5, 0x87}, "busy": {3, 0x89}, "slow": {3, 0x88},
	}
	for name := range broken {
		tests[name] = [2]int{3, 0x88}
	}
	for name, want := range tests {
		for i, version := range []string{"mqttv311", "mqttv5"} {
			r := harness.MosquittoPub(t, append(p.ClientArgs(name+harness.SecretTail), "-V", version, "-i", version, "-q", "1", "-t", "v1/devices/me/telemetry", "-m", `{"a":1}`)...)
			if r.Status != want[i] {
				t.Errorf("%s, %s: status %d, want %d\n%s", name, version, r.Status, want[i], r.Output())
			}
			// Five faults in a row would open the circuit breaker.
			if _, code := presentToken(t, p, 5, "good in between"); code != packets.Success {
				t.Errorf("a good token after %s: %v", name, code)
			}
		}
	}
}

// TestTokenServiceRetryAfter: after a 429 with Retry-After the proxy does not ask again
// for that device until the time has passed. Devices whose answers are cached, and new
// ones, are not affected.
func TestTokenServiceRetryAfter(t *testing.T) {
	t.Parallel()
	service := harness.StartTokenService(t, harness.Allow)
	p := harness.NewProxy(t, service.Auth())
	p.Start()
	if _, code := presentToken(t, p, 5, "known"); code != packets.Success {
		t.Fatalf("refused with %v", code)
	}
	service.Change(func(harness.Question) harness.Reply {
		return harness.Reply{Status: 429, Header: map[string]string{"Retry-After": "5"}}
	})
	begun := time.Now()
	if _, code := presentToken(t, p, 4, "first"); code != packets.RefusedServerUnavailable {
		t.Errorf("3.1.1: %v, want %v", code, packets.RefusedServerUnavailable)
	}
	if r := harness.MosquittoPub(t, append(p.ClientArgs("second"+harness.SecretTail), "-i", "second", "-V", "mqttv5", "-t", "a", "-m", "b")...); r.Status != 0x89 {
		t.Errorf("mosquitto_pub 5.0: status %d, want %d", r.Status, 0x89)
	}
	service.Change(harness.Allow)
	service.Questions()
	for _, name := range []string{"known", "new"} {
		if _, code := presentToken(t, p, 5, name); code != packets.Success {
			t.Errorf("the device %q is refused with %v", name, code)
		}
	}
	harness.Eventually(t, "the way in once the time is up", func() bool {
		_, code := presentToken(t, p, 4, "first")
		return code == packets.Success
	})
	if took := time.Since(begun); took < 5*time.Second {
		t.Errorf("asked again after %v, the service wanted 5s", took)
	}
}

// TestTokenServiceClosesIdleConnections: a service may close idle connections at any
// time.
func TestTokenServiceClosesIdleConnections(t *testing.T) {
	t.Parallel()
	service := harness.NewTokenService(t, harness.Allow)
	service.Idle = 5 * time.Millisecond
	service.Start()
	p := harness.NewProxy(t, service.Auth())
	p.Start()
	for i := range 200 {
		if _, code := presentToken(t, p, 5, fmt.Sprint("device ", i)); code != packets.Success {
			t.Fatalf("device %d is refused with %v", i, code)
		}
		time.Sleep(time.Duration(i%4+3) * time.Millisecond) // around the time at which the service closes
	}
}

// TestTokenServiceOutage: while the service is down, known devices can connect, also
// after their answers have expired. New ones are asked to try again later, and get in
// when the service is back.
func TestTokenServiceOutage(t *testing.T) {
	t.Parallel()
	service := harness.StartTokenService(t, func(q harness.Question) harness.Reply { return harness.ReplyJSON(`{"result":"allow","cache_ttl":1}`) })
	p := harness.NewProxy(t, service.Auth())
	p.Start()
	live, code := presentToken(t, p, 5, "live")
	known, codeOfKnown := presentToken(t, p, 5, "known")
	if code != packets.Success || codeOfKnown != packets.Success {
		t.Fatalf("refused with %v, %v", code, codeOfKnown)
	}
	known.Conn.Close()
	service.Stop()
	time.Sleep(1100 * time.Millisecond) // until the answers have expired
	for level, want := range map[byte]packets.ReasonCode{4: packets.RefusedServerUnavailable, 5: packets.ServerUnavailable} {
		if _, code := presentToken(t, p, level, fmt.Sprint("new ", level)); code != want {
			t.Errorf("level %d: a new token gets %v, want %v", level, code, want)
		}
	}
	for i := range 10 {
		if _, code := presentToken(t, p, 4, fmt.Sprint("new ", i)); code != packets.RefusedServerUnavailable {
			t.Errorf("a new token gets %v, want %v", code, packets.RefusedServerUnavailable)
		}
		if _, code := presentToken(t, p, 5, "known"); code != packets.Success {
			t.Errorf("the known token gets %v", code)
		}
	}
	if err := live.Publish("a", "b"); err != nil {
		t.Errorf("the live session: %v", err)
	}
	service.Start()
	back := time.Now()
	harness.Eventually(t, "the new device's way in", func() bool {
		_, code := presentToken(t, p, 5, "new 1")
		return code == packets.Success
	})
	t.Logf("a new device is in %v after the service is back", time.Since(back).Round(time.Millisecond))
}
