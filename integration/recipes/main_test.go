//go:build integration

package recipes

import (
	"os"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
