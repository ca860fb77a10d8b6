package service

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/replicas"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// TestDevicesLearnTheLimitsInForce: getSessionLimits answers with the limits of the configuration.
func TestDevicesLearnTheLimitsInForce(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
limits: {session: {publish_rate: 20, publish_burst: 50, max_packet: 10KiB}}
`)
	for _, level := range []byte{4, 5} {
		c := connectDemo(t, s, level)
		c.MustSubscribe("v1/devices/me/rpc/response/+", 1)
		const call = `{"method": "getSessionLimits", "params": {"timeout": 5000}}`
		c.Send((&packets.Publish{Topic: []byte("v1/devices/me/rpc/request/1"), Payload: []byte(call), QoS: 1, PacketID: 3}).Append(nil, level))
		answer, err := c.Next(patience)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(answer.Payload); string(answer.Topic) != "v1/devices/me/rpc/response/1" || !strings.HasPrefix(got, `{"maxPayloadSize":10176,"maxInflightMessages":64,"rateLimits":{"messages":"20:1",`) {
			t.Errorf("answer %s on %s", got, answer.Topic)
		}
	}
}

// TestOperatorsSetSharedAttributes: the device gets them at once and finds them later, and the
// record of changes names who has set them, without the values.
func TestOperatorsSetSharedAttributes(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
`)
	for _, level := range []byte{4, 5} {
		c := connectDemo(t, s, level)
		c.MustSubscribe("v1/devices/me/attributes", 1)
		c.MustSubscribe("v1/devices/me/attributes/response/+", 1)
		expect := func(topic, payload string) {
			t.Helper()
			m, err := c.Next(patience)
			if err != nil || string(m.Topic) != topic || string(m.Payload) != payload {
				t.Fatalf("got %s on %s, error %v, want %s", m.Payload, m.Topic, err, payload)
			}
		}
		const device = "/api/plugins/telemetry/DEVICE/demo/"
		if status, body := call(t, s, http.MethodPost, device+"SHARED_SCOPE", `{"interval": 30, "wifi": "hunter2"}`); status != 200 {
			t.Fatalf("status %d: %s", status, body)
		}
		expect("v1/devices/me/attributes", `{"interval":30,"wifi":"hunter2"}`)
		c.Send((&packets.Publish{Topic: []byte("v1/devices/me/attributes/request/1"), Payload: []byte(`{"sharedKeys": "interval"}`), QoS: 0}).Append(nil, level))
		expect("v1/devices/me/attributes/response/1", `{"shared":{"interval":30}}`)
		if status, body := call(t, s, http.MethodDelete, device+"SHARED_SCOPE?keys=interval,wifi", ""); status != 200 {
			t.Fatalf("status %d: %s", status, body)
		}
		expect("v1/devices/me/attributes", `{"deleted":["interval","wifi"]}`)
		changes := s.audit.Latest(2)
		if len(changes) != 2 || changes[1].Action != "set shared attributes" || changes[0].Action != "delete shared attributes" || changes[0].Object != "demo" || changes[0].By != "operate" || changes[1].Outcome != "2 keys" {
			t.Errorf("changes %+v", changes)
		}
	}
}

// TestDevicesGetWhatOtherReplicasChange: the state of the attributes that the message names, and
// only devices that are here.
func TestDevicesGetWhatOtherReplicasChange(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
`)
	c := connectDemo(t, s, 5)
	if status, body := call(t, s, http.MethodPost, "/api/plugins/telemetry/DEVICE/demo/SHARED_SCOPE", `{"interval": 30, "other": 1}`); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	c.MustSubscribe("v1/devices/me/attributes", 1)
	s.goroutines.Go(func() { s.repeatChanges(t.Context()) })
	s.attributesChanged([]replicas.Change{{Device: "away", Keys: []string{"interval"}}, {Device: "demo", Keys: []string{"interval", "wifi"}}})
	for _, want := range []string{`{"interval":30}`, `{"deleted":["wifi"]}`} {
		if m, err := c.Next(patience); err != nil || string(m.Payload) != want {
			t.Errorf("got %s, error %v, want %s", m.Payload, err, want)
		}
	}
	// A queue that is full holds nothing up.
	for range 2 * mostChanged {
		s.attributesChanged([]replicas.Change{{Device: "demo", Keys: []string{"interval"}}})
	}
}

// TestOperatorsCallDevices: the answer of the device is that of the call, and the record of changes
// says who has called which method, without parameters and answers.
func TestOperatorsCallDevices(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
`)
	status := func(device string, want int, text string) {
		t.Helper()
		if got, body := call(t, s, http.MethodPost, "/api/rpc/twoway/"+device, `{"method":"getGpio","params":{"pin":"hunter2"}}`); got != want || !strings.Contains(body, text) {
			t.Errorf("call of %s: status %d: %s", device, got, body)
		}
	}
	seenDevices(t, s) // without them every device counts as known
	status("demo", 404, "no device with this name")
	c := connectDemo(t, s, 5)
	await(t, "record of the device", func() bool { return len(seenDevices(t, s)) == 1 })
	status("demo", 504, "has subscribed to v1/devices/me/rpc/request/+")
	status("other", 404, "no device with this name")
	if status, body := call(t, s, http.MethodPost, "/api/plugins/telemetry/DEVICE/planned/SHARED_SCOPE", `{"interval": 30}`); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	status("planned", 504, "offline")
	c.MustSubscribe("v1/devices/me/rpc/request/+", 1)
	for i, way := range []string{"twoway", "oneway"} {
		done := make(chan string, 1)
		go func() {
			status, body := call(t, s, http.MethodPost, "/api/rpc/"+way+"/demo", `{"method": "getGpio", "params": {"pin": "hunter2"}}`)
			done <- fmt.Sprint(status, " ", body)
		}()
		m, err := c.Next(patience)
		if err != nil || string(m.Payload) != `{"method":"getGpio","params":{"pin":"hunter2"}}` {
			t.Fatalf("got %s, error %v", m.Payload, err)
		}
		c.Send((&packets.Publish{Topic: []byte("v1/devices/me/rpc/response/" + path.Base(string(m.Topic))), Payload: []byte(`{"value": 1}`), QoS: 1, PacketID: 7}).Append(nil, 5))
		if got, want := <-done, []string{`200 {"value": 1}`, "200 "}[i]; got != want {
			t.Errorf("%s: %s, want %s", way, got, want)
		}
		if last := s.audit.Latest(1)[0]; last.Action != "call device" || last.Object != "demo" || last.By != "operate" || last.Outcome != []string{"two-way", "one-way"}[i]+" getGpio: done" {
			t.Errorf("%s: recorded %+v", way, last)
		}
		c.ExpectAck(packets.PUBACK, 7, 0)
	}
}

