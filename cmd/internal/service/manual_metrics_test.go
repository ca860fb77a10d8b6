package service

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestManualListsEveryMetric: the manual's table has every metric that the program
// exports in one configuration or another, with its labels, and no other.
func TestManualListsEveryMetric(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, bytes.Repeat([]byte("k"), 32), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	selfSigned(t, dir, "devices", time.Now().Add(1000*time.Hour))
	exported := map[string]string{}
	for _, yaml := range []string{
		fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0", tls: {auto: true, client_auth: request, client_ca: %q}}]
admin: {address: "127.0.0.1:0"}
auth: {sources: [{file: {path: tokens.jsonl}}, {http: {url: "http://127.0.0.1:1/"}}, {jwt: {secret_file: %q}}]}
`, filepath.Join(dir, "devices.pem"), secret),
		fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
auth: {sources: [{file: {path: %q}}]}
upstream: {servers: ["tcp://127.0.0.1:1"], connect_timeout: 100ms}
`, emptyTokenFile(t)),
	} {
		s, _ := startService(t, yaml)
		if status, body := call(t, s, http.MethodPost, "/v1/reload", ""); status != http.StatusOK {
			t.Fatalf("reload: status %d, %s", status, body)
		}
		addExported(t, exported, s.registry)
	}
	listed := listedMetrics(manualText(t))
	for name, labels := range exported {
		switch manual, ok := listed[name]; {
		case !ok:
			t.Errorf("the manual lacks %s", name)
		case manual != labels:
			t.Errorf("the manual gives %s the labels %q, it has %q", name, manual, labels)
		}
	}
	for name := range listed {
		if _, ok := exported[name]; !ok {
			t.Errorf("the manual lists %s, which nobody exports", name)
		}
	}
}

// addExported adds the program's own metrics and their labels.
func addExported(t *testing.T, exported map[string]string, r prometheus.Gatherer) {
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
		exported[f.GetName()] = strings.Join(labels, " ")
	}
}

// listedMetrics returns the metrics of the manual's table with their labels. A name
// that begins with an underscore shares the first word after the program's name with
// the first one of its row.
func listedMetrics(text string) map[string]string {
	_, table, _ := strings.Cut(text, "<!-- metrics -->")
	table, _, _ = strings.Cut(table, "\n\n")
	listed := map[string]string{}
	for _, row := range strings.Split(table, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) < 4 || !strings.HasPrefix(row, "| `") {
			continue
		}
		labels := strings.FieldsFunc(cells[2], func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(labels)
		first := ""
		for _, m := range metricName.FindAllStringSubmatch(cells[1], -1) {
			name := m[1]
			if first == "" {
				first = metricFamily.FindString(name)
			}
			if strings.HasPrefix(name, "_") {
				name = first + name
			}
			listed[name] = strings.Join(labels, " ")
		}
	}
	return listed
}

var (
	metricName = regexp.MustCompile("`([a-z_]+)`")
	// metricFamily is the part of a name that a row's other names share.
	metricFamily = regexp.MustCompile("^mqtt_auth_proxy_[a-z]+")
)

func manualText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "mqtt-auth-proxy", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
