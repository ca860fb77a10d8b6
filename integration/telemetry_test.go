//go:build integration

package integration

import (
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
