//go:build integration && linux

package soak

import (
	"os"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(soakVariable); spec != "" {
		os.Exit(runSoakSink(spec))
	}
	os.Exit(harness.Main(m))
}
