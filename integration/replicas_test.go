//go:build integration

package integration

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets/packetstest"
)

// heard returns how many replicas the proxy has heard in the last five seconds.
func heard(t *testing.T, p *harness.Proxy) (n int) {
	t.Helper()
	var status struct {
		Replicas struct {
			Heard []struct {
				LastHeardSeconds float64 `json:"last_heard_seconds"`
			}
		}
	}
	if err := json.Unmarshal([]byte(p.Status()), &status); err != nil {
		t.Fatal(err)
	}
	for _, r := range status.Replicas.Heard {
		if r.LastHeardSeconds < 5 {
			n++
		}
	}
	return n
}

// ask sends a request to the admin side, which must accept it.
func ask(t *testing.T, p *harness.Proxy, method, path, body string) {
	t.Helper()
	if status, answer := p.Request(method, path, body); status != 200 {
		t.Fatalf("%s %s: status %d, %s", method, path, status, answer)
	}
}

// pushSecret is the secret with which token services sign pushes.
const pushSecret = "a secret of thirty-two bytes or more"

// push sends a signed revocation to the proxy, which must accept it.
func push(t *testing.T, p *harness.Proxy, body string) {
	t.Helper()
	now := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(pushSecret))
	mac.Write([]byte(now + "." + body))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.Admin+"/v1/push", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Timestamp", now)
	r.Header.Set("X-Signature", fmt.Sprintf("hmac-sha256=%x", mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("POST /v1/push: status %d", resp.StatusCode)
	}
}

// onEach connects the device to each of the proxies, each time with another client id, because the
// broker ends the session that had the same one.
func onEach(t *testing.T, all []*harness.Proxy, token string) (sessions []*packetstest.Client) {
	t.Helper()
	for i, p := range all {
		sessions = append(sessions, p.Connect(t, 5, fmt.Sprint("device-", i), token))
	}
	return sessions
}

// awaitEnds waits until each session has ended with the code, and returns how long each took.
func awaitEnds(t *testing.T, sessions []*packetstest.Client, since time.Time, want packets.ReasonCode) (took []time.Duration) {
	t.Helper()
	took = make([]time.Duration, len(sessions))
	var waiting sync.WaitGroup
	for i, d := range sessions {
		waiting.Go(func() {
			code, err := d.AwaitEnd(harness.Patience)
			took[i] = time.Since(since)
			if err != nil || code != want {
				t.Errorf("the session on proxy %d ended with %#x, %v, want %#x", i+1, byte(code), err, byte(want))
			}
		})
	}
	waiting.Wait()
	return took
}

// TestReplicasActAsOne: what one proxy revokes, kicks, denies, is pushed or reads from its token
// file, all proxies do. The log of the test has the times.
func TestReplicasActAsOne(t *testing.T) {
	eachBus(t, func(t *testing.T, b *bus) {
		all, tokens := startReplicas(t, b, "pump", "valve", "bystander", "pushed")
		bystanders := onEach(t, all, tokens[2])
		var elsewhere []time.Duration
		measure := func(method, path, body string) {
			for round := range 20 {
				sessions := onEach(t, all, tokens[0])
				since := time.Now()
				ask(t, all[round%3], method, path, body)
				took := awaitEnds(t, sessions, since, packets.AdministrativeAction)
				elsewhere = append(elsewhere, slices.Delete(took, round%3, round%3+1)...)
			}
		}
		measure("POST", "/v1/revocations", `{"subject":"pump"}`)
		measure("POST", "/v1/revocations", `{"token":"`+tokens[0]+`"}`)
		measure("DELETE", "/v1/sessions?subject=pump", "")
		slices.Sort(elsewhere)
		p50, p99 := elsewhere[len(elsewhere)/2], elsewhere[len(elsewhere)*99/100]
		t.Logf("from the request until a session on another proxy has ended: p50 %v, p99 %v", p50, p99)
		if limit := harness.WithdrawalLimit + harness.Slack; p50 > limit {
			t.Errorf("half of the sessions on other proxies ended later than after %v", limit)
		}

		sessions := onEach(t, all, tokens[1])
		since := time.Now()
		all[0].NewToken("rotate", "valve", "--overlap", "0s") // in the file of one proxy
		took := awaitEnds(t, sessions, since, packets.AdministrativeAction)
		t.Logf("after a rotation in the file of the first proxy: %v", took)

		sessions = onEach(t, all, tokens[3])
		push(t, all[2], `{"subject":"pushed"}`)
		awaitEnds(t, sessions, time.Now(), packets.AdministrativeAction)

		sessions = onEach(t, all, tokens[0])
		ask(t, all[1], "POST", "/v1/revocations", `{"subject":"pump","mode":"deny"}`)
		awaitEnds(t, sessions, time.Now(), packets.AdministrativeAction)
		for i, p := range all {
			if _, ack := p.Present(t, 5, "device", tokens[0]); ack.Code == packets.Success {
				t.Errorf("proxy %d accepts a denied device", i+1)
			}
		}
		for i, d := range bystanders {
			if err := d.Publish("a", "b"); err != nil {
				t.Errorf("the bystander on proxy %d: %v", i+1, err)
			}
		}
	})
}

