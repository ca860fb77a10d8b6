//go:build integration

package integration

import (
	"os"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(stormVariable); spec != "" {
		os.Exit(runStorm(spec))
	}
	os.Exit(harness.Main(m))
}
