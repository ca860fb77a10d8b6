package harness

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Metric returns the value of one sample of the program's metrics. name includes the
// labels.
func Metric(t testing.TB, p *Proxy, name string) float64 {
	t.Helper()
	status, text := p.Get("/metrics")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(text)
	if status != 200 || found == nil {
		t.Fatalf("status %d and no %s", status, name)
	}
	value, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// AddressOf returns the address of the only session with a client identifier.
func (p *Proxy) AddressOf(clientID string) string {
	p.t.Helper()
	_, body := p.Get("/v1/sessions?client_id=" + clientID)
	var found struct{ Sessions []struct{ Address string } }
	if err := json.Unmarshal([]byte(body), &found); err != nil || len(found.Sessions) != 1 {
		p.t.Fatalf("sessions of %s: %s, %v", clientID, body, err)
	}
	return found.Sessions[0].Address
}

// Request sends a request to the admin side, with the admin token, and returns status and
// body of the answer. It may run on any goroutine.
func (p *Proxy) Request(method, path, body string) (int, string) {
	p.t.Helper()
	token, err := os.ReadFile(filepath.Join(p.Data, "admin-token"))
	if err != nil {
		p.t.Error(err)
	}
	return send(p.t, method, "http://"+p.Admin+path, "Bearer "+strings.TrimSpace(string(token)), body)
}

// Get requests a page of the admin side.
func (p *Proxy) Get(path string) (int, string) {
	p.t.Helper()
	return p.Request(http.MethodGet, path, "")
}

// Status returns the status page of the admin side.
func (p *Proxy) Status() string {
	_, body := p.Get("/v1/status")
	return body
}

// HasMetric reports whether the metrics contain exactly this line.
func (p *Proxy) HasMetric(line string) bool {
	p.t.Helper()
	status, metrics := p.Get("/metrics")
	return status == http.StatusOK && strings.Contains(metrics, line+"\n")
}

// Fetch requests a page. authorization may be empty.
func Fetch(t testing.TB, url, authorization string) (int, string) {
	t.Helper()
	return send(t, http.MethodGet, url, authorization, "")
}

// send sends a request and returns status and body of the answer.
func send(t testing.TB, method, url, authorization, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(answer), "\n")
}
