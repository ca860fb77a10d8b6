//go:build integration && linux

package soak

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/integration/harness"
)

// sessionEnd is the program's log line about the end of a session, or about a refusal.
type sessionEnd struct {
	Message  string `json:"message"`
	ClientID string `json:"client_id"`
	By       string `json:"by"`
	Cause    string `json:"cause"`
	Reason   string `json:"reason"` // of a refusal, with its detail
	Detail   string `json:"detail"`
	Error    string `json:"error"`
	BytesUp  int64  `json:"bytes_up"`
}

// check compares what the devices, the program and the sink report about every session of
// a round. All sessions must have ended.
func (s *soak) check() {
	s.t.Helper()
	results := s.results
	ends, reports := s.collect(results)
	counts := map[string]int{}
	var messages uint64
	for _, r := range results {
		end, report := ends[r.client], reports[r.client]
		counts[r.end]++
		counts[end.Cause]++
		messages += r.sent + r.received
		if err := r.check(end, report, s.disturbed(r)); err != nil {
			s.t.Errorf("%s of soak-%d, %s within %v: %v\nprogram: %+v\nsink: %+v", r.client, r.subject, r.end, r.left.Sub(r.leaving), err, end, report)
		}
	}
	s.results, s.interventions = nil, s.interventions[max(0, len(s.interventions)-20):] // the last ones may still have effects
	s.t.Logf("%d sessions, %d messages, ends: %v", len(results), messages, counts)
	for _, want := range []string{"kicked", "revoked", endDisconnect, endDisconnectEarly, endBySink, endReset} {
		if counts[want] == 0 {
			s.t.Errorf("no session ended %s", want)
		}
	}
}

// check compares the reports about one session.
func (r sessionResult) check(end sessionEnd, report sinkReport, disturbed bool) error {
	switch {
	case r.fault != nil:
		return fmt.Errorf("device: %w", r.fault)
	case report.fault != "":
		return fmt.Errorf("sink: %s", report.fault)
	case report.up > r.sent:
		return fmt.Errorf("%d messages arrived of %d", report.up, r.sent)
	case slices.Contains([]string{"kicked", "revoked"}, end.Cause), disturbed && end.Cause == "closed":
		return nil // and may have lost its last bytes
	case r.end == endReset && (end.By == "client" || end.Cause == "closed"):
		return nil
	case r.end == endReset || r.end == endBrokenOff || end.Cause != "closed":
		return fmt.Errorf("ended by %s, %s", end.By, end.Cause)
	case report.up != r.sent:
		return fmt.Errorf("%d messages arrived of %d", report.up, r.sent)
	case !report.disconnected && r.end != endBySink:
		return fmt.Errorf("the DISCONNECT did not arrive")
	case !r.complete:
		return fmt.Errorf("answers are missing")
	case report.bytes != end.BytesUp && r.end != endBySink: // the program's own DISCONNECT does not count
		return fmt.Errorf("%d bytes arrived of %d", report.bytes, end.BytesUp)
	}
	return nil
}

// collect waits until the program and the sink have reported the end of every session.
func (s *soak) collect(results []sessionResult) (map[string]sessionEnd, map[string]sinkReport) {
	s.t.Helper()
	ends, reports := map[string]sessionEnd{}, map[string]sinkReport{}
	limit := time.Now().Add(patience)
	for !time.Now().After(limit) {
		for line := range strings.Lines(s.Stderr.Take()) {
			s.checkLine(line)
			var end sessionEnd
			switch _ = json.Unmarshal([]byte(line), &end); {
			case end.Message == "session end":
				ends[end.ClientID] = end
			case end.Message == "refused" && end.Reason != "disabled" && end.Reason != "revoked" && end.Detail != "kicked while connecting":
				s.t.Errorf("the program says %s", line)
			}
		}
		for line := range strings.Lines(s.sink.Stdout.Take()) {
			report, err := parseSinkReport(line)
			if err != nil {
				s.t.Fatalf("sink: %q, %v", line, err)
			}
			reports[report.client] = report
		}
		missing := func(r sessionResult) bool {
			_, ended := ends[r.client]
			_, reported := reports[r.client]
			return !ended || !reported
		}
		i := slices.IndexFunc(results, missing)
		if i < 0 {
			return ends, reports
		}
		if time.Now().After(limit.Add(-time.Second)) {
			s.t.Fatalf("%s has not ended for the program or for the sink: %+v, error %v", results[i].client, results[i], results[i].fault)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return ends, reports
}

// checkLine checks a line of the log as the harness does at the end, because collect
// removes it.
func (s *soak) checkLine(line string) {
	for _, secret := range s.tokens {
		if strings.Contains(line, secret) {
			s.t.Error("a token was printed")
		}
	}
	if strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") || strings.Contains(line, "a bug ended") {
		s.t.Errorf("the program reports %s", line)
	}
}

// ask sends a request to the admin side and returns the answer, which must have one of
// these statuses.
func (s *soak) ask(method, path, body string, statuses ...int) string {
	s.t.Helper()
	status, answer := s.Request(method, path, body)
	if !slices.Contains(statuses, status) {
		s.t.Errorf("%s %s: status %d\n%s", method, path, status, answer)
	}
	return answer
}

// footprint is what the program holds without sessions.
type footprint struct {
	files, goroutines int
	heap              int64 // live at the last collection, in bytes
	memory            int64 // proportional set size, in bytes
}

func (f footprint) String() string {
	return fmt.Sprintf("%d files, %d goroutines, %d KiB of heap, %d KiB of memory", f.files, f.goroutines, f.heap>>10, f.memory>>10)
}

// footprint waits until every connection is closed and garbage has been collected.
func (s *soak) footprint() footprint {
	s.t.Helper()
	harness.Eventually(s.t, "the closing of all connections", func() bool { return harness.Metric(s.t, s.Proxy, "mqtt_auth_proxy_connections") == 0 })
	var f footprint
	// A scrape makes garbage, so that there will be collections. What pools keep
	// survives one.
	collections := func() int { return int(harness.Metric(s.t, s.Proxy, "go_gc_duration_seconds_count")) }
	until := collections() + 3
	harness.Eventually(s.t, "three collections", func() bool {
		for range 50 {
			if collections() >= until {
				return true
			}
		}
		return false
	})
	// With GOGC=100 the next collection begins at twice the live heap.
	f.heap = int64(harness.Metric(s.t, s.Proxy, "go_memstats_next_gc_bytes")) / 2
	f.memory = harness.Memory(s.t, s.Proxy)
	http.DefaultClient.CloseIdleConnections()
	f.goroutines = int(harness.Metric(s.t, s.Proxy, "go_goroutines"))
	http.DefaultClient.CloseIdleConnections()
	f.files = math.MaxInt
	for range 20 { // the token file and the last request may still be open
		f.files = min(f.files, harness.Descriptors(s.t, s.Proxy))
		time.Sleep(20 * time.Millisecond)
	}
	return f
}
