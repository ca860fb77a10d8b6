package config

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPaths(t *testing.T) {
	o := write(t, `
data: /data
listeners: [{address: ":1883"}, {address: ":8883", tls: {certificate: /tls/a.pem, key: /tls/a-key.pem}}]
auth: {sources: [{http: {url: "https://auth.example", bearer_file: /secrets/bearer}}, {file: {path: t.jsonl}}]}
upstream: {password_file: broker-password}
`)
	put(t, filepath.Join(o.WorkDir, "broker-password"), "secret", 0o600)
	want := map[string]string{
		"data": "/data", "listeners[1].tls.certificate": "/tls/a.pem", "listeners[1].tls.key": "/tls/a-key.pem",
		"auth.sources[0].http.bearer_file": "/secrets/bearer", "auth.sources[1].file.path": "/data/t.jsonl",
		"upstream.password_file": o.WorkDir + "/broker-password",
		"admin.token_file":       "/data/admin-token", "admin.read_token_file": "/data/admin-read-token", "admin.metrics_token_file": "/data/admin-metrics-token", "telemetry.path": "/data/telemetry.db",
	}
	if diff := cmp.Diff(want, load(t, o).Paths()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
