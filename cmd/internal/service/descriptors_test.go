package service

import (
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

// TestDescriptorsAreReserved: 64 are kept from devices, more for the connections of the admin side
// and for each source that is asked over a network, and never more than half.
func TestDescriptorsAreReserved(t *testing.T) {
	for _, tt := range []struct{ limit, sources, want int }{
		{1024, 0, 832},
		{1024, 2, 704},
		{65536, 0, 65344},
		{200, 0, 111},
		{200, 1, 100},
		{100, 0, 50},
	} {
		if got := deviceDescriptors(tt.limit, tt.sources); got != tt.want {
			t.Errorf("%d of %d descriptors are for devices with %d sources, want %d", got, tt.limit, tt.sources, tt.want)
		}
	}
	all, limited := host.DescriptorLimit()
	if devices, pending := limitDescriptors(config.Limits{}, 1); limited && (pending != all/4 || devices != deviceDescriptors(all, 1)) {
		t.Errorf("%d descriptors are for devices and %d for pending connections, of %d", devices, pending, all)
	}
	if _, pending := limitDescriptors(config.Limits{Pending: 7}, 0); pending != 7 {
		t.Errorf("limits.pending: 7 is taken for %d", pending)
	}
}
