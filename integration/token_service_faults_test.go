//go:build integration && linux

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

// presentFrom presents a token from the address 127.0.0.n and returns the code that the
// device gets. name is the name of the token.
func presentFrom(t *testing.T, p *harness.Proxy, n int, name string) packets.ReasonCode {
	t.Helper()
	return presentAs(t, p, n, strings.ReplaceAll(name, " ", "-"), name)
}

// presentAs is presentFrom with a client identifier.
func presentAs(t *testing.T, p *harness.Proxy, n int, id, name string) packets.ReasonCode {
	t.Helper()
	p.AddSecret(harness.SecretTail)
	a := fleetClients{t: t, proxy: p, from: fmt.Sprint("127.0.0.", n)}.connect(packetstest.Identity(5, id, name+harness.SecretTail))
	closeAll([]fleetConnection{a})
	if a.err != nil {
		t.Fatalf("%s from 127.0.0.%d: %v", name, n, a.err)
	}
	return a.code
}

// countQuestions returns how many questions are about the token of that name.
func countQuestions(asked []harness.Question, name string) (n int) {
	for _, q := range asked {
		if q.Token == name+harness.SecretTail {
			n++
		}
	}
	return n
}

// answerByPrefix is a service whose answer depends on the beginning of the token.
func answerByPrefix(q harness.Question) harness.Reply {
	switch {
	case strings.HasPrefix(q.Token, "wrong"):
		return harness.ReplyJSON(`{"result":"deny","reason_code":"bad_credentials"}`)
	case strings.HasPrefix(q.Token, "withdrawn"):
		return harness.Reply{Status: 403}
	case strings.HasPrefix(q.Token, "faulty"):
		return harness.ReplyJSON(`{"result":"allow","acl":[{"permission":"allow","action":"all","topics":["a/#/b"]}]}`)
	case strings.HasPrefix(q.Token, "crash"):
		return harness.Reply{Status: 500}
	case strings.HasPrefix(q.Token, "hurried"):
		return harness.Reply{Status: 429, Header: map[string]string{"Retry-After": "60"}}
	}
	return harness.ReplyJSON(`{"result":"allow","subject":"device of %s"}`, strings.TrimSuffix(q.Token, harness.SecretTail))
}

// TestOutageDoesNotRestoreRevokedToken: the holder of a revoked token, which the service
// would refuse, cannot make the proxy believe that the service is down. In a real outage
// known devices get in.
func TestOutageDoesNotRestoreRevokedToken(t *testing.T) {
	t.Parallel()
	for name, plot := range map[string]func(t *testing.T, p *harness.Proxy, round int){
		"control": func(*testing.T, *harness.Proxy, int) {},
		"by the guard": func(t *testing.T, p *harness.Proxy, round int) {
			for i := range 60 {
				presentFrom(t, p, 2, fmt.Sprint("wrong ", round, " ", i))
			}
		},
		"by the breaker": func(t *testing.T, p *harness.Proxy, round int) {
			for i := range 6 {
				presentFrom(t, p, 3+i, fmt.Sprint("crash ", round, " ", i))
			}
		},
		"by a pause": func(t *testing.T, p *harness.Proxy, round int) {
			for i := range 6 {
				presentFrom(t, p, 3+i, fmt.Sprint("hurried ", round, " ", i))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := harness.StartTokenService(t, func(q harness.Question) harness.Reply {
				return harness.ReplyJSON(`{"result":"allow","subject":"thief"}`)
			})
			p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth("cache: {ttl: 1s, stale_if_error: 60s}"))
			p.Start()
			for _, device := range []string{"withdrawn", "other"} {
				if code := presentFrom(t, p, 2, device); code != packets.Success {
					t.Fatalf("%s gets %v", device, code)
				}
			}
			service.Change(answerByPrefix)
			time.Sleep(1100 * time.Millisecond) // until the answer has expired
			service.Questions()
			for round := range 3 {
				plot(t, p, round)
				if code := presentFrom(t, p, 2, "withdrawn"); code == packets.Success {
					t.Fatalf("round %d: the withdrawn token is let in", round)
				}
			}
			if n := countQuestions(service.Questions(), "withdrawn"); name != "by a pause" && n == 0 {
				t.Error("the service was not asked about the withdrawn token")
			}
			service.Stop()
			if code := presentFrom(t, p, 9, "other"); name != "by a pause" && code != packets.Success {
				t.Errorf("in an outage, a device whose token is good gets %v", code)
			}
		})
	}
}

