package telemetry

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/telemetry/payload"
)

// TestValuesDoNotKeepTheirMessages: small values of large messages are small in memory.
func TestValuesDoNotKeepTheirMessages(t *testing.T) {
	row := payload.Text(strings.Repeat("x", 100))
	left := budget(1000)
	part, err := left.clone(row)
	if err != nil || part != row || left != 1000-100-valueBytes {
		t.Errorf("value %v, error %v, %d bytes left", part, err, left)
	}
	if unsafe.StringData(part.String()) == unsafe.StringData(row.String()) {
		t.Error("the value is a part of the message")
	}
}
