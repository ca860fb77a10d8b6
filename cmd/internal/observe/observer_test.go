package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/packets"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// newTestObserver returns the hooks of an Observer with a log at the given level, what that
// has written, and the metrics.
func newTestObserver(t *testing.T, level zapcore.Level) (proxy.Trace, *bytes.Buffer, *prometheus.Registry) {
	t.Helper()
	var out bytes.Buffer
	log := newTestLog(t, &out, level)
	log.SetRate(10)
	o := New(log, "")
	return o.Trace(), &out, o.registry
}

func newTestLog(t testing.TB, w io.Writer, level zapcore.Level) *Log {
	t.Helper()
	log, err := NewLog(w, level, "json")
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// lines decodes the log.
func lines(t *testing.T, out *bytes.Buffer) (all []map[string]any) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if line == "" {
			continue
		}
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

func testClient() *proxy.Client {
	return &proxy.Client{
		ID: 7, ClientID: "dev\n1", Grant: &authz.Grant{TokenID: "t7", Subject: "pump-7"}, TokenHash: authz.NewToken("the-secret").Hash(),
		Addr: netip.MustParseAddrPort("192.0.2.1:1000"), Listener: "mqtts", Level: 5, TLS: 0x0304, Since: time.Now(),
	}
}

// TestSessionsThatBeginAreLoggedWhereTheConfigSaysSo: at a pace like all other lines.
func TestSessionsThatBeginAreLoggedWhereTheConfigSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newTestLog(t, &out, zapcore.InfoLevel)
		log.SetRate(10)
		o := New(log, "")
		opened := o.Trace().Opened
		opened(testClient())
		if out.Len() > 0 {
			t.Errorf("without the key: %s", out.String())
		}
		o.LogSessions(true)
		for range 150 {
			opened(testClient())
		}
		all := lines(t, &out)
		if len(all) != 100 || all[0]["message"] != "session open" || all[0]["level"] != "info" || all[0]["subject"] != "pump-7" {
			t.Errorf("%d lines, the first is %v", len(all), all[0])
		}
		time.Sleep(time.Second)
		opened(testClient())
		if all = lines(t, &out); all[100]["suppressed"] != 50.0 {
			t.Errorf("the next line is %v", all[100])
		}
	})
}

func TestOneLineForARefusal(t *testing.T) {
	for _, tt := range []struct {
		reason proxy.Reason
		level  string
	}{
		{"unknown_token", "info"}, {proxy.Malformed, "info"}, {proxy.SourceUnavailable, "warn"}, {proxy.Busy, "warn"}, {proxy.UpstreamCredentials, "error"},
	} {
		trace, out, r := newTestObserver(t, zapcore.InfoLevel)
		trace.Refused(proxy.Refusal{
			Reason: tt.reason, Err: errors.New("because"), Sent: true, Code: 5, Listener: "mqtt", ClientID: "dev", Level: 4,
			Fingerprint: authz.NewToken("the-secret").Fingerprint(), Addr: netip.MustParseAddrPort("192.0.2.1:1000"),
		})
		detail := "because"
		if tt.reason == proxy.UpstreamCredentials {
			detail = "because; check upstream.username and upstream.password, and the credentials that the token source gives for the broker"
		}
		all := lines(t, out)
		if len(all) != 1 || all[0]["level"] != tt.level || all[0]["reason"] != string(tt.reason) || all[0]["detail"] != detail ||
			all[0]["token"] != authz.NewToken("the-secret").Fingerprint() || all[0]["version"] != "3.1.1" || all[0]["code"] != 5.0 {
			t.Errorf("%s: %v", tt.reason, all)
		}
		wantMetric(t, r, "mqtt_auth_proxy_connections_refused_total", map[string]string{"listener": "mqtt", "reason": string(tt.reason)}, 1)
	}
}

