package observe

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy/upstream"
)

// wantMetric fails unless the series has the value. That of a histogram is its count.
func wantMetric(t *testing.T, r prometheus.Gatherer, name string, labels map[string]string, want float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			if maps.Equal(labels, labelsOf(m)) {
				if got := m.Counter.GetValue() + m.Gauge.GetValue() + float64(m.Histogram.GetSampleCount()); got != want {
					t.Errorf("%s%v is %v, want %v", name, labels, got, want)
				}
				return
			}
		}
	}
	t.Errorf("there is no %s%v", name, labels)
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := make(map[string]string, len(m.Label))
	for _, l := range m.Label {
		labels[l.GetName()] = l.GetValue()
	}
	return labels
}

func TestListenersStartAtZero(t *testing.T) {
	o := New(newTestLog(t, io.Discard, zap.InfoLevel), "")
	o.Expect("mqtts")
	for _, series := range []struct {
		name   string
		labels map[string]string
	}{
		{"connections_accepted_total", map[string]string{"listener": "mqtts"}},
		{"accept_errors_total", map[string]string{"listener": "mqtts"}},
		{"connections_refused_total", map[string]string{"listener": "mqtts", "reason": "upstream_credentials"}},
		{"sessions_opened_total", map[string]string{"listener": "mqtts", "version": "3.1.1"}},
		{"sessions_closed_total", map[string]string{"listener": "mqtts", "by": "proxy", "cause": "revoked"}},
		{"tls_handshake_seconds", map[string]string{"listener": "mqtts", "resumed": "true"}},
		{"connect_seconds", map[string]string{"listener": "mqtts"}},
		{"panics_total", map[string]string{}},
	} {
		wantMetric(t, o.registry, namespace+series.name, series.labels, 0)
	}
}

func TestEveryReasonStartsAtZero(t *testing.T) {
	o := New(newTestLog(t, io.Discard, zap.InfoLevel), "")
	o.Expect("mqtt")
	for _, info := range proxy.Reasons() {
		wantMetric(t, o.registry, namespace+"connections_refused_total", map[string]string{"listener": "mqtt", "reason": string(info.Reason)}, 0)
	}
}