func always(text string) func(int) string { return func(int) string { return text } }

func numbered(text string) func(int) string { return func(i int) string { return fmt.Sprint(text, i) } }

// TestFaultsStayWithTheirDevice: whatever faults the service has for one device, or for
// the devices of one address, new devices get in meanwhile.
func TestFaultsStayWithTheirDevice(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]struct {
		id, token func(i int) string
		neighbour int // the last number of the address from which good devices come
	}{
		"one faulty record":           {id: always("a"), token: always("faulty"), neighbour: 2},
		"one faulty record, many ids": {id: numbered("a"), token: always("faulty"), neighbour: 2},
		"one that crashes it":         {id: always("a"), token: always("crash"), neighbour: 2},
		"one told to wait":            {id: always("a"), token: always("hurried"), neighbour: 2},
		"one address":                 {id: numbered("a"), token: numbered("crash "), neighbour: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := harness.StartTokenService(t, answerByPrefix)
			p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth())
			p.Start()
			codes := map[packets.ReasonCode]int{}
			for i := range 100 {
				codes[presentAs(t, p, 2, trouble.id(i), trouble.token(i))]++
				if i%10 == 9 {
					if code := presentFrom(t, p, trouble.neighbour, fmt.Sprint("good ", i)); code != packets.Success {
						t.Errorf("a good device gets %v", code)
					}
				}
			}
			t.Logf("the device with faults got %v", codes)
			if n := countQuestions(service.Questions(), "hurried"); n > 1 {
				t.Errorf("the service was asked %d times for the device that had to wait", n)
			}
		})
	}
}

// TestServiceThatIsDownIsNotBusy: while the circuit breaker is open, the code and the log
// say that the source is unavailable, and the service is not asked.
func TestServiceThatIsDownIsNotBusy(t *testing.T) {
	t.Parallel()
	service := harness.StartTokenService(t, answerByPrefix)
	p := harness.NewProxy(t, harness.StartSink(t).Upstream()+service.Auth())
	p.Start()
	for i := range 100 {
		if code := presentFrom(t, p, 2+i%10, fmt.Sprint("crash ", i)); code != packets.ServerUnavailable {
			t.Fatalf("device %d gets %v", i, code)
		}
	}
	if n := harness.Metric(t, p, `mqtt_auth_proxy_auth_breaker_state{source="http0",state="open"}`); n != 1 {
		t.Errorf("the breaker is not open: %v", n)
	}
	if n := len(service.Questions()); n == 100 {
		t.Error("all questions reached a service that is down")
	}
	harness.Eventually(t, "one hundred refusals as source_unavailable", func() bool {
		return p.HasMetric(`mqtt_auth_proxy_connections_refused_total{listener="plain",reason="source_unavailable"} 100`)
	})
	if status, body := harness.Fetch(t, "http://"+p.Admin+"/readyz", ""); status != 200 || !strings.Contains(body, "degraded: token source http0") {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if n := harness.Metric(t, p, `mqtt_auth_proxy_auth_source_up{source="http0"}`); n != 0 {
		t.Errorf("the source counts as up: %v", n)
	}
}

// TestGuessedTokensAgainstTokenFile: an address may try few wrong tokens against a token
// file too. Its known devices are not affected.
func TestGuessedTokensAgainstTokenFile(t *testing.T) {
	t.Parallel()
	p := harness.NewProxy(t, "auth: {guard: {rate: 1}}\n") // less than the attempts on a busy machine
	token := p.Token("pump-7")
	p.Start()
	from := fleetClients{t: t, proxy: p, from: "127.0.0.2"}
	try := func(id, token string) packets.ReasonCode {
		a := from.connect(packetstest.Identity(5, id, token))
		closeAll([]fleetConnection{a})
		if a.err != nil {
			t.Fatal(a.err)
		}
		return a.code
	}
	codes := map[packets.ReasonCode]int{}
	for i := range 200 {
		codes[try("guess", fmt.Sprint("wrong-token-", i))]++
	}
	if codes[packets.BadUserNameOrPassword] < 20 || codes[packets.ConnectionRateExceeded] == 0 || len(codes) != 2 {
		t.Errorf("200 wrong tokens get %v", codes)
	}
	if code := try("pump-7", token); code != packets.Success {
		t.Errorf("the device gets %v", code)
	}
}
