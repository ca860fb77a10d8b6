//go:build integration && linux

package soak

import (
	"os"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(sinkVariable); spec != "" {
		os.Exit(runSink(spec))
	}
	os.Exit(harness.Main(m))
}
