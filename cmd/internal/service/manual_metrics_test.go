package service

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/cmd/internal/config"
)

const root = "../../.."

var manualPath = filepath.Join(root, "cmd", "mqtt-auth-proxy", "README.md")

var update = flag.Bool("update", false, "rewrite the manual's tables")

// TestManualListsEveryMetric: the manual's table is made of the metrics that the program
// exports in one configuration or another.
func TestManualListsEveryMetric(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("k"), 32), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dsn := filepath.Join(dir, "dsn")
	if err := os.WriteFile(dsn, []byte("postgres://user@127.0.0.1:1/nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	selfSigned(t, dir, "devices", time.Now().Add(1000*time.Hour))
	exported, kinds := map[string]exportedMetric{}, map[string]bool{}
	for _, yaml := range []string{
		fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0", tls: {auto: true, client_auth: request, client_ca: %q}}]
admin: {address: "127.0.0.1:0"}
auth: {sources: [{file: {path: tokens.jsonl}}, {http: {url: "http://127.0.0.1:1/"}}, {jwt: {secret_file: %q}}]}
`, filepath.Join(dir, "devices.pem"), secret),
		fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
auth: {sources: [{file: {path: %q}}, {passwd: {path: %q, format: htpasswd}}, {postgres: {dsn_file: %q, query: "SELECT subject FROM devices WHERE token = @token_sha256", notify: tokens}}]}
upstream: {servers: ["tcp://127.0.0.1:1"], connect_timeout: 100ms}
replicas: {bus: mqtt, secret_file: %q}
hooks: {url: "http://127.0.0.1:1/", secret_file: %[4]q}
`, emptyTokenFile(t), htpasswd(t, "pump-7"), dsn, secret),
	} {
		s, _ := startService(t, yaml)
		if status, body := call(t, s, http.MethodPost, "/v1/reload", ""); status != http.StatusOK {
			t.Fatalf("reload: status %d, %s", status, body)
		}
		addExported(t, exported, s.observer.Metrics())
		for _, x := range s.current.Load().sources.list {
			kinds[x.kind] = true
		}
	}
	for f := range reflect.TypeFor[config.Source]().Fields() {
		if kind := f.Tag.Get("yaml"); !kinds[kind] {
			t.Errorf("no configuration of this test has a source of the kind %s, whose metrics are then missing in the manual", kind)
		}
	}
	holdTable(t, "metrics", metricTable(exported))
	holdMetricNames(t, exported)
}

// holdMetricNames finds metrics in the documents that do not exist, and names that search
// does not find because they are not written out.
func holdMetricNames(t *testing.T, exported map[string]exportedMetric) {
	t.Helper()
	full := regexp.MustCompile(`\bmqtt_auth_proxy_[a-z0-9_]+`)
	for _, path := range []string{
		manualPath, filepath.Join(root, "README.md"), filepath.Join(root, "authz", "README.md"), filepath.Join(root, ".github", "CHANGELOG.md"),
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range full.FindAllString(string(text), -1) {
			if _, ok := exported[name]; !ok {
				t.Errorf("%s names %s, which is not exported", path, name)
			}
		}
		for name := range exported {
			short := strings.TrimPrefix(name, "mqtt_auth_proxy_")
			if strings.Contains(short, "_") && strings.Contains(string(text), "`"+short+"`") {
				t.Errorf("%s names %s without its first words", path, name)
			}
		}
	}
}

// exportedMetric is what the manual says about a metric.
type exportedMetric struct{ kind, labels, help string }

// addExported adds the program's own metrics.
func addExported(t *testing.T, exported map[string]exportedMetric, r prometheus.Gatherer) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "mqtt_auth_proxy_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		exported[f.GetName()] = exportedMetric{strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()}
	}
}

// metricTable returns the manual's table, one metric a row.
func metricTable(exported map[string]exportedMetric) string {
	var b strings.Builder
	b.WriteString("| name | type | labels | meaning |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(exported)) {
		m := exported[name]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, m.kind, m.labels, m.help)
	}
	return b.String()
}

// holdTable compares a table with the one between its marks in the manual, or with -update writes
// it there.
func holdTable(t *testing.T, name, table string) {
	t.Helper()
	begin, end := "<!-- "+name+": go test ./cmd/internal/service -run Manual -update -->\n", "<!-- end of "+name+" -->"
	text, err := os.ReadFile(manualPath)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("the marks around the table of %s are gone", name)
	}
	want := head + begin + table + end + tail
	switch {
	case string(text) == want:
	case *update:
		if err := os.WriteFile(manualPath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table of %s is not what the program has: run go test ./cmd/internal/service -run Manual -update", name)
	}
}
