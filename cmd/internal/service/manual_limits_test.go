package service

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry"
)

// TestManualListsLimitsOfPayloads: the manual's table has the constants of the program.
func TestManualListsLimitsOfPayloads(t *testing.T) {
	var b strings.Builder
	b.WriteString("| what | most | beyond it (5.0) |\n|---|---|---|\n")
	row := func(what string, most any, beyond string) { fmt.Fprintf(&b, "| %s | %v | %s |\n", what, most, beyond) }
	const bad, full = "bad payload, 0x99", "quota, 0x97"
	row("bytes of a payload", telemetry.MaxPayload, bad)
	row("JSON values in a payload, nested ones, objects and arrays included", telemetry.MaxValues, bad)
	row("depth of nesting", telemetry.MaxDepth, bad)
	row("characters of a key", telemetry.MaxKeyLength, bad)
	row("bytes of all values that a device sends with one `ts`", telemetry.MaxPayload, bad)
	row("time by which a `ts` may be ahead of the clock", fmt.Sprintf("%v h", telemetry.MaxAhead.Hours()), "becomes the time of arrival")
	row("telemetry keys of a device", keyDefault(t, "telemetry.max_keys")+", `telemetry.max_keys`", full)
	row("bytes that a device has stored", keyDefault(t, "telemetry.max_bytes")+", `telemetry.max_bytes`", full)
	row("attributes of a device that it has published", telemetry.MaxAttributes, full)
	row("shared attributes of a device", telemetry.MaxAttributes, "400")
	row("devices behind a gateway", telemetry.MaxChildren, full)
	row("free disk space that is left", keyDefault(t, "telemetry.min_free")+", `telemetry.min_free`", "not stored, 0x83")
	holdTable(t, "limits of payloads", b.String())
}

// keyDefault returns the default of a config key.
func keyDefault(t *testing.T, path string) string {
	t.Helper()
	for _, k := range config.Keys() {
		if k.Path == path {
			return k.Default
		}
	}
	t.Fatalf("there is no key %s", path)
	return ""
}
