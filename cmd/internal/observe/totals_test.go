package observe

import (
	"io"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/authz"
	"github.com/mqtt-auth-proxy/mqtt-auth-proxy/proxy"
)

func TestTotalsAddUpTheListeners(t *testing.T) {
	o := New(newTestLog(t, io.Discard, zapcore.ErrorLevel), "test")
	hooks := o.Trace()
	for _, listener := range []string{"plain", "tls"} {
		for range 3 {
			hooks.Refused(proxy.Refusal{Reason: proxy.Busy, Listener: listener})
		}
		hooks.Opened(&proxy.Client{Listener: listener, Level: 5, Since: time.Now().Add(-time.Hour), Grant: &authz.Grant{}})
		o.metrics.of(listener).connect.Observe(0.001) // 2^-9.97 seconds, so that the index is -39
	}
	got := o.Totals()
	if got.Opened != 2 || got.Refused[proxy.Busy] != 6 || got.Refused[proxy.NotMQTT] != 0 {
		t.Errorf("%v opened, %v refused", got.Opened, got.Refused)
	}
	if got.Connect[-39] != 2 {
		t.Errorf("times in buckets %v, want 2 in -39", got.Connect)
	}
	n := uint64(0)
	for _, count := range got.Connect {
		n += count
	}
	if n != 4 {
		t.Errorf("%d times, want 4", n)
	}
}
