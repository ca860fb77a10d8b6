package service

import (
	"strings"
	"testing"
)

// TestInUseNamesTheLikelyProgram: the port of the admin side is also that of Mosquitto's dashboard.
func TestInUseNamesTheLikelyProgram(t *testing.T) {
	for address, mosquitto := range map[string]bool{"127.0.0.1:9883": true, ":9883": true, "127.0.0.1:1883": false, "127.0.0.1:19883": false} {
		if err := inUse(address); strings.Contains(err.Error(), "Mosquitto") != mosquitto || !strings.HasPrefix(err.Error(), address+" is in use: ") {
			t.Errorf("%s: %v", address, err)
		}
	}
}
