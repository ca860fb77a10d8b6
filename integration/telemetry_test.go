//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneOwnerOfTheStore: a second program with the bundled broker on the same data
// directory ends at once and names the first, which goes on. A program that was killed
// stands in nobody's way.
func TestOneOwnerOfTheStore(t *testing.T) {
	t.Parallel()
	first, second := newProxy(t, ""), newProxy(t, "")
	token := first.token("device")
	second.keep(token)
	text, err := os.ReadFile(second.config)
	if err != nil {
		t.Fatal(err)
	}
	second.config = filepath.Join(t.TempDir(), "second.yaml")
	if err := os.WriteFile(second.config, []byte(strings.ReplaceAll(string(text), second.data, first.data)), 0o600); err != nil {
		t.Fatal(err)
	}
	second.data = first.data

	first.start()
	second.launch()
	want := fmt.Sprintf("telemetry.db: it is in use by process %d: stop that process first", first.cmd.Process.Pid)
	if status := second.wait(t, patience); status != 1 || !strings.Contains(second.stderr.String(), want) {
		t.Fatalf("the second program ended with status %d and without saying %q\n%s", status, want, second.stderr)
	}
	d := connect(t, dial(t, first.plain), identity(5, "device", token))
	if err := d.publish("v1/devices/me/telemetry", `{"level":1}`); err != nil {
		t.Errorf("the first program after the second one ended: %v", err)
	}
	first.kill()
	second.start()
	if status, body := second.get("/api/plugins/telemetry/DEVICE/device/values/timeseries?keys=level"); status != 200 || !strings.Contains(body, `"value":"1"`) {
		t.Errorf("after a kill the next owner answers %d %s", status, body)
	}
}

// TestEveryMessageIsARow: what a device sends without a time is kept, however fast it
// sends, and comes back in order, also to a reader who goes from page to page.
func TestEveryMessageIsARow(t *testing.T) {
	t.Parallel()
	const messages = 2000
	p := newProxy(t, "")
	token := p.token("device")
	p.start()
	d := connect(t, dial(t, p.plain), identity(5, "device", token))
	var payloads [][]byte
	for i := range messages {
		payloads = append(payloads, fmt.Appendf(nil, `{"n":%d}`, i))
	}
	acked := 0
	if err := d.burst("v1/devices/me/telemetry", payloads, func([]byte) { acked++ }); err != nil || acked != messages {
		t.Fatalf("%d of %d messages acknowledged, %v", acked, messages, err)
	}
	end, seen := int64(1)<<60, 0
	for seen < messages {
		path := fmt.Sprintf("/api/plugins/telemetry/DEVICE/device/values/timeseries?keys=n&startTs=0&endTs=%d&limit=150&useStrictDataTypes=true", end)
		status, body := p.get(path)
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
	if !p.counts(fmt.Sprintf("mqtt_auth_proxy_telemetry_messages_total %d", messages)) {
		t.Error("the metric does not count every message")
	}
}