// TestCallsEndWithTheirCallers: a call that no caller waits for takes up no room.
func TestCallsEndWithTheirCallers(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
`)
	c := connectDemo(t, s, 5)
	c.MustSubscribe("v1/devices/me/rpc/request/+", 1)
	caller, err := net.Dial("tcp", s.current.Load().admin.socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(s.current.Load().config.Admin.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"method": "getGpio", "params": {}}`
	fmt.Fprintf(caller, "POST /api/rpc/twoway/demo HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
		strings.TrimSpace(string(token)), len(body), body)
	if _, err := c.Next(patience); err != nil {
		t.Fatal(err)
	}
	caller.Close()
	await(t, "the end of the call", func() bool { return s.bundled.broker.Stats().Calls["left"] == 1 })
	await(t, "the record of it", func() bool {
		last := s.audit.Latest(1)
		return len(last) == 1 && last[0].Outcome == "two-way getGpio: the caller has left"
	})
}

// TestWaitingCallsDoNotHoldUpTheEnd: the service ends although calls are waiting for their devices.
func TestWaitingCallsDoNotHoldUpTheEnd(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
`)
	c := connectDemo(t, s, 5)
	c.MustSubscribe("v1/devices/me/rpc/request/+", 1)
	done := make(chan int, 1)
	go func() {
		status, _ := call(t, s, http.MethodPost, "/api/rpc/twoway/demo", `{"method": "getGpio", "params": {}}`)
		done <- status
	}()
	if _, err := c.Next(patience); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := <-done; got != 503 {
		t.Errorf("status %d, want 503", got)
	}
}

// TestQuotaAndTextsOfTelemetry: the keys of the configuration are in force, from the device to the
// API. What is deleted is recorded and makes room again.
func TestQuotaAndTextsOfTelemetry(t *testing.T) {
	s, _ := startService(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
telemetry: {max_keys: 2, max_bytes: 1MiB, cast_text: false}
`)
	c := connectDemo(t, s, 5)
	publish := func(id uint16, payload string, want packets.ReasonCode) {
		t.Helper()
		c.Send((&packets.Publish{Topic: []byte("v1/devices/me/telemetry"), Payload: []byte(payload), QoS: 1, PacketID: id}).Append(nil, 5))
		c.ExpectAck(packets.PUBACK, id, want)
	}
	const device = "/api/plugins/telemetry/DEVICE/demo/"
	publish(1, `{"ts":5,"values":{"fw":"1.10","n":1}}`, 0)
	publish(2, `{"ts":6,"values":{"more":1}}`, 0x97)
	if status, body := get(t, s, device+"values/timeseries/history?keys=fw,n,more&startTs=0&endTs=9&useStrictDataTypes=true"); status != 200 || strings.TrimSpace(body) != `{"fw":[{"ts":5,"value":"1.10"}],"n":[{"ts":5,"value":1}]}` {
		t.Errorf("status %d, %s", status, body)
	}
	if status, body := call(t, s, http.MethodDelete, device+"timeseries/delete?keys=n&deleteAllDataForKeys=true", ""); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	publish(3, `{"ts":6,"values":{"more":1}}`, 0)
	changes := s.audit.Latest(1)
	if len(changes) != 1 || changes[0].Action != "delete telemetry" || changes[0].Object != "demo" || changes[0].By != "operate" || changes[0].Outcome != "1 keys in 1 messages" {
		t.Errorf("changes %+v", changes)
	}
	half := strings.Repeat("x", 600_000)
	publish(4, `{"ts":7,"values":{"fw":"`+half+`"}}`, 0)
	publish(5, `{"ts":8,"values":{"fw":"`+half+`"}}`, 0x97)
	if status, body := call(t, s, http.MethodDelete, device+"timeseries/delete?keys=fw&startTs=7&endTs=8", ""); status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	publish(6, `{"ts":8,"values":{"fw":"`+half+`"}}`, 0)
	if n := s.bundled.intake.Stats().OverQuota; n != 2 {
		t.Errorf("%d payloads are counted, want 2", n)
	}
}
