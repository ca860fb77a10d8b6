//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestOneOwnerOfTheStore: a second program with the same data directory ends at once and
// names the first, which goes on. A program that was killed does not prevent a new one.
func TestOneOwnerOfTheStore(t *testing.T) {
	t.Parallel()
	first, second := harness.NewProxy(t, ""), harness.NewProxy(t, "")
	token := first.Token("device")
	second.AddSecret(token)
	text, err := os.ReadFile(second.Config)
	if err != nil {
		t.Fatal(err)
	}
	second.Config = filepath.Join(t.TempDir(), "second.yaml")
	if err := os.WriteFile(second.Config, []byte(strings.ReplaceAll(string(text), second.Data, first.Data)), 0o600); err != nil {
		t.Fatal(err)
	}
	second.Data = first.Data

	first.Start()
	second.Launch()
	want := fmt.Sprintf("telemetry.db: it is in use by process %d: stop that process first", first.Cmd.Process.Pid)
	if status := second.Wait(t, harness.Patience); status != 1 || !strings.Contains(second.Stderr.String(), want) {
		t.Fatalf("the second program ended with status %d and without saying %q\n%s", status, want, second.Stderr)
	}
	d := first.Connect(t, 5, "device", token)
	if err := d.Publish("v1/devices/me/telemetry", `{"level":1}`); err != nil {
		t.Errorf("the first program after the second one ended: %v", err)
	}
	first.Kill()
	second.Start()
	if status, body := second.Get("/api/plugins/telemetry/DEVICE/device/values/timeseries?keys=level"); status != 200 || !strings.Contains(body, `"value":"1"`) {
		t.Errorf("after a kill the next owner answers %d %s", status, body)
	}
}

// TestEveryMessageIsARow: messages without a time are all stored, however fast they come,
// and are read in their order, also page by page.
func TestEveryMessageIsARow(t *testing.T) {
	t.Parallel()
	const messages = 2000
	p := harness.NewProxy(t, "")
	token := p.Token("device")
	p.Start()
	d := p.Connect(t, 5, "device", token)
	var payloads [][]byte
	for i := range messages {
		payloads = append(payloads, fmt.Appendf(nil, `{"n":%d}`, i))
	}
	acked := 0
	if err := d.PublishAll("v1/devices/me/telemetry", payloads, func([]byte) { acked++ }); err != nil || acked != messages {
		t.Fatalf("%d of %d messages acknowledged, %v", acked, messages, err)
	}
	end, seen := int64(1)<<60, 0
	for seen < messages {
		path := fmt.Sprintf("/api/plugins/telemetry/DEVICE/device/values/timeseries?keys=n&startTs=0&endTs=%d&limit=150&useStrictDataTypes=true", end)
		status, body := p.Get(path)
		var points map[string][]struct{ TS, Value int64 }
		if err := json.Unmarshal([]byte(body), &points); status != 200 || err != nil || len(points["n"]) == 0 {
			t.Fatalf("after %d rows: status %d, %v: %.300s", seen, status, err, body)
		}
		for _, point := range points["n"] {
			if want := int64(messages - 1 - seen); point.Value != want {
				t.Fatalf("row %d from the end is %d", seen, point.Value)
			}
			end = point.TS
			seen++
		}
	}
	harness.Eventually(t, "a metric that counts every message", func() bool {
		return p.HasMetric(fmt.Sprintf("mqtt_auth_proxy_telemetry_messages_total %d", messages))
	})
}