// TestEveryMetricStartsAtZero: each metric of events has a series before its first event, so that
// rate does not miss that event and the manual's table, which is made of what is exported, has it.
func TestEveryMetricStartsAtZero(t *testing.T) {
	o := New(newTestLog(t, io.Discard, zap.InfoLevel), "")
	o.Expect("mqtt")
	o.ExpectServer(upstream.Server{})
	families, err := o.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for _, f := range families {
		exported[f.GetName()] = true
	}
	described, name := make(chan *prometheus.Desc, 1000), regexp.MustCompile(`fqName: "(`+namespace+`[^"]*)"`)
	o.registry.Describe(described)
	close(described)
	found := 0
	for d := range described {
		if m := name.FindStringSubmatch(d.String()); m != nil {
			found++
			if !exported[m[1]] {
				t.Errorf("%s has no series before its first event", m[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d metrics were found", found)
	}
}

func TestHandshakesAreTimed(t *testing.T) {
	trace, _, r := newTestObserver(t, zap.InfoLevel)
	trace.Secured(proxy.Handshake{Listener: "mqtts", Duration: time.Millisecond})
	for range 2 {
		trace.Secured(proxy.Handshake{Listener: "mqtts", Duration: time.Millisecond, Resumed: true})
	}
	wantMetric(t, r, namespace+"tls_handshake_seconds", map[string]string{"listener": "mqtts", "resumed": "false"}, 1)
	wantMetric(t, r, namespace+"tls_handshake_seconds", map[string]string{"listener": "mqtts", "resumed": "true"}, 2)
}

func TestServerIsReadOncePerScrape(t *testing.T) {
	looks := 0
	o := New(newTestLog(t, io.Discard, zap.InfoLevel), "")
	r := o.registry
	o.Export(State{Server: func() proxy.Stats {
		looks++
		return proxy.Stats{Connections: 5, Sessions: 4, Up: 100, Down: 200, Quiet: 3, Busy: 1, Escalations: 9}
	}})
	wantMetric(t, r, namespace+"connections", map[string]string{}, 5)
	if looks != 1 {
		t.Errorf("%d looks for one scrape", looks)
	}
	wantMetric(t, r, namespace+"sessions", map[string]string{}, 4)
	wantMetric(t, r, namespace+"session_bytes_total", map[string]string{"direction": "up"}, 100)
	wantMetric(t, r, namespace+"session_bytes_total", map[string]string{"direction": "down"}, 200)
	wantMetric(t, r, namespace+"relay_sessions", map[string]string{"state": "quiet"}, 3)
	wantMetric(t, r, namespace+"relay_sessions", map[string]string{"state": "busy"}, 1)
	wantMetric(t, r, namespace+"relay_escalations_total", map[string]string{}, 9)
	wantMetric(t, r, namespace+"tls_buffers_lent", map[string]string{}, 1)
}

// TestRefusalsCannotFillTheDisk: a few of many lines are logged, each reason has a limit of
// its own, and the number of the others is logged and counted.
func TestRefusalsCannotFillTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trace, out, r := newTestObserver(t, zap.InfoLevel)
		refuse := func(reason proxy.Reason, n int) {
			for range n {
				trace.Refused(proxy.Refusal{Reason: reason, Listener: "mqtt", Err: errors.New("because")})
			}
		}
		refuse("unknown_token", 1000)
		if n := len(lines(t, out)); n != 100 {
			t.Errorf("%d lines for 1000 refusals at once, want 100", n)
		}
		out.Reset()
		refuse(proxy.UpstreamUnavailable, 1)
		refuse(proxy.UpstreamCredentials, 500)
		if n := len(lines(t, out)); n != 101 {
			t.Errorf("%d lines, want 101: one of a second reason, and a hundred of a third", n)
		}
		out.Reset()
		for range 10 {
			time.Sleep(time.Second)
			refuse("unknown_token", 500)
		}
		all := lines(t, out)
		if len(all) != 100 || all[0]["suppressed"] != 900.0 || all[1]["suppressed"] != nil || all[10]["suppressed"] != 490.0 {
			t.Errorf("%d lines in 10 seconds, want 100; the first says %v, the eleventh %v were suppressed", len(all), all[0]["suppressed"], all[10]["suppressed"])
		}
		wantMetric(t, r, namespace+"log_suppressed_total", map[string]string{"message": "refused", "reason": "unknown_token"}, 900+10*490)
		wantMetric(t, r, namespace+"connections_refused_total", map[string]string{"listener": "mqtt", "reason": "unknown_token"}, 6000)
	})
}

// TestAcceptErrorsAreLimited: an accept that succeeds ends the pause between failures, so
// they may come as fast as connections do. All of them are counted.
func TestAcceptErrorsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trace, out, r := newTestObserver(t, zap.InfoLevel)
		for range 2000 {
			trace.AcceptFailed("mqtt", errors.New("no descriptors"), time.Millisecond)
			time.Sleep(5 * time.Millisecond)
		}
		if all := lines(t, out); len(all) > 200 || len(all) < 190 || all[150]["suppressed"] == nil {
			t.Errorf("%d lines of 2000 in ten seconds", len(all))
		}
		wantMetric(t, r, namespace+"accept_errors_total", map[string]string{"listener": "mqtt"}, 2000)
	})
}

// TestDebuggingShowsMore: a hundred times as many lines, but even then a client cannot make
// the log grow as fast as it likes.
func TestDebuggingShowsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trace, out, _ := newTestObserver(t, zap.DebugLevel)
		for range 11_000 {
			trace.Refused(proxy.Refusal{Reason: "unknown_token", Listener: "mqtt"})
		}
		if n := strings.Count(out.String(), "\n"); n != 10_000 {
			t.Errorf("%d lines of 11,000 at once, want 10,000", n)
		}
	})
}

// BenchmarkConnection measures a connection that becomes a session and ends, without the
// writing of the line about it.
func BenchmarkConnection(b *testing.B) {
	trace, client := New(newTestLog(b, io.Discard, zap.ErrorLevel), "").Trace(), testClient()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			trace.Accepted("mqtts")
			trace.Secured(proxy.Handshake{Listener: "mqtts", Duration: time.Millisecond})
			trace.Opened(client)
			trace.Closed(client, proxy.End{By: "client"})
		}
	})
}

// BenchmarkRefusal measures connections that are refused under attack, when most lines are
// suppressed.
func BenchmarkRefusal(b *testing.B) {
	log := newTestLog(b, io.Discard, zap.InfoLevel)
	log.SetRate(10)
	o := New(log, "")
	trace := o.Trace()
	refusal := proxy.Refusal{Reason: "unknown_token", Listener: "mqtts", Err: fmt.Errorf("because"), ClientID: "dev", Level: 4}
	b.ReportAllocs()
	for b.Loop() {
		trace.Accepted("mqtts")
		trace.Refused(refusal)
	}
}

// BenchmarkDenied measures a session that publishes what it must not as fast as it can.
func BenchmarkDenied(b *testing.B) {
	log := newTestLog(b, io.Discard, zap.InfoLevel)
	log.SetRate(10)
	trace, client := New(log, "").Trace(), testClient()
	denied := proxy.Denied{Type: packets.PUBLISH, Topic: []byte("devices/other/x")}
	b.ReportAllocs()
	for b.Loop() {
		trace.Denied(client, denied)
	}
}
