//go:build integration

package recipes

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
)

// ownMetric matches the metrics of the program and of its runtime in a query.
var ownMetric = regexp.MustCompile(`\b(?:mqtt_auth_proxy|process|go)_[a-z_]+\b`)

// TestPrometheus: rules and dashboard load and only use metrics that the program exports.
// Prometheus itself evaluates every query and scrapes the proxy as the README says.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	promtool, prometheus := harness.Need(t, "promtool"), harness.Need(t, "prometheus")
	r := copyRecipe(t, "prometheus")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts_test.yaml"}} {
		if c := (harness.Command{Dir: r.dir, Args: append([]string{promtool}, args...)}).Run(t); c.Status != 0 {
			t.Errorf("promtool %s: status %d\n%s", args, c.Status, c.Output())
		}
	}

	sources := allSources(r)
	secret := filepath.Join(t.TempDir(), "events-secret")
	harness.WriteFile(t, secret, strings.Repeat("s", 32))
	bundled := harness.NewProxy(t, sources)
	outside := harness.NewProxy(t, sources+harness.StartSink(t).Upstream()+fmt.Sprintf("hooks: {url: 'http://%s/events', secret_file: %q}\n", harness.FreeAddress(t), secret))
	authority := filepath.Join(t.TempDir(), "devices-ca.pem")
	harness.WriteFile(t, authority, harness.NewAuthority(t, "devices").PEM())
	outside.ListenAlso(fmt.Sprintf("  - {name: mtls, address: '%s', tls: {auto: true, client_ca: '%s', client_auth: request}}\n", harness.FreeAddress(t), authority))
	token := bundled.Token("gauge")
	outside.Token("gauge")
	bundled.Start()
	outside.Start()
	exported := map[string]bool{}
	for _, p := range []*harness.Proxy{bundled, outside} {
		_, text := p.Get("/metrics")
		for _, m := range regexp.MustCompile(`(?m)^(\w+)[ {]`).FindAllStringSubmatch(text, -1) {
			exported[m[1]] = true
		}
	}
	queries := dashboardQueries(t, r)
	for _, name := range ownMetric.FindAllString(r.read("alerts.yaml")+strings.Join(queries, "\n"), -1) {
		// Descriptions contain the program's name.
		if !exported[name] && name != "mqtt_auth_proxy" {
			t.Errorf("%s is used, but not exported", name)
		}
	}

	r.replace("prometheus.yaml", "127.0.0.1:9883", bundled.Admin, "15s", "200ms",
		"/etc/prometheus/mqtt-auth-proxy-metrics-token", filepath.Join(bundled.Data, "admin-metrics-token"))
	if c := (harness.Command{Dir: r.dir, Args: []string{promtool, "check", "config", "prometheus.yaml"}}).Run(t); c.Status != 0 {
		t.Fatalf("promtool check config: status %d\n%s", c.Status, c.Output())
	}
	address := harness.FreeAddress(t)
	server := harness.Launch(t, nil, prometheus, "--config.file="+r.path("prometheus.yaml"), "--storage.tsdb.path="+t.TempDir(),
		"--web.listen-address="+address, "--enable-feature=native-histograms")
	d := bundled.Connect(t, 5, "d", token)
	if err := d.Publish("v1/devices/me/telemetry", `{"level":1}`); err != nil {
		t.Fatal(err)
	}
	if _, ack := bundled.Present(t, 5, "d", "an-unknown-token"); ack.Code != packets.BadUserNameOrPassword {
		t.Fatalf("a wrong token gets %v", ack.Code)
	}
	harness.Eventually(t, "a scrape after these", func() bool {
		return queryPrometheus(t, address, `mqtt_auth_proxy_sessions == 1 and on () mqtt_auth_proxy_connections_refused_total{reason="unknown_token"} == 1`) == "success, 1 series"
	})
	for _, query := range queries {
		if got := queryPrometheus(t, address, query); !strings.HasPrefix(got, "success") {
			t.Errorf("%s: %s", query, got)
		}
	}
	// The rules are evaluated, and nothing is wrong with this proxy.
	harness.Eventually(t, "rules that are evaluated", func() bool { return strings.Contains(fetchRules(t, address), `"health":"ok"`) })
	rules := fetchRules(t, address)
	for _, wrong := range []string{`"health":"err"`, `"state":"firing"`} {
		if i := strings.Index(rules, wrong); i >= 0 {
			t.Errorf("%s in %s\n%s", wrong, rules[max(0, i-600):i+len(wrong)], harness.Excerpt(server.Stderr.String()))
		}
	}
}

// allSources returns a config with token sources of all kinds, so that all their metrics
// exist. The service is never asked.
func allSources(r *recipe) string {
	r.write("secret", strings.Repeat("k", 32))
	return fmt.Sprintf(`auth:
  sources:
    - file: {path: tokens.jsonl}
    - jwt: {secret_file: '%s'}
    - http: {url: "http://127.0.0.1:1/"}
  guard: {prefix: no-token-of-this-story}
`, r.path("secret"))
}

// dashboardQueries returns the queries of the dashboard with values for its variables.
func dashboardQueries(t *testing.T, r *recipe) (queries []string) {
	t.Helper()
	var board struct {
		Title      string
		Templating struct{ List []struct{ Name string } }
		Panels     []struct {
			Type, Title, Description string
			Targets                  []struct{ Expr string }
		}
	}
	dec := json.NewDecoder(strings.NewReader(r.read("dashboard.json")))
	if err := dec.Decode(&board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Type != "row" && (len(p.Targets) == 0 || p.Description == "" || p.Title == "") {
			t.Errorf("panel %q: %d queries, description %q", p.Title, len(p.Targets), p.Description)
		}
		for _, target := range p.Targets {
			query := strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*").Replace(target.Expr)
			if strings.Contains(query, "$") {
				t.Errorf("panel %q: unknown variable in %s", p.Title, target.Expr)
			}
			queries = append(queries, query)
		}
	}
	if len(queries) < 40 {
		t.Fatalf("%d queries are too few for this dashboard", len(queries))
	}
	return queries
}

// queryPrometheus evaluates a query and returns a summary of the result.
func queryPrometheus(t *testing.T, address, query string) string {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(getText(t, "http://"+address+"/api/v1/query?query="+url.QueryEscape(query))), &answer); err != nil {
		return err.Error()
	}
	if answer.Status != "success" {
		return answer.Status + ": " + answer.Error
	}
	return fmt.Sprintf("success, %d series", len(answer.Data.Result))
}

func fetchRules(t *testing.T, address string) string {
	t.Helper()
	return getText(t, "http://"+address+"/api/v1/rules")
}

// getText returns the page at a URL, or "" while there is no server.
func getText(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