// TestCutOffReplicaCatchesUp: a proxy that was cut off from the others does on its return what it
// has missed, and no more.
func TestCutOffReplicaCatchesUp(t *testing.T) {
	eachBus(t, func(t *testing.T, b *bus) {
		all, tokens := startReplicas(t, b, "pump", "valve", "bystander", "rotated")
		bystander := all[2].Connect(t, 5, "b", tokens[2])
		var missed []*packetstest.Client // on the proxy that is cut off
		withdraw := func(token string, how func()) {
			sessions := onEach(t, all, token)
			missed = append(missed, sessions[2])
			how()
			awaitEnds(t, sessions[:2], time.Now(), packets.AdministrativeAction)
		}
		b.gate.close()
		harness.Eventually(t, "the silence of the third proxy", func() bool { return heard(t, all[0]) == 1 && heard(t, all[2]) == 0 })
		withdraw(tokens[0], func() { ask(t, all[0], "POST", "/v1/revocations", `{"subject":"pump"}`) })
		withdraw(tokens[1], func() { ask(t, all[1], "POST", "/v1/revocations", `{"subject":"valve","mode":"deny"}`) })
		withdraw(tokens[3], func() { all[0].NewToken("rotate", "rotated", "--overlap", "0s") })
		for _, d := range missed {
			if err := d.Publish("a", "b"); err != nil {
				t.Fatalf("the session on the proxy that is cut off: %v", err)
			}
		}
		since := time.Now()
		b.gate.open()
		took := awaitEnds(t, missed, since, packets.AdministrativeAction)
		t.Logf("after the way was open again: %v", took)
		if _, ack := all[2].Present(t, 5, "d", tokens[1]); ack.Code == packets.Success {
			t.Error("the proxy that was cut off accepts a device that was denied meanwhile")
		}
		if err := bystander.Publish("a", "b"); err != nil {
			t.Errorf("the session of another device: %v", err)
		}
		harness.Eventually(t, "a count of what it has caught up with", func() bool {
			return harness.Metric(t, all[2], "mqtt_auth_proxy_replicas_catch_ups_total") >= 1
		})
		if status, _ := all[2].Get("/readyz"); status != 200 {
			t.Errorf("/readyz: status %d", status)
		}
	})
}

