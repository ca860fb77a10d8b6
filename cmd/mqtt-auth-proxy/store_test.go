//go:build integration

package main

import (
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz/tokenpostgres"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// TestTokensInPostgres: the token commands say and do with the tables in PostgreSQL what they say
// and do with a file.
func TestTokensInPostgres(t *testing.T) {
	server := harness.StartPostgres(t)
	// Scripts run next to each other, and the server must outlast them.
	t.Run("", func(t *testing.T) {
		runTokenScripts(t, func(e *testscript.Env) (name, source string) {
			dsn := filepath.Join(e.WorkDir, "dsn")
			harness.WriteFile(t, dsn, server.Database("d"+strings.ToLower(rand.Text()[:12])))
			if _, err := tokenpostgres.Migrate(t.Context(), dsn); err != nil {
				t.Fatal(err)
			}
			return "postgres0", "postgres: {dsn_file: '" + dsn + "'}"
		})
	})
}
