package service

import (
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/host"
)

// TestDescriptorsAreReserved: 64 are kept from devices, more for each token service, and
// never more than half.
func TestDescriptorsAreReserved(t *testing.T) {
	files, service := config.Source{File: &config.FileSource{}}, config.Source{HTTP: &config.HTTPSource{}}
	for _, tt := range []struct {
		limit   int
		sources []config.Source
		want    int
	}{
		{1024, []config.Source{files}, 960},
		{1024, []config.Source{files, service, service}, 832},
		{200, []config.Source{files}, 136},
		{200, []config.Source{service}, 100},
		{100, nil, 50},
	} {
		c := &config.Config{Auth: config.Auth{Sources: tt.sources}}
		if got := deviceDescriptors(tt.limit, c); got != tt.want {
			t.Errorf("%d of %d descriptors are for devices with %d sources, want %d", got, tt.limit, len(tt.sources), tt.want)
		}
	}
	c := &config.Config{}
	all, limited := host.DescriptorLimit()
	if devices, pending := limitDescriptors(c); limited && (pending != all/4 || devices != deviceDescriptors(all, c)) {
		t.Errorf("%d descriptors are for devices and %d for pending connections, of %d", devices, pending, all)
	}
	c.Limits.Pending = 7
	if _, pending := limitDescriptors(c); pending != 7 {
		t.Errorf("limits.pending: 7 is taken for %d", pending)
	}
}