// TestReplicaAsksItsSourcesAfterAGap: also about sessions of which no other replica knows anything,
// and without auth.recheck.
func TestReplicaAsksItsSourcesAfterAGap(t *testing.T) {
	b := busOnBroker(t)
	service := harness.StartTokenService(t, harness.Allow)
	sections := b.sections
	b.sections = func(i int) string { return sections(i) + service.Auth() }
	all, _ := startReplicas(t, b)
	withdrawn, code := presentToken(t, all[2], 5, "withdrawn")
	kept, codeOfKept := presentToken(t, all[2], 5, "kept")
	if code != packets.Success || codeOfKept != packets.Success {
		t.Fatalf("refused with %v, %v", code, codeOfKept)
	}
	b.gate.close()
	harness.Eventually(t, "the silence of the third proxy", func() bool { return heard(t, all[2]) == 0 })
	service.Change(func(q harness.Question) harness.Reply {
		if strings.HasPrefix(q.Token, "withdrawn") {
			return harness.ReplyJSON(`{"result":"deny","reason_code":"banned"}`)
		}
		return harness.Allow(q)
	})
	b.gate.open()
	harness.Eventually(t, "the bus", func() bool { return heard(t, all[2]) == 2 })
	if code, err := withdrawn.AwaitEnd(harness.Patience); err != nil || code != packets.AdministrativeAction && code != packets.NotAuthorized {
		t.Errorf("the session of the withdrawn token ended with %v, %v", code, err)
	}
	if err := kept.Publish("a", "b"); err != nil {
		t.Errorf("the other session: %v", err)
	}
}

// TestHostileDeviceOnTheBus: a device that reads and writes the topic of the bus learns nothing
// and can do nothing, and cannot take the client id of a replica.
func TestHostileDeviceOnTheBus(t *testing.T) {
	const topic = "mqtt-auth-proxy/bus"
	all, tokens := startReplicas(t, busOnBroker(t), "pump-with-a-long-name", "hostile", "mqtt-auth-proxy-bus-1")
	hostile := all[0].Connect(t, 5, "h", tokens[1])
	hostile.MustSubscribe(topic, 1)
	victim := onEach(t, all, tokens[0])
	ask(t, all[1], "DELETE", "/v1/sessions?subject=pump-with-a-long-name", "")
	awaitEnds(t, victim, time.Now(), packets.AdministrativeAction)
	victim = onEach(t, all, tokens[0])
	var captured [][]byte
	for len(captured) < 10 {
		m, err := hostile.Next(harness.Patience)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(m.Payload, []byte("pump")) || bytes.Contains(m.Payload, []byte("proxy-")) {
			t.Error("a message on the bus shows a name")
		}
		captured = append(captured, slices.Clone(m.Payload))
	}
	writer := all[0].Connect(t, 5, "w", tokens[1])
	payloads := slices.Concat(captured, captured)
	for range 3000 {
		junk := make([]byte, 4000)
		_, _ = rand.Read(junk)
		payloads = append(payloads, junk)
	}
	payloads = append(payloads, make([]byte, 200_000), []byte("{}"), nil)
	if err := writer.PublishAll(topic, payloads, func([]byte) {}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the count of unreadable messages", func() bool {
		return harness.Metric(t, all[2], `mqtt_auth_proxy_replicas_messages_ignored_total{cause="unreadable"}`) >= 3000
	})
	if n := harness.Metric(t, all[2], `mqtt_auth_proxy_replicas_messages_ignored_total{cause="repeated"}`); n == 0 {
		t.Error("no repeated message was ignored")
	}
	for i, d := range victim {
		if err := d.Publish("a", "b"); err != nil {
			t.Errorf("the session on proxy %d: %v", i+1, err)
		}
	}
	ask(t, all[2], "DELETE", "/v1/sessions?subject=pump-with-a-long-name", "")
	awaitEnds(t, victim, time.Now(), packets.AdministrativeAction)
	if _, ack := all[0].Present(t, 5, "mqtt-auth-proxy-bus-1", tokens[2]); ack.Code != packets.ClientIDNotValid {
		t.Errorf("a device with the client id of a replica: code %#x", byte(ack.Code))
	}
	for _, p := range all {
		if heard(t, p) != 2 {
			t.Error("the replicas do not hear each other any more")
		}
	}
	if _, err := hostile.Next(harness.Patience); err != nil && !packetstest.IsTimeout(err) {
		t.Errorf("the hostile session ended: %v", err)
	}
}