// TestOneLineForASession: the beginning of a session is a line at level debug only, and the
// line about its end has who ended it and why.
func TestOneLineForASession(t *testing.T) {
	for _, tt := range []struct {
		end   proxy.End
		cause string
	}{
		{proxy.End{By: "client"}, "closed"},
		{proxy.End{By: "upstream", Err: errors.New("connection reset")}, "fault"},
		{proxy.End{By: "proxy", Err: fmt.Errorf("file: %w", proxy.ErrRevoked)}, "revoked"},
		{proxy.End{By: "proxy", Err: proxy.ErrExpired}, "expired"},
		{proxy.End{By: "proxy", Err: proxy.ErrDisplaced}, "displaced"},
		{proxy.End{By: "proxy", Err: proxy.ErrDraining}, "draining"},
		{proxy.End{By: "proxy", Err: proxy.ErrKicked}, "kicked"},
		{proxy.End{By: "proxy", Err: proxy.CauseCut.Info().Err}, "cut"},
	} {
		trace, out, r := newTestObserver(t, zapcore.InfoLevel)
		trace.Opened(testClient())
		tt.end.Up, tt.end.Down = 10, 20
		trace.Closed(testClient(), tt.end)
		all := lines(t, out)
		if len(all) != 1 || all[0]["cause"] != tt.cause || all[0]["by"] != tt.end.By || all[0]["subject"] != "pump-7" || all[0]["client_id"] != "dev\n1" {
			t.Errorf("%s: %v", tt.cause, all)
		}
		if detail := tt.end.Err != nil && tt.end.Err != tt.end.Cause().Info().Err; (all[0]["error"] != nil) != detail {
			t.Errorf("%s: error %v", tt.cause, all[0]["error"])
		}
		wantMetric(t, r, "mqtt_auth_proxy_sessions_opened_total", map[string]string{"listener": "mqtts", "version": "5.0"}, 1)
		wantMetric(t, r, "mqtt_auth_proxy_sessions_closed_total", map[string]string{"listener": "mqtts", "by": tt.end.By, "cause": tt.cause}, 1)
	}
}

func TestRenewalsAreCounted(t *testing.T) {
	trace, out, r := newTestObserver(t, zapcore.DebugLevel)
	trace.Renewed(testClient())
	wantMetric(t, r, "mqtt_auth_proxy_tokens_renewed_total", map[string]string{"listener": "mqtts"}, 1)
	if all := lines(t, out); len(all) != 1 || all[0]["message"] != "token renewed" || all[0]["subject"] != "pump-7" {
		t.Errorf("%v", all)
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	trace, out, _ := newTestObserver(t, zapcore.DebugLevel)
	trace.Accepted("mqtt")
	trace.Opened(testClient())
	trace.Closed(testClient(), proxy.End{By: "client"})
	trace.Panicked("a value with the-secret in it", []byte("stack"))
	trace.Panicked(errors.New("an error with the-secret in it"), []byte("stack"))
	if strings.Contains(out.String(), "the-secret") || !strings.Contains(out.String(), "session open") {
		t.Errorf("log:\n%s", out)
	}
}

func TestLoggerTakesNoOtherFormats(t *testing.T) {
	if _, err := NewLog(new(bytes.Buffer), zapcore.InfoLevel, "xml"); err == nil {
		t.Error("an unknown format is accepted")
	}
	var out bytes.Buffer
	log, err := NewLog(&out, zapcore.WarnLevel, "console")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("unseen")
	log.Warn("seen")
	if text := out.String(); strings.Contains(text, "unseen") || !strings.Contains(text, "WARN  seen") {
		t.Errorf("log: %q", text)
	}
}

// TestDeniedTopics: each is counted by its kind, and logged with the topic and the session,
// but not as often as the device likes.
func TestDeniedTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		trace, out, r := newTestObserver(t, zapcore.InfoLevel)
		trace.Denied(testClient(), proxy.Denied{Type: packets.PUBLISH, Topic: []byte("a/" + strings.Repeat("x", 200)), QoS: 1, Retain: true})
		trace.Denied(testClient(), proxy.Denied{Type: packets.SUBSCRIBE, Topic: []byte("b/#"), QoS: 2})
		all := lines(t, out)
		if len(all) != 2 || all[0]["message"] != "publish denied" || all[0]["topic"] != "a/"+strings.Repeat("x", 126)+"... (202 bytes)" ||
			all[0]["subject"] != "pump-7" || all[0]["qos"] != 1.0 || all[0]["retain"] != true {
			t.Errorf("%v", all)
		}
		if all[1]["message"] != "subscription denied" || all[1]["topic"] != "b/#" || all[1]["qos"] != 2.0 || all[1]["retain"] != nil {
			t.Errorf("%v", all[1])
		}
		for range 1000 {
			trace.Denied(testClient(), proxy.Denied{Type: packets.PUBLISH, Topic: []byte("a")})
		}
		trace.Closed(testClient(), proxy.End{By: "client", Denied: 1002})
		all = lines(t, out)
		if n := len(all); n != 2+99+1 || all[n-1]["denied"] != 1002.0 {
			t.Errorf("%d lines, the last is %v", n, all[n-1])
		}
		wantMetric(t, r, namespace+"topics_denied_total", map[string]string{"listener": "mqtts", "kind": "publish"}, 1001)
		wantMetric(t, r, namespace+"topics_denied_total", map[string]string{"listener": "mqtts", "kind": "subscribe"}, 1)
		wantMetric(t, r, namespace+"log_suppressed_total", map[string]string{"message": "publish denied", "reason": ""}, 901)
	})
}
