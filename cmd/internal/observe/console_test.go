package observe

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

// consoleLine returns what is logged on a console, without the time.
func consoleLine(t *testing.T, write func(*Log)) string {
	t.Helper()
	var out bytes.Buffer
	l, err := NewLog(&out, zap.DebugLevel, "console")
	if err != nil {
		t.Fatal(err)
	}
	write(l)
	at, rest, _ := strings.Cut(out.String(), " ")
	if _, err := time.Parse("15:04:05.000", at); err != nil {
		t.Errorf("%q does not begin with the time", out.String())
	}
	return rest
}

// TestConsoleLineBeginsWithWhatAndWhy: wherever the reason was among the fields. The others keep
// their order.
func TestConsoleLineBeginsWithWhatAndWhy(t *testing.T) {
	for want, write := range map[string]func(*Log){
		"INFO  session end: kicked: by an operator  session=7 subject=pump-7 duration=1.5s\n": func(l *Log) {
			l.Info("session end", zap.Int("session", 7), zap.String("subject", "pump-7"), zap.Error(errors.New("by an operator")),
				zap.String("cause", "kicked"), zap.Duration("duration", 1500*time.Millisecond))
		},
		"WARN  refused: unknown_token: no source knows the token  addr=10.0.0.7:4711 listener=mqtt client_id=d1 token=abc duration=0s\n": func(l *Log) {
			New(l, "").Trace().Refused(proxy.Refusal{Reason: "unknown_token", Listener: "mqtt", ClientID: "d1", Fingerprint: "abc",
				Addr: netip.MustParseAddrPort("10.0.0.7:4711"), Err: errors.New("no source knows the token")})
		},
		"INFO  refused: expired: since 2026  device=d\n": func(l *Log) {
			l.Info("refused", zap.String("reason", "expired"), zap.String("device", "d"), zap.NamedError("detail", errors.New("denied: expired: since 2026")))
		},
		"ERROR no reason  device=d path=/x\n": func(l *Log) { l.With(zap.String("device", "d")).Error("no reason", zap.String("path", "/x")) },
		"DEBUG alone\n":                       func(l *Log) { l.Debug("alone") },
		"INFO  lists  all=\"[a b]\" group=map[x:1]\n": func(l *Log) {
			l.Info("lists", zap.Strings("all", []string{"a", "b"}), zap.Dict("group", zap.Int("x", 1)))
		},
	} {
		got := consoleLine(t, write)
		if level := strings.Fields(want)[0]; level == "WARN" { // whose level the table of the proxy decides
			_, got, _ = strings.Cut(got, " ")
			_, want, _ = strings.Cut(want, " ")
			got, want = strings.TrimLeft(got, " "), strings.TrimLeft(want, " ")
		}
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestConsoleLineIsOneLine: nothing that a device sends ends the line, drives the terminal or looks
// like another field.
func TestConsoleLineIsOneLine(t *testing.T) {
	hostile := "d\n12:00:00.000 INFO  faked\x1b[2J\u202e\u009b subject=root \"x"
	got := consoleLine(t, func(l *Log) {
		l.Info("refused", zap.String("client_id", hostile), zap.String("empty", ""), zap.Error(errors.New(hostile)), zap.Any("list", []string{hostile}))
	})
	if strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\x1b\u202e\u009b") || strings.Contains(got, " client_id=d\n") || !strings.Contains(got, `empty=""`) {
		t.Errorf("%q", got)
	}
}

// TestDistrustNamesTheFile: a device that does not trust the certificate needs a file, which the
// line names.
func TestDistrustNamesTheFile(t *testing.T) {
	for alert, named := range map[tls.AlertError]bool{42: true, 46: true, 48: true, 45: false, 40: false} {
		got := consoleLine(t, func(l *Log) {
			New(l, "").Trace().Refused(proxy.Refusal{Reason: proxy.TLSFailed, Err: fmt.Errorf("the client has ended the handshake: %w; does it have the CA?", alert)})
		})
		if strings.Contains(got, "CA? With tls.auto that is tls/ca-root.pem") != named {
			t.Errorf("alert %d: %q", alert, got)
		}
	}
}
